"""A ticker: one read of Workers KV is broadcast to everybody who watches a symbol.

Prices are KV's, where anybody may read them; the object keeps nothing but its sockets, tagged with
the symbols that each watches. However many watch, a price is read once and framed once.
"""

import json
from pathlib import Path
from urllib.parse import unquote

from workers import (
    DurableObject,
    Request,
    Response,
    WebSocketPair,
    WorkerEntrypoint,
)

PAGE = Path(__file__).with_name("page.html")
MOST = 9
"""Symbols that a client may watch: a socket has at most ten tags, and one of them is ALL."""
ALL = "prices"
"""The tag of every socket; it is lossy: who reads slowly misses old prices and stays connected."""


class Ticker(DurableObject):
    """Everybody who watches."""

    async def fetch(self, request: Request) -> Response:
        """Let somebody watch some symbols."""
        symbols = request.query["symbols"].split(",")[:MOST]
        client, server = WebSocketPair()
        self.ctx.acceptWebSocket(server, [ALL, *symbols])
        for symbol, price in (await self.env.QUOTES.get(symbols)).items():
            server.send(json.dumps({"symbol": symbol, "price": price}))
        return Response(None, status=101, web_socket=client)

    async def changed(self, symbol: str) -> int:
        """Tell who watches a symbol that it has changed; returns how many they are."""
        price = await self.env.QUOTES.get(symbol)
        watching: int = self.ctx.broadcast(json.dumps({"symbol": symbol, "price": price}), symbol)
        return watching


class Default(WorkerEntrypoint):
    """`/` is the page and, with symbols, the WebSocket; `/SYMBOL` a price to GET or PUT."""

    async def fetch(self, request: Request) -> Response:
        """Answer by method and path."""
        ticker = self.env.TICKERS.getByName("all")
        symbol = unquote(request.url.partition("://")[2].partition("/")[2].partition("?")[0])
        if request.headers.get("upgrade") == "websocket" and request.query.get("symbols"):
            watched: Response = await ticker.fetch(request)
            return watched
        if symbol and request.method == "PUT":
            await self.env.QUOTES.put(symbol, (await request.text()).strip())
            return Response.json({"watching": await ticker.changed(symbol)})
        if not symbol:
            return Response(PAGE.read_text(), headers={"content-type": "text/html;charset=utf-8"})
        price = await self.env.QUOTES.get(symbol)
        return Response("No price yet.\n", status=404) if price is None else Response(price)
