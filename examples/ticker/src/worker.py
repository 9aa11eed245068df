"""A ticker: one read of Workers KV is broadcast to everybody who watches a symbol.

Prices are KV's, where anybody may read them; the object keeps nothing but its sockets, tagged with
the symbols that each watches. However many watch, a price is read once and framed once.
"""

import json

from workers import (
    DurableObject,
    Request,
    Response,
    WebSocketPair,
    WorkerEntrypoint,
)

USAGE = "GET /?symbols=A,B with a WebSocket client; PUT /SYMBOL with a price; GET /SYMBOL.\n"


class Ticker(DurableObject):
    """Everybody who watches."""

    async def fetch(self, request: Request) -> Response:
        """Let somebody watch some symbols, at most ten."""
        symbols = request.query["symbols"].split(",")[:10]
        client, server = WebSocketPair()
        self.ctx.acceptWebSocket(server, symbols)
        for symbol, price in (await self.env.QUOTES.get(symbols)).items():
            server.send(json.dumps({"symbol": symbol, "price": price}))
        return Response(None, status=101, web_socket=client)

    async def changed(self, symbol: str) -> int:
        """Tell who watches a symbol that it has changed; returns how many they are."""
        price = await self.env.QUOTES.get(symbol)
        watching: int = self.ctx.broadcast(json.dumps({"symbol": symbol, "price": price}), symbol)
        return watching


class Default(WorkerEntrypoint):
    """Takes prices, and shows watchers to the ticker."""

    async def fetch(self, request: Request) -> Response:
        """Answer by method and path."""
        ticker = self.env.TICKERS.getByName("all")
        symbol = request.url.partition("://")[2].partition("/")[2].partition("?")[0]
        if request.headers.get("upgrade") == "websocket" and request.query.get("symbols"):
            watched: Response = await ticker.fetch(request)
            return watched
        if symbol and request.method == "PUT":
            await self.env.QUOTES.put(symbol, (await request.text()).strip())
            return Response.json({"watching": await ticker.changed(symbol)})
        price = await self.env.QUOTES.get(symbol) if symbol else None
        return Response(USAGE, status=404) if price is None else Response(price)
