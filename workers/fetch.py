"""Outgoing HTTP: `await fetch(url)`.

Before anything leaves, the running event's storage writes are confirmed (Cloudflare's output gate),
so that the outside never learns of state that could still be lost. Redirects are followed here and
not by the client underneath, because only here is known whether a body can be sent again. Response
bodies stream. There is one connection pool for each running event loop; it closes with its loop.
aiohttp is imported at the first call, not with the script.
"""

import sys
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from workers.body import Content, take_content
from workers.current import current_event
from workers.request import Request, normal_url
from workers.response import Response, response_from_parts

if TYPE_CHECKING:
    import asyncio

    import aiohttp

__all__ = ["close_session", "fetch"]

MAX_REDIRECTS = 20
"""As many as the fetch standard follows."""

_CONNECT_SECONDS = 30.0
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_BODILESS = frozenset({101, 204, 205, 304})
# About one connection and not about the message: each hop writes its own.
_HOP_BY_HOP = frozenset(
    {"connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding"}
)
_CREDENTIALS = frozenset({"authorization", "cookie", "proxy-authorization"})
_ABOUT_THE_BODY = frozenset(
    {"content-type", "content-length", "content-encoding", "content-language", "content-location"}
)
_Pairs = list[tuple[str, str]]


async def fetch(
    resource: Request | str,
    init: Mapping[str, Any] | None = None,
    *,
    fetcher: Callable[[Request], Awaitable[Response]] | None = None,
    **options: Any,
) -> Response:
    """Send an HTTP request and return the response when its headers have arrived.

    `resource` is an absolute URL or a Request; `init` and the keyword arguments are Request's
    options (`method`, `headers`, `body`, `redirect`, `cf`). `fetcher` sends the request in place of
    the network. Inside an object the request leaves when the writes made before it are durable.

    The body arrives as it is read, decompressed. Any status is a Response, not an error. With the
    header `Upgrade: websocket` it opens a WebSocket: `accept()` the response's `web_socket`.

    Raises TypeError for what Request refuses and for URLs that are not http or https;
    ConnectionError when the peer cannot be reached or breaks off, for more than 20 redirects, and
    for any redirect under `redirect="error"`; TimeoutError when connecting takes over 30 seconds;
    and whatever a failed storage write raised, in which case nothing was sent.
    """
    if isinstance(resource, Request) and not init and not options:
        request = resource
    else:
        request = Request(resource, init, **options)
    event = current_event.get()
    if event is not None:
        confirmed = event.confirm()
        if confirmed is not None:
            await confirmed
    if fetcher is not None:
        return await fetcher(request)
    return await _send(request)


async def _send(request: Request) -> Response:
    method, url = str(request.method), request.url
    pairs = [pair for pair in request.headers.raw() if pair[0] not in _HOP_BY_HOP | {"host"}]
    if request.headers.has("upgrade"):
        if (request.headers.get("upgrade") or "").lower() != "websocket":
            raise TypeError("fetch() upgrades to WebSockets only")
        from workers.outgoing import open_websocket  # noqa: PLC0415 - with asyncio, for who uses it

        return await open_websocket(request)
    content = take_content(request)
    streamed = content is not None and not isinstance(content, bytes)
    if not streamed:
        pairs = [pair for pair in pairs if pair[0] != "content-length"]  # follows from the bytes
    for redirects in range(MAX_REDIRECTS + 1):
        reply = await _exchange(method, url, pairs, content)
        location = reply.headers.get("Location")
        if reply.status not in _REDIRECTS or location is None or request.redirect == "manual":
            response = _response(reply, method, url)
            response.redirected = redirects > 0
            return response
        reply.release()
        if request.redirect == "error":
            raise ConnectionError(
                f'{method} {url} was redirected to {location}, and its redirect mode is "error"'
            )
        target = _target(url, location, method)
        if reply.status == 303 or (reply.status in {301, 302} and method == "POST"):
            if method != "HEAD":
                method = "GET"
            content, streamed = None, False
            pairs = [pair for pair in pairs if pair[0] not in _ABOUT_THE_BODY]
        elif streamed:
            raise ConnectionError(
                f"{method} {url} was redirected to {location}, and a streamed body cannot be sent "
                'again: send bytes, or follow it yourself with redirect="manual"'
            )
        if _origin(target) != _origin(url):
            pairs = [pair for pair in pairs if pair[0] not in _CREDENTIALS]
        url = target
    raise ConnectionError(
        f"{request.method} {request.url} was redirected more than {MAX_REDIRECTS} times"
    )


