"""The body of a Request or Response: whole bytes, a stream of bytes, or nothing.

A body is read once; a second reading raises OSError("Body already used"), as in the original.
Content that is whole stays whole on its way through (no stream is made of it), so that most
messages are one bytes object from the socket to the script and back. `take_content` is the
engine's door: it reads a body without a coroutine and hands a stream on untouched.
"""

# ruff: noqa: SLF001 - the private names are this module's own
import json
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator
from typing import Any, Self, TypeAlias

from workers.blob import Blob, data_of
from workers.formdata import FormData, encode_form, parse_form
from workers.headers import Headers

__all__ = ["Body", "BodyInit", "BodyStream", "Content", "content_of", "stream_of", "take_content"]

Content: TypeAlias = bytes | AsyncIterator[bytes] | None
"""What a body is inside: whole, streamed, or absent."""

BodyInit: TypeAlias = (
    str | bytes | bytearray | memoryview | FormData | Blob | AsyncIterable[Any] | None
)
"""What `body=` accepts; an async iterable gives str or bytes."""

# Inside the class below `bytes` and `json` are the methods of those names.
_Bytes: TypeAlias = bytes


class Body:
    """What Request and Response share: headers and a body that is read once.

    A message without a body reads as empty, any number of times.
    """

    __slots__ = ("_content", "_headers", "_used")

    _content: Content
    _headers: Headers | None
    _used: bool

    @property
    def headers(self) -> Headers:
        """The message's headers."""
        headers = self._headers
        if headers is None:
            headers = self._headers = Headers()
        return headers

    @property
    def body(self) -> "BodyStream | None":
        """The body as an async iterator of bytes, or None; iterating reads (and uses) it."""
        if self._content is None and not self._used:
            return None
        return BodyStream(self)

    @property
    def body_used(self) -> bool:
        """Whether the body has been read, or is being read."""
        return self._used

    async def bytes(self) -> _Bytes:
        """The whole body. Raises OSError when it was read before."""
        content = take_content(self)
        if content is None:
            return b""
        if isinstance(content, _Bytes):
            return content
        return b"".join([chunk async for chunk in content])

    async def buffer(self) -> _Bytes:
        """The whole body, under the SDK's name for JavaScript's `arrayBuffer`."""
        return await self.bytes()

    async def text(self) -> str:
        """The body as UTF-8 text, without a byte order mark; U+FFFD for what is malformed."""
        text = (await self.bytes()).decode("utf-8", "replace")
        return text.removeprefix("\ufeff")

    async def json(self, **kwargs: Any) -> Any:
        """The body parsed as JSON; keyword arguments are those of `json.loads`.

        Raises json.JSONDecodeError (a ValueError) when it is not JSON.
        """
        return json.loads(await self.text(), **kwargs)

    async def form_data(self) -> FormData:
        """The body parsed as a form, as its Content-Type says.

        Raises TypeError when that is no form type, or the body is not a whole form.
        """
        return parse_form(await self.bytes(), self.headers.get("content-type"))

    async def blob(self) -> Blob:
        """The whole body as a Blob with the message's content type."""
        return Blob(await self.bytes(), self.headers.get("content-type"))

    @property
    def js_object(self) -> Self:
        """The message itself: in Roost nothing lies beneath it."""
        return self

    @property
    def bodyUsed(self) -> bool:
        """`body_used` in the web's spelling."""
        return self._used

    formData = form_data
    arrayBuffer = buffer
    array_buffer = buffer


class BodyStream:
    """A message's body as an async iterator of bytes.

    The body counts as used when the first piece is asked for. Given as the body of another message,
    it hands its content over as it is.
    """

    __slots__ = ("_message", "_pieces")

    def __init__(self, message: Body) -> None:
        self._message = message
        self._pieces: AsyncIterator[bytes] | None = None

    def __aiter__(self) -> "BodyStream":
        return self

    async def __anext__(self) -> bytes:
        if self._pieces is None:
            content = take_content(self._message)
            self._pieces = _once(content or b"") if isinstance(content, bytes | None) else content
        return await anext(self._pieces)

    def take(self) -> Content:
        """The content, when iteration has not begun; afterwards the rest of the stream."""
        return take_content(self._message) if self._pieces is None else self._pieces


