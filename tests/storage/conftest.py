"""Slot files in a temporary directory, and storages of objects on them."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from runtime.config import Limits
from runtime.ids import NamespaceKey
from runtime.storage import ObjectFiles, ObjectStorage, SlotFile

NAMESPACE = NamespaceKey("w-Room")


@pytest.fixture
def memory_path():
    """A folder whose disk syncs cost nothing."""
    memory = Path("/dev/shm")
    with TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        yield Path(folder)


@pytest.fixture
def open_file(tmp_path):
    """Open a slot file; all are closed at the end."""
    files = []

    def open_(name="0.sqlite", **options):
        file = SlotFile(tmp_path / name, **options)
        files.append(file)
        return file

    yield open_
    for file in files:
        file.close()


@pytest.fixture
def open_storage():
    """Make the storage of an object; `storage_writes` counts the calls of its on_write."""

    def open_(
        file,
        name="a",
        *,
        value_bytes=1 << 20,
        on_write=lambda: None,
        confirm=lambda: None,
        **more,
    ):
        limits = Limits(value_bytes=value_bytes)
        object_id = NAMESPACE.from_name(name)
        return ObjectStorage(file, object_id, "Room", on_write, confirm, limits, **more)

    return open_


@pytest.fixture
def object_files(tmp_path):
    """The own files of objects of a SQLite class."""
    limits = Limits(value_bytes=1 << 20)
    files = ObjectFiles(tmp_path / "objects", "relaxed", limits)
    yield files
    files.close()


@pytest.fixture
def sqlite(open_file, open_storage, object_files):
    """The storage of an object of a SQLite class."""
    return open_storage(open_file(durability="relaxed"), files=object_files)


@pytest.fixture
def storage(open_file, open_storage):
    return open_storage(open_file(durability="relaxed"))


@pytest.fixture
def commit():
    """Commit what storages have written, each its own file's transaction, without a group."""

    def commit_(*storages):
        for storage in storages:
            while (change := storage.take_changes()) is not None:
                storage.file.commit([change])
                if change.home is not None:
                    change.home.commit()
                storage.committed(change)

    return commit_