async def _exchange(
    method: str, url: str, pairs: _Pairs, content: Content
) -> "aiohttp.ClientResponse":
    import aiohttp  # noqa: PLC0415 - 150 ms that only scripts which fetch should pay
    from yarl import URL  # noqa: PLC0415

    if urlsplit(url).scheme not in {"http", "https"}:
        raise TypeError(f"fetch() sends to http: and https: URLs only, found {url}")
    session = await _session()
    try:
        return await session.request(
            method,
            URL(url, encoded=True),
            headers=pairs,
            data=content,
            allow_redirects=False,
            skip_auto_headers=("Content-Type",),
        )
    except TimeoutError as error:
        raise TimeoutError(f"{method} {url} timed out: {_reason(error)}") from error
    except (aiohttp.ClientError, OSError) as error:
        raise ConnectionError(f"{method} {url} failed: {_reason(error)}") from error
    except ValueError as error:
        raise TypeError(f"{method} {url} cannot be sent: {_reason(error)}") from error


def _reason(error: BaseException) -> str:
    return str(error) or type(error).__name__


def _target(url: str, location: str, method: str) -> str:
    try:
        target = normal_url(urljoin(url, location))
    except (TypeError, ValueError):
        raise ConnectionError(
            f"{method} {url} was redirected to an invalid URL: {location}"
        ) from None
    if urlsplit(target).scheme not in {"http", "https"}:
        raise ConnectionError(f"{method} {url} was redirected away from HTTP: {location}")
    return target


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port


def _response(reply: "aiohttp.ClientResponse", method: str, url: str) -> Response:
    pairs = [(name.lower(), value) for name, value in reply.headers.items()]
    dropped = _HOP_BY_HOP
    has_body = method != "HEAD" and reply.status not in _BODILESS
    if has_body and "Content-Encoding" in reply.headers:
        # The body arrives decoded: whoever passes the response on must not declare it encoded.
        dropped = dropped | {"content-encoding", "content-length"}
    content: Content = None
    if has_body:
        content = _Pieces(reply, f"{method} {url}")
    else:
        reply.release()
    kept = [pair for pair in pairs if pair[0] not in dropped]
    return response_from_parts(reply.status, reply.reason or "", kept, content, url=url)


class _Pieces:
    """A response's body as it arrives; the connection returns to the pool at its end."""

    __slots__ = ("_pieces", "_reply", "_what")

    def __init__(self, reply: "aiohttp.ClientResponse", what: str) -> None:
        self._reply = reply
        self._pieces: AsyncIterator[bytes] = reply.content.iter_any()
        self._what = what

    def __aiter__(self) -> "_Pieces":
        return self

    async def __anext__(self) -> bytes:
        import aiohttp  # noqa: PLC0415 - loaded when the request was sent

        try:
            return await anext(self._pieces)
        except StopAsyncIteration:
            self._reply.release()
            raise
        except (aiohttp.ClientError, OSError) as error:
            self._reply.close()
            raise ConnectionError(f"{self._what} broke off: {_reason(error)}") from error
        except BaseException:
            self._reply.close()  # a reader that was cancelled left the connection half read
            raise

    async def aclose(self) -> None:
        """Give the body up; a connection that is half read is closed."""
        self._reply.close()


# The connection pool of each loop, with the generator that closes it. Owned by this module; an
# entry leaves when its loop shuts its asynchronous generators down, or is found closed.
_sessions: "dict[asyncio.AbstractEventLoop, tuple[aiohttp.ClientSession, AsyncGenerator[None]]]"
_sessions = {}


async def _session() -> "aiohttp.ClientSession":
    import asyncio  # noqa: PLC0415 - loaded long before the first fetch

    loop = asyncio.get_running_loop()
    entry = _sessions.get(loop)
    if entry is None:
        for closed in [other for other in _sessions if other.is_closed()]:
            del _sessions[closed]
        session = _new_session()
        # A loop closes the generators that were started on it when it ends (asyncio.run and every
        # runner do this), which is the one hook that all loops have.
        closer = _close_with_loop(loop, session)
        _sessions[loop] = entry = (session, closer)
        await anext(closer)
    return entry[0]


def _new_session() -> "aiohttp.ClientSession":
    import aiohttp  # noqa: PLC0415

    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return aiohttp.ClientSession(
        # No bound on connections: a pool that is full of responses nobody reads would stall every
        # other fetch of the process without a word.
        connector=aiohttp.TCPConnector(limit=0),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS),
        headers={"User-Agent": f"roost (Python {version})"},
    )


async def _close_with_loop(
    loop: "asyncio.AbstractEventLoop", session: "aiohttp.ClientSession"
) -> AsyncGenerator[None]:
    try:
        yield
    finally:
        _sessions.pop(loop, None)
        await session.close()


async def close_session() -> None:
    """Close the running loop's connections; the next fetch opens new ones.

    For whoever ends a loop without shutting down its asynchronous generators.
    """
    import asyncio  # noqa: PLC0415

    entry = _sessions.get(asyncio.get_running_loop())
    if entry is not None:
        await entry[1].aclose()
