"""What a caller is shown when the script failed, as text. Pure: a `Failure` in, a page out.

In development the page holds what the programmer needs (type, message, whole traceback of the
object's process, which object, which request); whatever came from script or client is escaped. In
production nothing of it leaves the house: the caller gets an incident id, the log has the rest.
"""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from html import escape


@dataclass(frozen=True, slots=True)
class Failure:
    """One failed request, in words. `object_id` is None when no Durable Object was involved."""

    status: int
    kind: str
    message: str
    traceback: str
    object_id: str | None
    method: str
    url: str


def describe(exc: BaseException, *, status: int, method: str, url: str) -> Failure:
    """The facts of an exception: the remote traceback when it has one, else the local one."""
    remote = getattr(exc, "remote_traceback", None)
    cls = type(exc)
    module = "" if cls.__module__ == "builtins" else f"{cls.__module__}."
    try:
        message = str(exc)
    except Exception:
        message = "<the exception cannot be printed>"
    object_id = getattr(exc, "durable_object_id", None)
    return Failure(
        status=status,
        kind=str(getattr(exc, "type_name", None) or f"{module}{cls.__qualname__}"),
        message=message,
        traceback=str(remote) if remote else "".join(traceback.format_exception(exc)),
        object_id=None if object_id is None else str(object_id),
        method=method,
        url=url,
    )


def as_text(failure: Failure) -> str:
    """The page for terminals."""
    title = f"{failure.kind}: {failure.message}" if failure.message else failure.kind
    rows = [title, "", f"{failure.method} {failure.url}"]
    if failure.object_id is not None:
        rows.append(f"object {failure.object_id}")
    return "\n".join([*rows, "", failure.traceback.rstrip(), ""])


_STYLE = """
:root{color-scheme:light dark}
body{margin:0;font:15px/1.5 system-ui,sans-serif;background:light-dark(#f6f5f2,#16171a);
color:light-dark(#1d1d1f,#e8e6e1)}
main{max-width:64rem;margin:0 auto;padding:3rem 1.5rem}
small{color:#c2410c;font-weight:600;letter-spacing:.04em;text-transform:uppercase}
h1{font-size:1.5rem;margin:.25rem 0;overflow-wrap:anywhere}
p{font-size:1.1rem;margin:0 0 1.5rem;white-space:pre-wrap;overflow-wrap:anywhere}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.25rem 1rem;margin:0 0 1.5rem}
dt{opacity:.6}dd{margin:0;font-family:ui-monospace,monospace;overflow-wrap:anywhere}
pre{margin:0;padding:1.25rem;overflow-x:auto;border-radius:.6rem;font:13px/1.55 ui-monospace,monospace;
background:light-dark(#fff,#1f2126);border:1px solid light-dark(#e3e0d8,#32353c)}
"""


def as_html(failure: Failure) -> str:
    """The page for browsers: one file, no script, nothing loaded from elsewhere."""
    facts = [("Request", f"{failure.method} {failure.url}")]
    if failure.object_id is not None:
        facts.append(("Object", failure.object_id))
    listed = "".join(f"<dt>{name}</dt><dd>{escape(value)}</dd>" for name, value in facts)
    kind, message = escape(failure.kind), escape(failure.message)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{kind}: {message}</title><style>{_STYLE}</style></head><body><main>"
        f"<small>{failure.status}</small><h1>{kind}</h1><p>{message}</p><dl>{listed}</dl>"
        f"<pre>{escape(failure.traceback.rstrip())}</pre></main></body></html>"
    )


def wants_html(headers: list[tuple[str, str]]) -> bool:
    """Whether the client is a browser looking for a page (curl and fetch() send `*/*`)."""
    return any(name == "accept" and "text/html" in value.lower() for name, value in headers)