def stream_of(content: Content) -> BodyStream:
    """Return content as a stream, as a message's `body` is one: the engine's door."""
    message = Body()
    message._content = content
    message._headers = None
    message._used = False
    return BodyStream(message)


async def _once(content: bytes) -> AsyncIterator[bytes]:
    if content:
        yield content


def take_content(message: Body) -> Content:
    """Take the body out of a Request or Response: the engine's door.

    Marks the body as used and keeps no reference to it. Whole content comes back as bytes without
    a copy, a stream as the async iterator that it is; who takes a stream reads it to its end or
    calls its `aclose`, where it has one. Raises OSError when the body was read before.
    """
    if message._used:
        raise OSError("Body already used")
    content = message._content
    if content is not None:
        message._used = True
        message._content = None
    return content


def content_of(body: object, content_type: str | None, where: str) -> tuple[Content, str | None]:
    """The content that `body=` stands for, and the content type to set for it, if any.

    `content_type` is what the user's headers say: it stands, save that a form adds its boundary.
    `where` names the class for the TypeError that a body of another type raises.
    """
    if body is None:
        return None, None
    if isinstance(body, str):
        return body.encode(), None if content_type else "text/plain;charset=UTF-8"
    if isinstance(body, bytes):
        return body, None
    if isinstance(body, bytearray | memoryview):
        return bytes(body), None
    if isinstance(body, FormData):
        return encode_form(body, content_type)
    if isinstance(body, Blob):
        return data_of(body), None if content_type else body.content_type or None
    if isinstance(body, BodyStream):
        return body.take(), None
    if isinstance(body, AsyncIterable):
        return _encoded(aiter(body)), None
    message = f"Unsupported type in {where}: {type(body).__name__}"
    if isinstance(body, dict | list | tuple | int | float):
        message += " (Response.json(data) sends data as JSON, and json.dumps(data) gives its text)"
    raise TypeError(message)


async def _encoded(stream: AsyncIterator[object]) -> AsyncIterator[bytes]:
    try:
        async for piece in stream:
            if isinstance(piece, bytes):
                yield piece
            elif isinstance(piece, str):
                yield piece.encode()
            elif isinstance(piece, bytearray | memoryview):
                yield bytes(piece)
            else:
                raise TypeError(f"A streamed body gives str or bytes, found {type(piece).__name__}")
    finally:
        close = getattr(stream, "aclose", None)
        if close is not None:
            await close()


def copy_content(message: Body) -> Content:
    """Content for a clone of `message`; a stream is split, so that each reads all of it.

    What one reader has read and the other has not waits in memory. Raises OSError when the body was
    read before.
    """
    if message._used:
        raise OSError("Body already used")
    content = message._content
    if content is None or isinstance(content, bytes):
        return content
    source = _Split(content)
    message._content = source.branch(0)
    return source.branch(1)


class _Split:
    """One stream read by two: each piece is kept until both have it."""

    __slots__ = ("_ended", "_failure", "_lock", "_source", "_waiting")

    def __init__(self, source: AsyncIterator[bytes]) -> None:
        import asyncio  # noqa: PLC0415 - slow to import, and running long before a stream is split

        self._source = source
        self._waiting: tuple[deque[bytes], deque[bytes]] = (deque(), deque())
        self._lock = asyncio.Lock()
        self._ended = False
        self._failure: BaseException | None = None

    async def branch(self, index: int) -> AsyncIterator[bytes]:
        """One of the two copies of the stream."""
        mine = self._waiting[index]
        while True:
            while mine:
                yield mine.popleft()
            async with self._lock:
                if not mine and not self._ended:
                    await self._pull()
            if not mine and self._ended:
                if self._failure is not None:
                    raise OSError("The cloned body could not be read whole") from self._failure
                return

    async def _pull(self) -> None:
        try:
            piece = await anext(self._source)
        except StopAsyncIteration:
            self._ended = True
        except BaseException as failure:
            # Also a cancelled reader ends the source: the other one must not take it for whole.
            self._ended = True
            self._failure = failure
            raise
        else:
            for waiting in self._waiting:
                waiting.append(piece)
