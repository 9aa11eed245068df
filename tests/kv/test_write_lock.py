"""The write lock, also where one thread keeps its file open: it is had by one at a time."""

import os
import threading

import pytest

from runtime.kv.write_lock import KeptLock, write_lock


@pytest.fixture
def path(tmp_path):
    return tmp_path / "lock"


@pytest.fixture
def kept(path):
    lock = KeptLock(path)
    yield lock
    lock.close()


def is_free(path):
    try:
        with write_lock(path, wait=False):
            return True
    except BlockingIOError:
        return False


def test_a_kept_lock_keeps_others_out_until_it_is_freed(path, kept):
    for _ in range(2):
        kept.take()
        assert not is_free(path)
        kept.free()
        assert is_free(path)


def test_a_kept_lock_waits_for_who_has_it(path, kept):
    taken = threading.Event()

    def take():
        kept.take()
        taken.set()

    with write_lock(path):
        thread = threading.Thread(target=take)
        thread.start()
        assert not taken.is_set()
    thread.join()
    assert taken.is_set()
    assert not is_free(path)


def test_two_kept_locks_of_one_file_are_two(path, kept):
    other = KeptLock(path)
    other.take()
    with pytest.raises(BlockingIOError), write_lock(path, wait=False):
        pass
    waiting = threading.Thread(target=kept.take)
    waiting.start()
    other.free()
    waiting.join()
    assert not is_free(path)
    other.close()


def test_a_child_does_not_keep_the_lock(path, kept):
    kept.take()
    said, say = os.pipe()
    over, end = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(say, b"1")
        os.read(over, 1)
        os._exit(0)
    os.read(said, 1)
    kept.close()  # as the death of the holder would
    assert is_free(path)
    os.write(end, b"1")
    os.waitpid(child, 0)
    for descriptor in (said, say, over, end):
        os.close(descriptor)
