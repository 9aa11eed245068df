"""Objects' storage: slot files, what each object has written, and the group commit of a host."""

from runtime.storage.group import CommitGroup, Round
from runtime.storage.object_storage import ObjectStorage
from runtime.storage.slot_file import ObjectRecord, SlotFile
from runtime.storage.write_set import RECORDS, Change

__all__ = ["RECORDS", "Change", "CommitGroup", "ObjectRecord", "ObjectStorage", "Round", "SlotFile"]
