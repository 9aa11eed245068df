"""Blobs are immutable bytes with a type; files have a name besides."""

import pickle

import pytest

from workers import Blob, File


async def test_parts_of_all_kinds_are_joined():
    blob = Blob(
        ["é", b"b", bytearray(b"c"), memoryview(b"d"), Blob("e")], content_type="Text/Plain"
    )
    assert await blob.bytes() == "ébcde".encode()
    assert await blob.text() == "ébcde"
    assert (blob.size, blob.content_type, blob.type) == (6, "text/plain", "text/plain")


async def test_a_single_part_needs_no_list():
    assert await Blob("ab").text() == "ab"
    assert await Blob(b"ab").text() == "ab"


async def test_line_breaks_become_native_only_on_request():
    assert await Blob(["a\r\nb\rc\n"]).text() == "a\r\nb\rc\n"
    assert await Blob(["a\r\nb\rc\n"], endings="native").text() == "a\nb\nc\n"
    assert await Blob([b"a\r\n"], endings="native").text() == "a\r\n"


def test_a_single_blob_hands_on_its_type():
    blob = Blob("x", content_type="a/b")
    assert Blob(blob).content_type == "a/b"
    assert Blob([blob]).content_type == ""


async def test_slices_count_from_both_ends():
    blob = Blob("hello", content_type="a/b")
    assert await blob.slice(1, 3).text() == "el"
    assert await blob.slice(-2).text() == "lo"
    assert await blob.slice(3, 1).text() == ""
    assert blob.slice(0, 1).content_type == ""
    assert blob.slice(0, 1, "c/d").content_type == "c/d"


async def test_a_stream_gives_bounded_pieces():
    pieces = [piece async for piece in Blob(b"x" * 100_000).stream()]
    assert [len(piece) for piece in pieces] == [65536, 34464]


def test_a_file_has_a_name_and_a_time():
    file = File(["x"], "a.txt", content_type="text/plain", last_modified=5)
    assert (file.name, file.last_modified, file.lastModified) == ("a.txt", 5, 5)
    assert File(file, "b.txt").last_modified == 5
    assert File("x", "now").last_modified > 1_600_000_000_000


async def test_blobs_and_files_are_values_that_pickle():
    file = pickle.loads(pickle.dumps(File("x", "a.txt", "t/p", last_modified=1)))
    assert (file.name, file.content_type, file.last_modified) == ("a.txt", "t/p", 1)
    assert await file.text() == "x"


def test_other_parts_are_refused():
    with pytest.raises(TypeError, match="made of str, bytes and Blob, found int"):
        Blob([1])
