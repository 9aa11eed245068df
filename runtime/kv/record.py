"""`Record`: a dict whose items can also be read as attributes, as results of KV are."""

from typing import Any


class Record(dict[str, Any]):
    """Semantics: the JsDict of Cloudflare's Python SDK. A dict's methods win over items.

    So a listing's `keys` is `listing["keys"]`, while `listing.list_complete` is an item.
    """

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None
