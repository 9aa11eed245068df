"""Workers KV on one machine: namespaces that many processes read and write at once.

`open_store` opens the directory of a namespace; `KVNamespace` and `SyncKVNamespace` are its API for
worker scripts and for programs that block. Nothing in KV is ever pickled.
"""

from runtime.kv.check import Checked, Problem, check
from runtime.kv.commit import Write
from runtime.kv.namespace import KVNamespace, SyncKVNamespace
from runtime.kv.record import Record
from runtime.kv.store import Store, open_store
from runtime.kv.tiers import Entry, Listed, ReadTier, Staged
from runtime.kv.watch import Change, SyncWatch, Watch

__all__ = [
    "Change",
    "Checked",
    "Entry",
    "KVNamespace",
    "Listed",
    "Problem",
    "ReadTier",
    "Record",
    "Staged",
    "Store",
    "SyncKVNamespace",
    "SyncWatch",
    "Watch",
    "Write",
    "check",
    "open_store",
]
