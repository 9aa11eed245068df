"""A wrangler file with one of its environments chosen: who speaks for each key.

By Cloudflare's rules an environment takes some keys from the top level when it does not set them,
must repeat others (above all bindings and vars), and cannot set the rest. What the user should
hear about that, or about keys that have no effect on one machine, becomes a warning.
"""

import re
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final

from runtime.config import keys
from runtime.config.table import Table

__all__ = ["NAME", "NAMED", "Sections", "choose", "warnings_of", "worker_name"]

NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,62}")
"""The form of a worker's name."""

NAMED: Final = "1 to 63 letters, digits, dashes and underscores"
"""The same in words."""


@dataclass(frozen=True, slots=True)
class Sections:
    """A file with one of its environments chosen, or none."""

    top: Table
    chosen: Table | None

    def holding(self, name: str) -> Table:
        """The table that speaks for a key, by Cloudflare's rules of inheritance."""
        if self.chosen is None or name not in keys.KNOWN_IN_ENV:
            return self.top
        if name in self.chosen or name in keys.NOT_INHERITED:
            return self.chosen
        return self.top


def choose(top: Table, env: str | None) -> Sections:
    """Choose an environment by name, or none.

    Raises ConfigError for one that the file has not, and for keys that no wrangler file has.
    """
    top.allow(keys.KNOWN, dict.fromkeys(keys.ROOST, "in [roost]"))
    return Sections(top, _environment(top, env))


def _environment(top: Table, env: str | None) -> Table | None:
    """The table of the environment that was asked for; None when none was."""
    environments = top.table("env")
    tables = {name: environments.table(name) for name in environments.data}
    if env is None:
        return None
    if env not in tables:
        known = f"this file has {', '.join(tables)}" if tables else "this file has none"
        raise top.error("env", f"there is no environment {env!r}; {known}")
    if not NAME.fullmatch(env):
        raise environments.error(env, f"expected a name of {NAMED}")
    elsewhere = dict.fromkeys(keys.KNOWN - keys.KNOWN_IN_ENV, "at the top level")
    tables[env].allow(
        keys.KNOWN_IN_ENV, elsewhere | dict.fromkeys(keys.ROOST, f"in [env.{env}.roost]")
    )
    return tables[env]


def worker_name(sections: Sections, env: str | None) -> str:
    """The name, which an environment has of its own or makes from the top level's."""
    holder = sections.holding("name")
    name = holder.text("name", NAMED, NAME.fullmatch)
    if env is None or holder is sections.chosen:
        return name
    if not NAME.fullmatch(f"{name}-{env}"):
        raise holder.error("name", f"with the environment, expected {NAMED}, found '{name}-{env}'")
    return f"{name}-{env}"


def warnings_of(sections: Sections, undeclared: AbstractSet[str]) -> tuple[str, ...]:
    """What to tell the user of a file; `undeclared` are classes that no migration creates."""
    file, chosen = sections.top.file, sections.chosen
    warnings = []
    if passed_over := list(_passed_over(sections)):
        warnings.append(f"{file}: without effect here: {', '.join(passed_over)}")
    if chosen is not None:
        lost = [key for key in sections.top.data if key in keys.NOT_INHERITED and key not in chosen]
        if lost:
            warnings.append(
                f"{file}: {', '.join(lost)}: at the top level, but not in {chosen.at}, "
                "and environments do not inherit them"
            )
    if undeclared:
        names = sorted(undeclared)
        warnings.append(
            f"{file}: no migrations: {', '.join(names)} taken as new_sqlite_classes. To settle it, "
            f'add [[migrations]] with tag = "v1" and new_sqlite_classes = {names}'
        )
    return tuple(warnings)


def _passed_over(sections: Sections) -> Iterable[str]:
    """The dotted keys that mean something to Cloudflare and nothing here."""
    for name in sorted(keys.PASSED_OVER):
        holder = sections.holding(name)
        if name in holder:
            yield holder.key(name)
    for name in sections.top.table("dev").data:
        if name not in {"ip", "port"}:
            yield f"dev.{name}"
    limits = sections.holding("limits").table("limits")
    if "subrequests" in limits:
        yield limits.key("subrequests")
    for table in sections.holding("kv_namespaces").tables("kv_namespaces"):
        if "remote" in table:
            yield table.key("remote")
