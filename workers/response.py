"""A Response: status, headers and a body that is read once.

Constructing one is on the hot path of serving HTTP, so that the usual cases (text, bytes, JSON with
no headers of their own) make no Headers object until somebody asks for it. Like Request it is
picklable while its content is whole. Statuses and bodies are checked as the fetch standard says,
with ValueError where JavaScript has RangeError.
"""

# ruff: noqa: SLF001 - the private names are this module's own
import json
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any, overload

from workers.body import Body, BodyInit, Content, content_of, copy_content, take_content
from workers.headers import Headers, HeadersInit
from workers.request import normal_url

__all__ = ["Response", "parts_of", "response_from_parts"]

_NULL_BODY = frozenset({101, 204, 205, 304})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_INIT_OPTIONS = {
    "status": "status",
    "status_text": "status_text",
    "statusText": "status_text",
    "headers": "headers",
    "web_socket": "web_socket",
    "webSocket": "web_socket",
}


class _Json:
    """`json` on the class makes a Response, on an instance it reads the body, as in the original."""

    @overload
    def __get__(self, instance: None, owner: type) -> "Callable[..., Response]": ...
    @overload
    def __get__(self, instance: "Response", owner: type) -> Callable[..., Awaitable[Any]]: ...
    def __get__(self, instance: "Response | None", owner: type) -> Callable[..., Any]:
        if instance is None:
            return _from_json
        return super(Response, instance).json


class Response(Body):
    """An HTTP response.

    `body` is str, bytes, bytearray, memoryview, FormData, Blob, an async iterable of str or bytes,
    another message's `body`, a Response (taken over as it is), or None. A str gets the content type
    `text/plain;charset=UTF-8` and a form its own, unless the headers say otherwise. Options may
    come as a mapping in the place of `status`.

    Raises ValueError for a status that is neither 101 nor within 200 to 599, and for 101 without a
    `web_socket`; TypeError for a body with a status that has none (101, 204, 205, 304), and for a
    body of an unsupported type.
    """

    __slots__ = ("_default_type", "redirected", "status", "status_text", "url", "web_socket")

    status: int
    """The status code."""

    status_text: str
    """The reason phrase, "" for the status's usual one."""

    url: str
    """Where a fetched response came from, after redirects; "" for one made by a script."""

    redirected: bool
    """Whether a fetched response came by way of a redirect."""

    web_socket: Any
    """The server's answer to an upgrade: the client's end of a WebSocketPair, else None."""

    def __init__(
        self,
        body: "BodyInit | Response" = None,
        status: int | HTTPStatus | Mapping[str, Any] | None = None,
        status_text: str = "",
        headers: HeadersInit | None = None,
        web_socket: Any = None,
    ) -> None:
        if status is not None and isinstance(status, Mapping):
            options = {_option(name): value for name, value in status.items()}
            status = options.get("status")
            status_text = options.get("status_text", status_text)
            headers = options.get("headers", headers)
            web_socket = options.get("web_socket", web_socket)
        if isinstance(body, Response):
            if status is not None or status_text or headers is not None or web_socket is not None:
                raise ValueError("Expected no options when constructing Response from a Response")
            self._take_over(body)
            return
        self.status = 200 if status is None else _checked_status(status, web_socket)
        self.status_text = status_text
        self.url = ""
        self.redirected = False
        self.web_socket = web_socket
        self._used = False
        self._headers = None if headers is None else Headers(headers)
        if web_socket is not None and self.status != 101:
            raise ValueError("A Response with a web_socket must have the status 101")
        given = None if self._headers is None else self._headers.get("content-type")
        self._content, self._default_type = content_of(body, given, "Response")
        if self._content is not None and self.status in _NULL_BODY:
            raise TypeError(f"Response with the null body status {self.status} cannot have a body")
        if self._headers is not None and self._default_type is not None:
            self._headers.set("content-type", self._default_type)

    def _take_over(self, other: "Response") -> None:
        self.status = other.status
        self.status_text = other.status_text
        self.url = other.url
        self.redirected = other.redirected
        self.web_socket = other.web_socket
        self._headers = Headers(other.headers)
        self._default_type = None
        self._content = take_content(other)
        self._used = False

    @property
    def headers(self) -> Headers:
        """The response's headers."""
        headers = self._headers
        if headers is None:
            default = self._default_type
            pairs = [] if default is None else [("content-type", default)]
            headers = self._headers = Headers.from_raw(pairs)
        return headers

    @property
    def ok(self) -> bool:
        """Whether the status is a success: 200 to 299."""
        return 200 <= self.status <= 299

    def clone(self) -> "Response":
        """A copy with a body of its own. Raises OSError when the body was read before."""
        if self.web_socket is not None:
            raise TypeError("A Response with a web_socket cannot be cloned")
        return self._copy(copy_content(self))

    def replace_body(self, body: BodyInit) -> "Response":
        """A Response with another body and this one's status and headers."""
        given = self.headers.get("content-type")
        content, content_type = content_of(body, given, "Response")
        if content is not None and self.status in _NULL_BODY:
            raise TypeError(f"Response with the null body status {self.status} cannot have a body")
        copy = self._copy(content)
        if content_type is not None:
            copy.headers.set("content-type", content_type)
        copy.web_socket = self.web_socket
        return copy

    def _copy(self, content: Content) -> "Response":
        copy = response_from_parts(
            self.status, self.status_text, list(self.headers.raw()), content, url=self.url
        )
        copy.redirected = self.redirected
        return copy

    json = _Json()  # type: ignore[assignment]

    @staticmethod
    def from_json(
        data: Any,
        status: int | HTTPStatus | Mapping[str, Any] | None = None,
        status_text: str = "",
        headers: HeadersInit | None = None,
    ) -> "Response":
        """A Response with `data` as JSON, of type application/json unless the headers say another.

        Raises TypeError when `json.dumps` cannot write the data.
        """
        return _from_json(data, status, status_text, headers)

    @staticmethod
    def redirect(url: str, status: int | HTTPStatus = 302) -> "Response":
        """A redirect to `url`, which is absolute (else TypeError).

        Raises ValueError when the status is none of 301, 302, 303, 307, 308.
        """
        if int(status) not in _REDIRECTS:
            raise ValueError(
                f"A redirect has the status 301, 302, 303, 307 or 308, found {int(status)}"
            )
        return Response(None, int(status), headers=[("location", normal_url(url))])

    def __repr__(self) -> str:
        text = f"Response(status={self.status}"
        if self.status_text:
            text += f", status_text={self.status_text!r}"
        if content_type := self.headers.get("content-type"):
            text += f", content_type={content_type!r}"
        if self.url:
            text += f", url={self.url!r}"
        return text + ")"

    def __reduce__(self) -> tuple[Callable[..., "Response"], tuple[Any, ...]]:
        if self.web_socket is not None:
            raise TypeError(
                "A Response with a web_socket cannot be passed as a value: return it from fetch()"
            )
        content = self._content
        if content is not None and not isinstance(content, bytes):
            raise TypeError(
                "A Response with a streamed body cannot be passed as a value: "
                "pass it through fetch(), or read its body first"
            )
        state = (self.status, self.status_text, self.headers.raw(), content, self._used)
        return _restore, (*state, self.url, self.redirected)

    @property
    def statusText(self) -> str:
        """`status_text` in the web's spelling."""
        return self.status_text

    @property
    def webSocket(self) -> Any:
        """`web_socket` in the web's spelling."""
        return self.web_socket

    fromJson = from_json
    replaceBody = replace_body


