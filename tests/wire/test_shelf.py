"""Large buffers through shared memory: one copy in, none out, nothing left."""

import gc
import resource

import numpy as np
import pytest

from runtime.wire import shelf as shelves
from runtime.wire.codec import pack_still, unpack
from runtime.wire.shelf import OUT_OF_BAND, SHELVED, Shelf, discard, sweep


@pytest.fixture
def shelf(tmp_path):
    return Shelf(tmp_path, "c1-aa")


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
    pack_still(np.zeros(SHELVED, dtype=np.uint8), shelf)
    (file,) = tmp_path.iterdir()
    assert file.stat().st_mode & 0o777 == 0o600


def test_the_file_is_gone_once_it_is_mapped_and_the_array_stays(shelf, tmp_path):
    data, frames = pack_still(np.full(SHELVED, 7, dtype=np.uint8), shelf)
    arrived = unpack(data, frames)
    assert not list(tmp_path.iterdir())
    gc.collect()
    assert arrived.sum() == 7 * SHELVED


def test_what_nobody_will_read_can_be_discarded(shelf, tmp_path):
    _, frames = pack_still([np.zeros(SHELVED), np.zeros(OUT_OF_BAND // 8)], shelf)
    assert len(frames) == 2
    discard(frames)
    discard(frames)
    assert not list(tmp_path.iterdir())


def test_a_sweep_takes_the_files_of_one_process_only(tmp_path):
    for owner in ("c1-aa", "c1-ab", "h0-cc"):
        pack_still(np.zeros(SHELVED), Shelf(tmp_path, owner))
    sweep(tmp_path, "c1-aa")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["c1-ab.0", "h0-cc.0"]


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


def test_without_a_directory_nothing_is_written(tmp_path):
    data, frames = pack_still(np.ones(SHELVED), Shelf(None, ""))
    assert len(frames[0]) == 8 * SHELVED
    assert unpack(data, frames).sum() == SHELVED
    assert not list(tmp_path.iterdir())


def test_the_bounds_keep_a_path_apart_from_a_buffer():
    assert shelves.OUT_OF_BAND > 4096 >= len("/dev/shm/") + 255  # a path is never so long
