"""A Request: method, URL, headers and a body that is read once.

Made by a script it is checked and normalised as the fetch standard says; made by the engine
(`request_from_parts`) it takes over what an HTTP parser has already checked. It is picklable while
its content is whole; a stream travels through `fetch()` only. `query` is Roost's own.
"""

# ruff: noqa: SLF001 - the private names are this module's own
import re
from collections.abc import Callable, Mapping
from http import HTTPMethod
from typing import Any
from urllib.parse import quote, urljoin, urlsplit, urlunsplit

from workers.body import Body, BodyInit, Content, content_of, copy_content, take_content
from workers.headers import Headers, HeadersInit
from workers.query import Query

__all__ = ["Request", "request_from_parts"]

_METHODS = {method.value: method for method in HTTPMethod}
_FORBIDDEN_METHODS = frozenset({"CONNECT", "TRACE", "TRACK"})
_REDIRECT = ("follow", "manual", "error")
_OPTIONS = frozenset({"method", "headers", "body", "redirect", "cf"})
# What a server has no use for: kept for scripts that read it back, with the standard's defaults.
_BROWSER_OPTIONS: dict[str, Any] = {
    "cache": "default",
    "credentials": "same-origin",
    "destination": "",
    "integrity": "",
    "is_history_navigation": False,
    "keepalive": False,
    "mode": "cors",
    "referrer": "about:client",
    "referrer_policy": "",
}
_TWINS = {"referrerPolicy": "referrer_policy", "isHistoryNavigation": "is_history_navigation"}
_DEFAULT_PORTS = {"http": 80, "https": 443}
_is_token = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch
_find_bad_host = re.compile(r'[\0-\x20"#%/<>?@\[\\\]^`{|}\x7f]').search
_SAFE_PATH = "/%:@!$&'()*+,;=~-._[]|^"
_SAFE_QUERY = _SAFE_PATH + "?`{}\\"


def _browser_option(name: str) -> property:
    def read(request: "Request") -> Any:
        return (request._browser or _BROWSER_OPTIONS).get(name, _BROWSER_OPTIONS[name])

    return property(read, doc=f"The `{name}` option: kept, and otherwise ignored.")


class Request(Body):
    """An HTTP request.

    `input` is an absolute URL, or a Request to start from (its body moves over). Options come as
    keyword arguments or as a trailing mapping: `method`, `headers`, `body`, `redirect` ("follow",
    "manual" or "error"), and `cf`, which is kept and otherwise ignored.

    Raises TypeError for a URL that is not absolute, an invalid method, a body with GET or HEAD, a
    body of an unsupported type, and unknown options.
    """

    __slots__ = ("_browser", "_query", "cf", "method", "redirect", "url")

    url: str
    """The absolute URL, normalised."""

    method: HTTPMethod | str
    """The method: an http.HTTPMethod (equal to its text) where it is a standard one."""

    redirect: str
    """What fetch() does on a redirect: "follow", "manual" or "error"."""

    cf: Any
    """The `cf` option, or None."""

    def __init__(
        self,
        input: "Request | str",  # noqa: A002 - the original's name
        init: Mapping[str, Any] | None = None,
        *,
        method: HTTPMethod | str | None = None,
        headers: HeadersInit | None = None,
        body: BodyInit = None,
        redirect: str | None = None,
        cf: Any = None,
        **browser: Any,
    ) -> None:
        if init:
            options = dict(init)
            method = options.pop("method", method)
            headers = options.pop("headers", headers)
            body = options.pop("body", body)
            redirect = options.pop("redirect", redirect)
            cf = options.pop("cf", cf)
            browser = options | browser
        self._used = False
        self._query: Query | None = None
        self._browser = _browser_options(browser) if browser else None
        base = input if isinstance(input, Request) else None
        self.url = normal_url(input) if base is None else base.url
        if method is None:
            self.method = HTTPMethod.GET if base is None else base.method
        else:
            self.method = _normal_method(method)
        self.redirect = redirect or ("follow" if base is None else base.redirect)
        if self.redirect not in _REDIRECT:
            raise TypeError(f"redirect is one of {', '.join(_REDIRECT)}; found {redirect!r}")
        self.cf = cf if cf is not None or base is None else base.cf
        if headers is None and base is not None:
            headers = base.headers
        self._headers = None if headers is None else Headers(headers)
        self._set_body(body, base)

    def _set_body(self, body: BodyInit, base: "Request | None") -> None:
        bodiless = self.method in {"GET", "HEAD"}
        if body is None and base is not None:
            if bodiless and self.method != base.method and base._content is not None:
                raise TypeError("Request with a GET or HEAD method cannot have a body.")
            self._content = take_content(base)
            return
        given = None if self._headers is None else self._headers.get("content-type")
        self._content, content_type = content_of(body, given, "Request")
        if self._content is not None and bodiless:
            raise TypeError("Request with a GET or HEAD method cannot have a body.")
        if content_type is not None:
            self.headers.set("content-type", content_type)

    cache = _browser_option("cache")
    credentials = _browser_option("credentials")
    destination = _browser_option("destination")
    integrity = _browser_option("integrity")
    is_history_navigation = isHistoryNavigation = _browser_option("is_history_navigation")
    keepalive = _browser_option("keepalive")
    mode = _browser_option("mode")
    referrer = _browser_option("referrer")
    referrer_policy = referrerPolicy = _browser_option("referrer_policy")

    @property
    def query(self) -> Query:
        """The URL's query as a Mapping; of a repeated name the first value counts. Roost's own."""
        if self._query is None:
            self._query = Query(self.url.partition("#")[0].partition("?")[2])
        return self._query

    def clone(self) -> "Request":
        """A copy with a body of its own. Raises OSError when the body was read before."""
        content = copy_content(self)
        copy = request_from_parts(self.method, self.url, list(self.headers.raw()), content)
        copy.redirect = self.redirect
        copy.cf = self.cf
        copy._browser = self._browser
        return copy

    def __repr__(self) -> str:
        return f"Request(method={str(self.method)!r}, url={self.url!r})"

    def __reduce__(self) -> tuple[Callable[..., "Request"], tuple[Any, ...]]:
        content = self._content
        if content is not None and not isinstance(content, bytes):
            raise TypeError(
                "A Request with a streamed body cannot be passed as a value: "
                "pass it through fetch(), or read its body first"
            )
        pairs = None if self._headers is None else self._headers.raw()
        state = (str(self.method), self.url, pairs, content, self._used, self.redirect)
        return _restore, (*state, self.cf, self._browser)


