"""The gateway's own answers to requests that the script failed.

In development the caller sees everything, in production an incident id under which the log has the
rest. Nothing here has state; each function makes one whole answer, or logs one incident.
"""

from __future__ import annotations

import logging
import secrets
from typing import TYPE_CHECKING, NamedTuple

from runtime.gateway.error_page import as_html, as_text, describe, wants_html

if TYPE_CHECKING:
    from runtime.gateway.outbound import RawHeaders

logger = logging.getLogger("roost.gateway")

_PAGE_POLICY: tuple[bytes, bytes] = (
    b"content-security-policy",
    b"default-src 'none'; style-src 'unsafe-inline'",
)


class Page(NamedTuple):
    """A whole answer."""

    status: int
    headers: RawHeaders
    body: bytes


def page_of(
    exc: BaseException, method: str, url: str, headers: list[tuple[str, str]], *, tell: bool
) -> Page:
    """Log a failed request, and return its answer: 500, or 503 for what may be tried again.

    `tell`: with everything there is to know, as HTML to a browser.
    """
    overloaded = bool(getattr(exc, "overloaded", False))
    status = 503 if overloaded or getattr(exc, "retryable", False) else 500
    extra: RawHeaders = [(b"retry-after", b"1")] if overloaded else []
    incident = note(exc, method, url, status, brief=overloaded)
    if not tell:
        title = "503 Service Unavailable" if status == 503 else "500 Internal Server Error"
        return text_page(status, f"{title}\nincident {incident}\n", extra)
    failure = describe(exc, status=status, method=method, url=url)
    if wants_html(headers):
        return text_page(status, as_html(failure), [*extra, _PAGE_POLICY], b"text/html")
    return text_page(status, as_text(failure), extra)


def text_page(
    status: int, text: str, extra: RawHeaders, content_type: bytes = b"text/plain"
) -> Page:
    """Return an answer of the gateway's own words."""
    body = text.encode()
    headers: RawHeaders = [
        (b"content-type", content_type + b"; charset=utf-8"),
        (b"content-length", b"%d" % len(body)),
        (b"x-content-type-options", b"nosniff"),
        *extra,
    ]
    return Page(status, headers, body)


def note(exc: BaseException, method: str, url: str, status: int, *, brief: bool = False) -> str:
    """Log a failed request under a fresh incident id, which is returned.

    `brief` leaves the traceback out: an overloaded house has no time to write one per request.
    """
    incident = secrets.token_hex(4)
    failure = describe(exc, status=status, method=method, url=url)
    logger.error(
        "incident=%s status=%d method=%s url=%s object=%s error=%s: %s%s",
        incident,
        status,
        method,
        url,
        failure.object_id,
        failure.kind,
        failure.message,
        "" if brief else f"\n{failure.traceback.rstrip()}",
    )
    return incident
