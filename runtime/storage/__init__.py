"""Objects' storage: their files, what each object has written, and the group commit of a host."""

from runtime.storage.alarm import Alarm, AlarmInfo, retry
from runtime.storage.group import CommitGroup, Round
from runtime.storage.journal import Journal
from runtime.storage.object_files import ObjectFiles
from runtime.storage.object_storage import ObjectStorage
from runtime.storage.slot_file import DueAlarm, ObjectRecord, SlotFile
from runtime.storage.write_set import RECORDS, Change

__all__ = [
    "RECORDS",
    "Alarm",
    "AlarmInfo",
    "Change",
    "CommitGroup",
    "DueAlarm",
    "Journal",
    "ObjectFiles",
    "ObjectRecord",
    "ObjectStorage",
    "Round",
    "SlotFile",
    "retry",
]
