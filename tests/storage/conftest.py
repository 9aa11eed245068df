"""Slot files in a temporary directory, and storages of objects on them."""

from types import SimpleNamespace

import pytest

from runtime.ids import NamespaceKey
from runtime.storage import ObjectStorage, SlotFile

NAMESPACE = NamespaceKey("w-Room")


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

    def open_(file, name="a", *, value_bytes=1 << 20, on_write=lambda: None, confirm=lambda: None):
        limits = SimpleNamespace(value_bytes=value_bytes)
        return ObjectStorage(file, NAMESPACE.from_name(name), "Room", on_write, confirm, limits)

    return open_


@pytest.fixture
def storage(open_file, open_storage):
    return open_storage(open_file(durability="relaxed"))


@pytest.fixture
def commit():
    """Commit what storages have written, each its own file's transaction, without a group."""

    def commit_(*storages):
        for storage in storages:
            change = storage.take_changes()
            if change is not None:
                storage.file.commit([change])
                storage.committed(change)

    return commit_