def response_from_parts(
    status: int,
    status_text: str = "",
    headers: list[tuple[str, str]] | None = None,
    content: Content = None,
    *,
    url: str = "",
    web_socket: Any = None,
) -> Response:
    """A Response from what the engine has already checked; nothing is copied or validated.

    Header names are in lower case, and a stream gives bytes.
    """
    response = Response.__new__(Response)
    response.status = status
    response.status_text = status_text
    response.url = url
    response.redirected = False
    response.web_socket = web_socket
    response._headers = None if headers is None else Headers.from_raw(headers)
    response._default_type = None
    response._content = content
    response._used = False
    return response


def parts_of(response: Response) -> tuple[int, str, list[tuple[str, str]]]:
    """Status, status text and header pairs, as they are now: the engine's door.

    No Headers object is made for the headers that a body brings along.
    """
    headers, default = response._headers, response._default_type
    if headers is not None:
        pairs = headers.raw().copy()
    else:
        pairs = [] if default is None else [("content-type", default)]
    return int(response.status), str(response.status_text), pairs


def _from_json(
    data: Any,
    status: int | HTTPStatus | Mapping[str, Any] | None = None,
    status_text: str = "",
    headers: HeadersInit | None = None,
) -> Response:
    response = Response(json.dumps(data).encode(), status, status_text, headers)
    if response._headers is None:
        response._default_type = "application/json"
    elif not response._headers.has("content-type"):
        response._headers.set("content-type", "application/json")
    return response


def _restore(
    status: int,
    status_text: str,
    headers: list[tuple[str, str]],
    content: bytes | None,
    used: bool,
    url: str,
    redirected: bool,
) -> Response:
    response = response_from_parts(status, status_text, headers, content, url=url)
    response._used = used
    response.redirected = redirected
    return response


def _option(name: str) -> str:
    if name not in _INIT_OPTIONS:
        raise TypeError(
            f"Response has no option {name!r}; it has status, status_text, headers, web_socket"
        )
    return _INIT_OPTIONS[name]


def _checked_status(status: object, web_socket: object) -> int:
    if not isinstance(status, int):
        raise TypeError(f"A status is an int, found {type(status).__name__}")
    status = int(status)
    if status == 101:
        if web_socket is None:
            raise ValueError("A Response with the status 101 needs a web_socket")
    elif not 200 <= status <= 599:
        raise ValueError(
            f"The status must be within 200 to 599, or 101 with a web_socket; found {status}"
        )
    return status
