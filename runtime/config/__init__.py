"""What a worker is made of: wrangler.toml, wrangler.jsonc or keyword arguments as one Config.

A Config is checked whole when it is made and never changes: its names are unique, its classes are
declared, its numbers are in range. Whatever is wrong is a ConfigError with the file and the key.
The format and its meaning are wrangler's; `[roost]` holds what only Roost has.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Final, Unpack

from runtime.config import keys
from runtime.config.bindings import (
    NAMESPACE_ID,
    KVBinding,
    ObjectBinding,
    is_namespace_id,
    keyword_kv,
    keyword_objects,
    merge_secrets,
    read_kv,
    read_objects,
    read_vars,
    refuse_missing_bindings,
)
from runtime.config.classes import Migration, read_classes
from runtime.config.sections import NAME, NAMED, choose, warnings_of, worker_name
from runtime.config.settings import (
    Durability,
    Limits,
    Settings,
    read_durability,
    read_hosts,
    read_ip,
    read_limits,
    read_port,
    read_preload,
    read_slots,
)
from runtime.config.sockets import SocketLimits, read_socket_limits
from runtime.config.table import KEYWORDS, Table
from runtime.config.text import read_table
from workers.errors import ConfigError

__all__ = [
    "NAMESPACE_ID",
    "Config",
    "Durability",
    "KVBinding",
    "Limits",
    "Migration",
    "ObjectBinding",
    "Settings",
    "find",
    "from_keywords",
    "is_namespace_id",
    "load",
]

_FILES: Final = ("wrangler.json", "wrangler.jsonc", "wrangler.toml")


@dataclass(frozen=True, slots=True)
class Config:
    """Everything a runtime needs to know of a worker. Picklable."""

    name: str
    """The worker's name, which ids of objects depend on; `{name}-{env}` in an environment."""
    main: Path | None
    """The worker script; None when none was named."""
    root: Path
    """Absolute path of the folder the configuration stands in."""
    vars: Mapping[str, object]
    """Variables and secrets in `env`: what JSON can say."""
    kv: tuple[KVBinding, ...]
    objects: tuple[ObjectBinding, ...]
    sqlite_classes: frozenset[str]
    """Living classes with a SQLite database per object."""
    kv_classes: frozenset[str]
    """Living classes with the key-value backend."""
    migrations: tuple[Migration, ...] = ()
    origins: Mapping[str, str] = field(default_factory=dict)
    """The origin of each class that migrations have created; see `id_key`."""
    ip: str = "127.0.0.1"
    port: int = 8787
    """0 lets the system choose."""
    hosts: int | None = None
    """Number of host processes; None leaves it to the runtime."""
    balance: bool = True
    """Whether slots move by themselves from a host that stays busier than another."""
    gateways: int = 1
    """Number of processes that speak HTTP and WebSocket, on one port."""
    durability: Durability = "strict"
    """`relaxed` skips the disk sync: writes survive a killed process, not a power cut."""
    slots: int | None = None
    """Number of slots of a new data directory, a power of two; None leaves it to the runtime."""
    preload: tuple[str, ...] = ()
    """Modules imported before hosts are forked."""
    limits: Limits = field(default_factory=Limits)
    websockets: SocketLimits = field(default_factory=SocketLimits)
    compatibility_date: str | None = None
    """`YYYY-MM-DD`; None stands for today."""
    compatibility_flags: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    """What the user should be told once, at start."""

    def origin(self, class_name: str) -> str:
        """The name that a class was created under: its own, unless a migration renamed it."""
        return self.origins.get(class_name, class_name)

    def id_key(self, class_name: str) -> str:
        """What the ids of a class are made from. It stays the same when the class is renamed."""
        return f"{self.name}-{self.origin(class_name)}"


def find(directory: Path) -> Path:
    """The configuration file in a folder; where there are several, the one wrangler would take.

    Raises ConfigError when there is none.
    """
    for name in _FILES:
        if (directory / name).is_file():
            return directory / name
    raise ConfigError(
        f"no wrangler.toml, wrangler.jsonc or wrangler.json in {directory.absolute()}: "
        "go to your project's folder, name the file (--config FILE), or start one with `roost init`",
        file=str(directory),
    )


