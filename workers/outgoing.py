"""Outgoing WebSockets: `fetch()` with an Upgrade header, and `WebSocket.new(url)`.

A connection belongs to the event that opened it: it keeps its object in memory (the original: it
cannot hibernate meanwhile), and closes with it. Messages leave in the order in which they were
sent, each when what the object wrote before it is durable; listeners are called one after another.
aiohttp is imported when the first one is opened.
"""

# ruff: noqa: SLF001 - the private names are this package's own
import asyncio
from typing import TYPE_CHECKING, Any

from workers.current import current_event
from workers.response import Response, response_from_parts
from workers.websocket import CloseEvent, ErrorEvent, Event, MessageEvent, WebSocket, heard

if TYPE_CHECKING:
    from collections.abc import Awaitable

    import aiohttp

    from workers.request import Request

__all__ = ["close_all", "connect_later", "open_websocket"]

MAX_MESSAGE = 32 * 1024 * 1024
"""Bytes of a received message; a larger one closes with 1009."""

CONNECT_SECONDS = 30.0
"""How long connecting may take."""

CUT = (1006, "WebSocket disconnected without sending Close frame.", False)

_HANDSHAKE = frozenset(
    {
        "connection",
        "host",
        "sec-websocket-extensions",
        "sec-websocket-key",
        "sec-websocket-protocol",
        "sec-websocket-version",
        "upgrade",
    }
)
_open: set["_Connection"] = set()


async def open_websocket(request: "Request") -> Response:
    """Open a connection: a Response with status 101 and a `web_socket`, which `accept()` starts.

    A server that refuses the upgrade gives a Response with its status and no body. Raises
    ConnectionError when it cannot be reached, TimeoutError after 30 seconds.
    """
    import aiohttp  # noqa: PLC0415 - 150 ms that only scripts which connect should pay

    offered = request.headers.get("sec-websocket-protocol") or ""
    protocols = [each.strip() for each in offered.split(",") if each.strip()]
    pairs = [pair for pair in request.headers.raw() if pair[0] not in _HANDSHAKE]
    try:
        connection = await _connect(request.url, protocols, pairs)
    except aiohttp.WSServerHandshakeError as refused:
        return response_from_parts(refused.status, refused.message)
    ws = WebSocket()
    ws.protocol = connection.client.protocol
    connection.serve(ws)
    ws._on_accept = connection.start
    return response_from_parts(101, web_socket=ws)


def connect_later(ws: WebSocket, url: str, protocols: list[str]) -> None:
    """Connect an end that was made with `WebSocket.new(url)`; its events tell how that went."""

    async def connect() -> None:
        try:
            connection = await _connect(url, protocols, [])
        except Exception as error:
            ws._connecting, ws._closed_in = False, True
            await _hear(ws, ErrorEvent(ws, error))
            reason = "Failed to establish websocket connection"
            await _hear(ws, CloseEvent(ws, 1006, reason, was_clean=False))
            return
        ws.protocol = connection.client.protocol or ""
        ws._connecting, ws._accepted = False, "listeners"
        connection.serve(ws)
        if ws._closed_out:  # closed before it was open
            connection.close(None, "")
        await _hear(ws, Event("open", ws))
        await connection.read(ws)

    _keep(connect())


class _Connection:
    """One connection, as the line of a script's end."""

    def __init__(self, client: "aiohttp.ClientWebSocketResponse", session: Any) -> None:
        self.client = client
        self._session = session
        self._ending = False
        self._event = current_event.get()
        self._queue: asyncio.Queue[tuple[Awaitable[None] | None, Any]] = asyncio.Queue()

    def serve(self, ws: WebSocket) -> None:
        """Be the line of an end."""
        ws._line = self
        _open.add(self)
        self._pump = asyncio.get_running_loop().create_task(self._send_all())

    def start(self, ws: WebSocket) -> None:
        """Begin to read: the end was accepted."""
        _keep(self.read(ws))

    def send(self, message: str | bytes) -> None:
        """Send a message, after those before it."""
        self._say(message)

    def close(self, code: int | None, reason: str) -> None:
        """Send a close, after the messages before it."""
        self._say((code, reason))

    def keep(self, attachment: bytes) -> None:
        """Do nothing: the attachment lives as long as the connection, in its end."""

    def _say(self, said: Any) -> None:
        self._queue.put_nowait((self._event.confirm() if self._event else None, said))

    async def _send_all(self) -> None:
        while True:
            confirmed, said = await self._queue.get()
            if confirmed is not None:
                await confirmed  # raises when the write is lost: nothing more leaves
            if isinstance(said, str):
                await self.client.send_str(said)
            elif isinstance(said, bytes):
                await self.client.send_bytes(said)
            else:
                code, reason = said
                self._ending = True
                await self.client.close(code=code or 1000, message=reason.encode())
                return

    async def read(self, ws: WebSocket) -> None:
        """Call the end's listeners until the connection has ended, then close what is left of it."""
        from aiohttp import WSMsgType  # noqa: PLC0415

        try:
            async for message in self.client:
                if message.type in {WSMsgType.TEXT, WSMsgType.BINARY}:
                    await _hear(ws, MessageEvent(ws, heard(message.data)))
            if self._ending:  # the reading ends first; the peer's answer is still to come
                await asyncio.gather(self._pump, return_exceptions=True)
            code = self.client.close_code
            clean = code is not None and code != 1006
            facts = (code, "", True) if clean else CUT
            ws._closed_in = True
            await _hear(ws, CloseEvent(ws, facts[0] or 1005, facts[1], was_clean=facts[2]))
        finally:
            ws._closed_in = True
            _open.discard(self)
            self._pump.cancel()
            await self.client.close()
            await self._session.close()


async def _connect(url: str, protocols: list[str], pairs: list[tuple[str, str]]) -> _Connection:
    import aiohttp  # noqa: PLC0415

    session = aiohttp.ClientSession()
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            client = await session.ws_connect(
                url, protocols=protocols, headers=pairs, max_msg_size=MAX_MESSAGE
            )
    except BaseException as error:
        await session.close()
        if isinstance(error, aiohttp.WSServerHandshakeError):
            raise
        if isinstance(error, TimeoutError):
            raise TimeoutError(f"the WebSocket {url} took over {CONNECT_SECONDS:g} s") from error
        if isinstance(error, (aiohttp.ClientError, OSError)):
            raise ConnectionError(f"the WebSocket {url} failed: {error}") from error
        raise
    return _Connection(client, session)


async def _hear(ws: WebSocket, event: Event) -> None:
    waiting = ws._dispatch(event)
    if waiting is not None:
        await waiting


def _keep(awaitable: Any) -> None:
    """Run something for the event that runs now: its object stays in memory until it has ended."""
    event = current_event.get()
    if event is not None:
        event.wait_until(awaitable)
        return
    task = asyncio.ensure_future(awaitable)
    _kept.add(task)
    task.add_done_callback(_kept.discard)


_kept: set[asyncio.Future[Any]] = set()


def close_all() -> None:
    """Close all connections of this process with 1001: it is leaving."""
    for connection in list(_open):
        connection.close(1001, "")
