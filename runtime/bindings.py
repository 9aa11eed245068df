"""What a script finds in `env`: its variables, KV namespaces and object namespaces.

`Bindings` is what one process shares: the configuration, the keys of the namespaces, the open KV
stores. An `Env` is one owner's view of it: its bindings call and write in that owner's name, so
that they wait behind its output gate. Bindings are made when they are first asked for.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from weakref import WeakSet

from runtime.batch.place import Place
from runtime.directories import run_directory, shelf_directory
from runtime.ids import NamespaceKey
from runtime.kv import KVNamespace, Store, SyncKVNamespace, open_store
from runtime.stubs import DurableObjectNamespace
from workers.environment import missing_binding

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from runtime.config import Config
    from runtime.roster import Roster
    from runtime.stubs import Calls
    from runtime.wire.messages import Target


class Bindings:
    """The bindings of a worker, as one process shares them."""

    def __init__(self, config: Config, data: Path) -> None:
        self.config = config
        self.data = data
        self.roster: Roster | None = None
        """The hosts, where they are of interest: in a client."""
        self._maps: WeakSet[Any] = WeakSet()
        self._kv_ids = {kv.binding: kv.id for kv in config.kv}
        self._classes = {binding.name: binding.class_name for binding in config.objects}
        self._keys = {
            class_name: NamespaceKey(config.id_key(class_name))
            for class_name in self._classes.values()
        }
        self._stores: dict[str, Store] = {}

    @property
    def names(self) -> list[str]:
        """All names that `env` has."""
        return [*self.config.vars, *self._kv_ids, *self._classes]

    def key_of(self, class_name: str) -> NamespaceKey | None:
        """Return what makes and knows the ids of a class, or None for a class that is not bound."""
        return self._keys.get(class_name)

    def namespace(
        self, name: str, calls: Calls, *, blocking: bool
    ) -> DurableObjectNamespace | None:
        """Return the namespace of objects bound to a name, calling in somebody's name."""
        class_name = self._classes.get(name)
        if class_name is None:
            return None
        place = self.place(blocking=blocking)
        return DurableObjectNamespace(calls, class_name, self._keys[class_name], place)

    def place(self, *, blocking: bool) -> Place:
        """Return what a map needs to know of this process."""
        return Place(self.data, self.roster, blocking, self._maps)

    def close_maps(self) -> None:
        """Stop the maps that are under way, and save their checkpoints."""
        for results in list(self._maps):
            results.cut_off()

    def store(self, namespace_id: str) -> Store:
        """Return the open store of a KV namespace; it is opened at its first use."""
        store = self._stores.get(namespace_id)
        if store is None:
            directory = kv_directory(self.data, namespace_id)
            directory.parent.mkdir(mode=0o700, exist_ok=True)
            size = self.config.limits.kv_cache_bytes
            cache = self._shelf if size else None
            store = open_store(
                directory, cache=cache, cache_bytes=size, first_to_say=self._first_to_say
            )
            self._stores[namespace_id] = store
        return store

    def _shelf(self) -> Path | None:
        """Where in shared memory the instance of now has its files; None when none runs."""
        try:
            return shelf_directory(run_directory(self.data))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _first_to_say(self) -> bool:
        """Whether no process of the instance of now has said yet that KV has to do without cache."""
        try:
            mark = run_directory(self.data) / "kv-without-cache"
            os.close(os.open(mark, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        except FileExistsError:
            return False
        except (OSError, ValueError, KeyError, TypeError):  # none runs
            return True
        return True

    def kv(self, name: str, say: Callable[[Any], None] | None) -> KVNamespace | None:
        """Return the KV namespace bound to a name; its writes are said with `say`."""
        namespace_id = self._kv_ids.get(name)
        if namespace_id is None:
            return None
        return KVNamespace(self.store(namespace_id), say=say, min_ttl=self.config.limits.min_kv_ttl)

    def sync_kv(self, name: str) -> SyncKVNamespace | None:
        """Return the KV namespace bound to a name, for code that blocks."""
        namespace_id = self._kv_ids.get(name)
        if namespace_id is None:
            return None
        return SyncKVNamespace(self.store(namespace_id), min_ttl=self.config.limits.min_kv_ttl)

    def end_watches(self) -> None:
        """End what watches KV, so that nothing waits for changes any more."""
        for store in self._stores.values():
            store.end_watches()

    def close(self) -> None:
        """Finish the writes under way and close the stores."""
        for store in self._stores.values():
            store.close()
        self._stores.clear()


def kv_directory(data: Path, namespace_id: str) -> Path:
    """Return where a KV namespace is kept in a data directory, whether it exists or not."""
    return data / "kv" / quote(namespace_id, safe="")


class Env:
    """The bindings in one owner's name; an attribute each."""

    def __init__(
        self,
        bindings: Bindings,
        calls: Calls,
        say: Callable[[Any], None] | None = None,
        *,
        blocking: bool = False,
    ) -> None:
        self._bindings = bindings
        self._calls = calls
        self._say = say
        self._blocking = blocking

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        bindings = self._bindings
        found: Any = bindings.namespace(name, self._calls, blocking=self._blocking)
        if found is None:
            found = bindings.sync_kv(name) if self._blocking else bindings.kv(name, self._say)
        if found is None:
            try:
                found = bindings.config.vars[name]
            except KeyError:
                raise missing_binding(name, bindings.names) from None
        self.__dict__[name] = found
        return found

    def _calls_to(self, target: Target) -> Calls | None:
        """Return what calls an object in this owner's name; None for one of another worker."""
        key = self._bindings.key_of(target[0])
        return self._calls if key is not None and key.owns(target[1]) else None

    def __getitem__(self, name: str) -> Any:
        try:
            return getattr(self, name)
        except AttributeError as missing:
            raise KeyError(str(missing)) from None

    def __contains__(self, name: object) -> bool:
        return name in self._bindings.names

    def __dir__(self) -> list[str]:
        return self._bindings.names