def request_from_parts(
    method: str,
    url: str,
    headers: list[tuple[str, str]] | None = None,
    content: Content = None,
) -> Request:
    """A Request from what the engine has already checked; nothing is copied or validated.

    `url` is absolute, header names are in lower case, and a stream gives bytes.
    """
    request = Request.__new__(Request)
    request.method = _METHODS.get(method, method)
    request.url = url
    request.redirect = "follow"
    request.cf = None
    request._headers = None if headers is None else Headers.from_raw(headers)
    request._content = content
    request._used = False
    request._query = None
    request._browser = None
    return request


def _restore(
    method: str,
    url: str,
    headers: list[tuple[str, str]] | None,
    content: bytes | None,
    used: bool,
    redirect: str,
    cf: Any,
    browser: dict[str, Any] | None,
) -> Request:
    request = request_from_parts(method, url, headers, content)
    request._used = used
    request.redirect = redirect
    request.cf = cf
    request._browser = browser
    return request


def normal_url(url: object) -> str:
    """The URL as the fetch standard writes it: no default port, "/" for no path, escapes.

    Raises TypeError when it is not absolute: `Invalid URL: /x`.
    """
    try:
        parts = urlsplit(str(url).strip())
        host, port = parts.hostname, parts.port
    except ValueError:
        raise TypeError(f"Invalid URL: {url}") from None
    scheme = parts.scheme.lower()
    if not scheme or not host:
        raise TypeError(f"Invalid URL: {url}")
    if ":" in host:
        host = f"[{host}]"
    elif not host.isascii():
        try:
            host = host.encode("idna").decode("ascii")
        except UnicodeError:
            raise TypeError(f"Invalid URL: {url}") from None
    elif _find_bad_host(host):
        raise TypeError(f"Invalid URL: {url}")
    if port is not None and port != _DEFAULT_PORTS.get(scheme):
        host = f"{host}:{port}"
    user, at, _ = parts.netloc.rpartition("@")
    path = quote(parts.path, _SAFE_PATH) or "/"
    if "/." in path:  # dot segments
        path = urlsplit(urljoin("http://h/", path)).path
    query, fragment = quote(parts.query, _SAFE_QUERY), quote(parts.fragment, _SAFE_QUERY)
    return urlunsplit((scheme, user + at + host, path, query, fragment))


def _normal_method(method: str) -> HTTPMethod | str:
    text = str(method)
    if not _is_token(text):
        raise TypeError(f"Invalid HTTP method: {text!r}")
    if text.upper() in _FORBIDDEN_METHODS:
        raise TypeError(f"fetch() does not send {text.upper()} requests")
    return _METHODS.get(text.upper(), text)


def _browser_options(options: Mapping[str, Any]) -> dict[str, Any]:
    known = {_TWINS.get(name, name): value for name, value in options.items()}
    unknown = sorted(known.keys() - _BROWSER_OPTIONS.keys())
    if unknown:
        accepted = ", ".join(sorted(_OPTIONS | _BROWSER_OPTIONS.keys()))
        raise TypeError(f"Request has no option {', '.join(map(repr, unknown))}; it has {accepted}")
    return known
