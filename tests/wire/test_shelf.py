"""Large buffers through shared memory: one copy in, none out, nothing left."""

import gc
import os
import resource
from pathlib import Path

import numpy as np
import pytest

from runtime.wire import shelf as shelves
from runtime.wire.codec import pack_still, unpack
from runtime.wire.shelf import OUT_OF_BAND, SHELVED, Shelf, discard, sweep


@pytest.fixture
def shelf(tmp_path):
    shelf = Shelf(tmp_path, "c1-aa")
    yield shelf
    shelf.clear()
    assert not list(tmp_path.iterdir())


def paths(directory):
    """The files of messages that nobody has taken yet."""
    return [file for file in directory.iterdir() if ".kept-" not in file.name]


def kept(directory):
    return [file for file in directory.iterdir() if ".kept-" in file.name]


@pytest.mark.parametrize("size", [OUT_OF_BAND, SHELVED - 8, SHELVED, SHELVED + 8])
def test_an_array_arrives_as_it_was_and_read_only(shelf, size):
    array = np.arange(size // 8, dtype=np.float64)
    data, frames = pack_still(array, shelf)
    array[0] = -1.0  # the caller may go on with its own
    arrived = unpack(data, frames)
    assert arrived[0] == 0.0
    assert np.array_equal(arrived[1:], array[1:])
    assert not arrived.flags.writeable


def test_only_buffers_of_a_mebibyte_go_on_the_shelf(shelf, tmp_path):
    pack_still(np.zeros(SHELVED - 1, dtype=np.uint8), shelf)
    assert not list(tmp_path.iterdir())
    _, frames = pack_still(np.zeros(SHELVED, dtype=np.uint8), shelf)
    (file,) = paths(tmp_path)
    assert file.stat().st_mode & 0o777 == 0o600
    discard(frames)


def test_the_path_is_gone_once_it_is_mapped_and_the_array_stays(shelf, tmp_path):
    data, frames = pack_still(np.full(SHELVED, 7, dtype=np.uint8), shelf)
    arrived = unpack(data, frames)
    assert not paths(tmp_path)
    shelf.clear()
    assert not list(tmp_path.iterdir())
    gc.collect()
    assert arrived.sum() == 7 * SHELVED


def test_what_nobody_will_read_can_be_discarded(shelf, tmp_path):
    _, frames = pack_still([np.zeros(SHELVED), np.zeros(OUT_OF_BAND // 8)], shelf)
    assert len(frames) == 2
    discard(frames)
    discard(frames)
    assert not paths(tmp_path)


def test_a_sweep_takes_the_files_of_one_process_only(tmp_path):
    for owner in ("c1-aa", "c1-ab", "h0-cc"):
        pack_still(np.zeros(SHELVED), Shelf(tmp_path, owner))
    sweep(tmp_path, "c1-aa")
    assert {file.name.split(".")[0] for file in tmp_path.iterdir()} == {"c1-ab", "h0-cc"}


def test_what_a_process_that_is_gone_has_not_taken_is_removed(shelf, tmp_path):
    for receiver in ("c2-bb", "c3-cc"):
        pack_still(np.zeros(SHELVED), shelf.to(receiver))
    pack_still(np.zeros(SHELVED), Shelf(tmp_path, "h0-aa").to("c2-bb"))
    shelf.forget("c2-bb")
    left = sorted(file.name for file in paths(tmp_path))
    assert [name.partition(".")[0] for name in left] == ["c1-aa", "h0-aa"]
    assert left[0].endswith("c3-cc")
    shelf.forget("c3-cc")
    sweep(tmp_path, "h0-aa")


def test_without_room_buffers_take_the_socket_and_one_warning_says_so(tmp_path, caplog):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (SHELVED // 2, hard))
    try:
        shelf = Shelf(tmp_path, "c1-aa")
        arrived = [unpack(*pack_still(np.full(SHELVED, n), shelf)) for n in (1, 2)]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [int(array[0]) for array in arrived] == [1, 2]
    assert not list(tmp_path.iterdir())
    assert caplog.text.count("shared memory cannot be used") == 1


def test_many_arrays_are_kept_with_few_descriptors(shelf, tmp_path, monkeypatch):
    packed = [pack_still(np.full(SHELVED, n, dtype=np.uint8), shelf) for n in range(60)]
    shelf.clear()
    free = os.dup(0)
    os.close(free)
    monkeypatch.setattr(shelves.resource, "getrlimit", lambda _: (2 * (free + 20), -1))
    before = len([*Path("/proc/self/fd").iterdir()])
    arrived = [unpack(*each) for each in packed]
    assert len([*Path("/proc/self/fd").iterdir()]) <= before + 21
    assert [int(array[-1]) for array in arrived] == list(range(60))
    assert not any(array.flags.writeable for array in arrived)
    assert not paths(tmp_path)


def test_a_file_is_used_again_when_nobody_maps_it_and_never_before(shelf, tmp_path):
    first = unpack(*pack_still(np.full(SHELVED, 1, dtype=np.uint8), shelf))
    second = unpack(*pack_still(np.full(SHELVED, 2, dtype=np.uint8), shelf))
    assert len(kept(tmp_path)) == 2
    part = first[:10]
    del first, second
    gc.collect()
    third = unpack(*pack_still(np.full(SHELVED, 3, dtype=np.uint8), shelf))
    assert len(kept(tmp_path)) == 2
    assert (int(part[0]), int(third[0])) == (1, 3)
    del part
    gc.collect()
    unpack(*pack_still(np.full(SHELVED, 4, dtype=np.uint8), shelf))
    assert len(kept(tmp_path)) == 2
    assert int(third[0]) == 3


def test_a_file_whose_message_is_under_way_is_not_used_again(shelf, tmp_path):
    data, frames = pack_still(np.full(SHELVED, 1, dtype=np.uint8), shelf)
    pack_still(np.full(SHELVED, 2, dtype=np.uint8), shelf)
    assert len(kept(tmp_path)) == 2
    assert int(unpack(data, frames)[0]) == 1
    for file in paths(tmp_path):
        discard([str(file).encode()])


def test_a_discarded_message_frees_its_file(shelf, tmp_path):
    for _ in range(3):
        _, frames = pack_still(np.zeros(SHELVED, dtype=np.uint8), shelf)
        discard(frames)
    assert len(kept(tmp_path)) == 1


def test_files_are_kept_within_a_bound_and_for_a_while_only(shelf, tmp_path, monkeypatch):
    monkeypatch.setattr(shelves, "KEPT_BYTES", 2 * SHELVED)
    arrays = [unpack(*pack_still(np.full(SHELVED, n, dtype=np.uint8), shelf)) for n in range(4)]
    assert len(kept(tmp_path)) == 2
    assert [int(array[0]) for array in arrays] == [0, 1, 2, 3]
    shelf.trim()
    assert len(kept(tmp_path)) == 2
    monkeypatch.setattr(shelves, "KEPT_SECONDS", -1.0)
    shelf.trim()
    assert not kept(tmp_path)
    assert [int(array[-1]) for array in arrays] == [0, 1, 2, 3]


def test_without_a_directory_nothing_is_written(tmp_path):
    data, frames = pack_still(np.ones(SHELVED), Shelf(None, ""))
    assert len(frames[0]) == 8 * SHELVED
    assert unpack(data, frames).sum() == SHELVED
    assert not list(tmp_path.iterdir())


def test_the_bounds_keep_a_path_apart_from_a_buffer():
    assert shelves.OUT_OF_BAND > 4096 >= len("/dev/shm/") + 255  # a path is never so long