def load(path: Path, env: str | None = None) -> Config:
    """Read a configuration file, one of its environments, and the secrets beside it.

    Nothing is checked that needs the worker script. Raises ConfigError for everything that is wrong with them.
    """
    sections = choose(Table(str(path), "", read_table(path)), env)
    root = path.parent.resolve()
    refuse_missing_bindings(sections)

    name = worker_name(sections, env)
    classes = read_classes(sections.holding("migrations"))
    taken: dict[str, str] = {}
    objects = read_objects(sections, name, classes, taken)
    kv = read_kv(sections, taken)
    values = read_vars(sections.holding("vars").table("vars"), taken)
    merge_secrets(values, root, env, taken)

    roost = sections.holding("roost").table("roost")
    roost.allow(keys.ROOST, {"cpu_ms": "in [limits]", "ip": "in [dev]", "port": "in [dev]"})
    limits = sections.holding("limits").table("limits")
    limits.allow({"cpu_ms", "subrequests"}, dict.fromkeys(keys.ROOST, "in [roost]"))
    dev = sections.top.table("dev")
    dev.allow(keys.KNOWN_DEV)
    compatibility_flags = sections.holding("compatibility_flags")
    undeclared = {binding.class_name for binding in objects} - classes.sqlite - classes.kv
    return Config(
        name=name,
        main=_main(sections.holding("main"), root),
        root=root,
        vars=values,
        kv=kv,
        objects=objects,
        sqlite_classes=classes.sqlite | undeclared,
        kv_classes=classes.kv,
        migrations=classes.migrations,
        origins=classes.origins,
        ip=read_ip(dev),
        port=read_port(dev),
        hosts=read_hosts(roost),
        balance=roost.flag("balance", default=True),
        gateways=roost.integer("gateways", 1, 1),
        durability=read_durability(roost),
        slots=read_slots(roost),
        preload=read_preload(roost),
        limits=read_limits(roost, limits),
        websockets=read_socket_limits(roost),
        compatibility_date=_compatibility_date(sections.holding("compatibility_date")),
        compatibility_flags=compatibility_flags.texts("compatibility_flags", "a flag"),
        warnings=warnings_of(sections, undeclared),
    )


def from_keywords(
    *,
    objects: Mapping[str, type] | None = None,
    kv: Sequence[str] | Mapping[str, str] = (),
    vars: Mapping[str, object] | None = None,  # noqa: A002
    name: str = "worker",
    kv_classes: Sequence[str] = (),
    **settings: Unpack[Settings],
) -> Config:
    """The Config of a runtime that is embedded in a program.

    `objects` maps binding names to classes, `kv` binding names to namespace ids (a plain sequence:
    the id is the name). Classes have a SQLite database per object, but those whose names stand in
    `kv_classes` have the key-value backend. Raises ConfigError as `load` does.
    """
    given = {key: value for key, value in settings.items() if value is not None}
    data: dict[str, object] = {
        "name": name,
        "objects": {} if objects is None else objects,
        "kv": kv,
        "vars": {} if vars is None else vars,
        "kv_classes": kv_classes,
    }
    table = Table(KEYWORDS, "", data | given)
    table.allow({*data, "cpu_ms", "ip", "port", *keys.ROOST})
    taken: dict[str, str] = {}
    bindings = keyword_objects(table.table("objects"), taken)
    classes = {binding.class_name for binding in bindings}
    named = table.texts("kv_classes", "the name of a class in objects", classes.__contains__)
    return Config(
        name=table.text("name", NAMED, NAME.fullmatch),
        main=None,
        root=Path.cwd(),
        vars=read_vars(table.table("vars"), taken),
        kv=keyword_kv(table, taken),
        objects=bindings,
        sqlite_classes=frozenset(classes.difference(named)),
        kv_classes=frozenset(named),
        ip=read_ip(table),
        port=read_port(table),
        hosts=read_hosts(table),
        balance=table.flag("balance", default=True),
        gateways=table.integer("gateways", 1, 1),
        durability=read_durability(table),
        slots=read_slots(table),
        preload=read_preload(table),
        limits=read_limits(table, table),
        websockets=read_socket_limits(table),
    )


def _main(holder: Table, root: Path) -> Path | None:
    if "main" not in holder:
        return None
    return root / holder.text("main", "the path of a Python file", _is_script)


def _compatibility_date(holder: Table) -> str | None:
    if "compatibility_date" not in holder:
        return None
    return holder.text("compatibility_date", "a date in quotes, like '2026-01-31'", _is_date)


def _is_script(text: str) -> bool:
    return text.endswith(".py") and text.isprintable()


def _is_date(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False
