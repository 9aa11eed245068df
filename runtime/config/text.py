"""Configuration text into plain data: TOML, JSON with comments, and `.dev.vars`.

Each format is parsed by the standard library after, at most, a rewriting that keeps every
character in its line and column, so that the parser's positions are the file's. Whatever is wrong
with a file, from its permissions to its last byte, is a ConfigError.
"""

import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from workers.errors import ConfigError

__all__ = ["parse_secrets", "plain_json", "read_secrets", "read_table"]

_STRING: Final = r'"(?:[^"\\\n]|\\.)*"'
_COMMENT: Final = re.compile(rf"({_STRING})|//[^\n]*|/\*[\s\S]*?\*/")
_TRAILING_COMMA: Final = re.compile(rf"({_STRING})|,(?=\s*[\]}}])")
_NOT_NEWLINE: Final = re.compile(r"[^\n]")

# The grammar of the `dotenv` package that wrangler reads the file with: an optional `export`, a
# name, `=` or `: `, and a value that is quoted (then it may span lines) or ends at `#`.
_SECRET: Final = re.compile(
    r"""^\s*(?:export\s+)?(?P<name>[A-Za-z0-9_.-]+)(?:\s*=\s*?|:\s+?)
        (?P<value>\s*'(?:\\'|[^'])*'|\s*"(?:\\"|[^"])*"|\s*`(?:\\`|[^`])*`|[^#\n]+)?
        \s*(?:\#.*)?$""",
    re.MULTILINE | re.VERBOSE,
)


def read_table(path: Path) -> Mapping[str, object]:
    """The top-level table of a `.toml`, `.json` or `.jsonc` file."""
    if path.suffix not in {".toml", ".json", ".jsonc"}:
        raise _error(path, f"expected a .toml, .jsonc or .json file, found {path.name!r}")
    text = _read(path)
    try:
        data = tomllib.loads(text) if path.suffix == ".toml" else json.loads(plain_json(text))
    except (ValueError, RecursionError) as error:
        language = "TOML" if path.suffix == ".toml" else "JSON"
        reason = "nested too deep" if isinstance(error, RecursionError) else error
        raise _error(path, f"not valid {language}: {reason}") from error
    if not isinstance(data, dict):
        raise _error(path, f"expected an object at the top level, found {type(data).__name__}")
    return data


def plain_json(text: str) -> str:
    """JSON with comments and trailing commas as plain JSON; strings are left alone.

    Blanks take the place of what is removed, so that lines and columns stay the same.
    """
    text = _COMMENT.sub(lambda m: m[1] or _NOT_NEWLINE.sub(" ", m[0]), text)
    return _TRAILING_COMMA.sub(lambda m: m[1] or " ", text)


def read_secrets(root: Path, env: str | None) -> tuple[Path, dict[str, str]] | None:
    """The secrets of a project folder and their file, or None when it has none.

    As in wrangler, `.dev.vars.<env>` takes the place of `.dev.vars`; the two are not merged.
    """
    names = [".dev.vars"] if env is None else [f".dev.vars.{env}", ".dev.vars"]
    for name in names:
        path = root / name
        if path.is_file():
            return path, parse_secrets(_read(path))
    return None


def parse_secrets(text: str) -> dict[str, str]:
    r"""`NAME=value` lines as a dict, the last of a name winning.

    Double quotes, single quotes and backticks hold a value together; `\n` and `\r` are escapes
    only in double quotes. Lines that are no assignment are skipped, as wrangler skips them.
    """
    found = {}
    for match in _SECRET.finditer(text):
        value = (match["value"] or "").strip()
        quote = value[:1]
        if len(value) > 1 and quote in {'"', "'", "`"} and value[-1] == quote:
            value = value[1:-1]
        if quote == '"':
            value = value.replace("\\n", "\n").replace("\\r", "\r")
        found[match["name"]] = value
    return found


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise _error(path, f"cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise _error(path, f"is not UTF-8 text: {error}") from error


def _error(path: Path, problem: str) -> ConfigError:
    return ConfigError(f"{path}: {problem}", file=str(path))
