from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from email.utils import formatdate
from typing import Any, TypeAlias

from aiohttp import web

from feeds.sim.faults import RestStatus
from feeds.sim.klines import INTERVALS_NS, kline, open_ns
from feeds.sim.listing import Listing
from feeds.sim.plan import FaultPlan
from feeds.sim.query import Query, RefusedError
from feeds.sim.tape import Trade, decimal_text
from feeds.sim.wire import aggregate_row, to_e8, trade_row
from market.times import NS_PER_MS, NS_PER_S

Handler: TypeAlias = Callable[[Query], Awaitable[object]]

TOO_MUCH = (
    "Too much request weight used; current limit is {limit} request weight per 1 MINUTE."
    " Please use WebSocket Streams for live updates to avoid polling the API."
)
BANNED = (
    "Way too much request weight used; IP banned until {until}."
    " Please use WebSocket Streams for live updates to avoid bans."
)
QUOTE_ASSETS = ("USDT", "USDC", "FDUSD", "BTC", "ETH", "BNB", "EUR", "USD")


class Rest:
    """The venue's public REST endpoints, with their weights. Nothing is answered before it has happened."""

    def __init__(
        self,
        listings: Mapping[str, Listing],
        faults: FaultPlan,
        now_ns: Callable[[], int],
        weight_per_minute: int,
    ) -> None:
        self._listings, self._faults, self._now_ns = listings, faults, now_ns
        self._limit = weight_per_minute
        self._minute = 0
        self._used: Counter[str] = Counter()  # by address, of this minute

    def register(self, app: web.Application) -> None:
        routes: dict[str, tuple[int, Handler, str]] = {
            "ping": (1, self._ping, ""),
            "time": (1, self._time, ""),
            "exchangeInfo": (20, self._exchange_info, "symbol symbols symbolStatus"),
            "trades": (25, self._trades, "symbol limit"),
            "historicalTrades": (25, self._historical_trades, "symbol limit fromId"),
            "aggTrades": (4, self._aggregates, "symbol limit fromId startTime endTime"),
            "klines": (2, self._klines, "symbol interval limit startTime endTime"),
        }
        for name, (weight, handler, parameters) in routes.items():
            app.router.add_get(f"/api/v3/{name}", self._endpoint(weight, handler, parameters.split()))

    def _endpoint(
        self,
        weight: int,
        handler: Handler,
        parameters: list[str],
    ) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def answer(request: web.Request) -> web.Response:
            await self._hang()
            if fault := self._faults.rest_answer():
                return self._faulty(fault)
            headers, retry_after_s = self._count(str(request.remote), weight)
            if retry_after_s:
                headers["Retry-After"] = str(retry_after_s)
                return _error(429, -1003, TOO_MUCH.format(limit=self._limit), headers)
            try:
                body = await handler(Query(request.query, parameters))
            except RefusedError as refusal:
                return _error(400, refusal.code, str(refusal), headers)
            return web.json_response(body, headers=headers, dumps=_compact)

        return answer

    async def _hang(self) -> None:
        hanging_s = self._faults.rest_hangs_until_s - asyncio.get_running_loop().time()
        if hanging_s > 0:
            self._faults.done["rest_hang"] += 1
            await asyncio.sleep(hanging_s)

    def _faulty(self, fault: RestStatus) -> web.Response:
        if fault.status == 502:
            return web.Response(
                status=502, text="<html><h1>502 Bad Gateway</h1></html>", content_type="text/html"
            )
        until_ms = self._now_ns() // NS_PER_MS + fault.retry_after_s * 1_000
        msg = TOO_MUCH.format(limit=self._limit) if fault.status == 429 else BANNED.format(until=until_ms)
        return _error(fault.status, -1003, msg, {"Retry-After": str(fault.retry_after_s)})

    def _count(self, address: str, weight: int) -> tuple[dict[str, str], int]:
        """Add to the address's weight; give the header and, beyond the limit, the seconds to wait."""
        minute, second = divmod(int(asyncio.get_running_loop().time()), 60)
        if minute != self._minute:
            self._minute = minute
            self._used.clear()
        self._used[address] += weight
        used = self._used[address]
        date = formatdate(self._now_ns() / NS_PER_S, usegmt=True)
        return {"X-MBX-USED-WEIGHT-1M": str(used), "Date": date}, 60 - second if used > self._limit else 0

    def _known_id(self, listing: Listing) -> int:
        """Give the newest id that REST knows of."""
        lag_ns = int(self._faults.rest_lag_s * NS_PER_S)
        if not lag_ns:
            return listing.last_id
        self._faults.done["rest_lag"] += 1
        return listing.last_id_at(self._now_ns() - lag_ns)

    async def _ping(self, _: Query) -> dict[str, object]:
        return {}

    async def _time(self, _: Query) -> dict[str, object]:
        return {"serverTime": self._now_ns() // NS_PER_MS}

    async def _exchange_info(self, query: Query) -> dict[str, object]:
        listings = self._asked(query)
        limit = {
            "rateLimitType": "REQUEST_WEIGHT",
            "interval": "MINUTE",
            "intervalNum": 1,
            "limit": self._limit,
        }
        raw = {"rateLimitType": "RAW_REQUESTS", "interval": "MINUTE", "intervalNum": 5, "limit": 61_000}
        return {
            "timezone": "UTC",
            "serverTime": self._now_ns() // NS_PER_MS,
            "rateLimits": [limit, raw],
            "exchangeFilters": [],
            "symbols": [_symbol_row(listing) for listing in listings],
        }

    def _asked(self, query: Query) -> list[Listing]:
        if symbols := query.text("symbols"):
            return [query.listing(self._listings, symbol) for symbol in _json_list(symbols)]
        if symbol := query.text("symbol"):
            return [query.listing(self._listings, symbol)]
        status = query.text("symbolStatus")
        return [listing for listing in self._listings.values() if status in {None, listing.status}]

    async def _trades(self, query: Query) -> list[dict[str, Any]]:
        return self._rows(query, from_id=None)

    async def _historical_trades(self, query: Query) -> list[dict[str, Any]]:
        return self._rows(query, query.integer("fromId"))

    def _rows(self, query: Query, from_id: int | None) -> list[dict[str, Any]]:
        listing, limit = query.listing(self._listings), query.limit()
        newest = self._known_id(listing)
        first = newest - limit + 1 if from_id is None else from_id
        return [trade_row(trade) for trade in self._kept(listing, first, newest, limit)]

    def _kept(self, listing: Listing, first_id: int, newest: int, limit: int) -> list[Trade]:
        """Read up to `limit` trades from an id on, past those that were lost."""
        kept: list[Trade] = []
        at = max(first_id, listing.history.first_id)
        while len(kept) < limit and at <= newest:
            page = listing.trades(at, min(at + limit - 1, newest))
            kept += [trade for trade in page if not self._faults.is_lost(listing.symbol, trade.id)]
            at += limit
        return kept[:limit]

    async def _aggregates(self, query: Query) -> list[dict[str, Any]]:
        listing, limit = query.listing(self._listings), query.limit()
        from_id, start_ms, end_ms = (query.integer(name) for name in ("fromId", "startTime", "endTime"))
        if from_id is not None and not start_ms is end_ms is None:
            raise RefusedError(-1128, "Combination of optional parameters invalid.")
        newest = self._known_id(listing)
        if end_ms is not None:
            newest = min(newest, listing.last_id_at((end_ms + 1) * NS_PER_MS - 1))
        first = listing.history.first_id
        if start_ms is not None:
            first = max(first, listing.last_id_at(start_ms * NS_PER_MS - 1) + 1)
        if first > newest:
            return []
        low, high = listing.history.aggregate_of(first), listing.history.aggregate_of(newest)
        forward = from_id is not None or start_ms is not None
        low = max(low, from_id or low) if forward else max(low, high - limit + 1)
        return [
            aggregate_row(row)
            for row in listing.aggregates(low, min(high, low + limit - 1))
            if row.last_id <= newest and not self._faults.is_lost(listing.symbol, row.first_id, row.last_id)
        ]

    async def _klines(self, query: Query) -> list[list[Any]]:
        listing, limit = query.listing(self._listings), query.limit()
        width_ns = INTERVALS_NS.get(query.text("interval", mandatory=True) or "")
        if width_ns is None:
            raise RefusedError(-1120, "Invalid interval.")
        newest = self._known_id(listing)
        start_ms, end_ms = query.integer("startTime"), query.integer("endTime")
        first_trade = listing.trades(listing.history.first_id, listing.history.first_id)[0]
        if newest < first_trade.id:
            return []
        oldest_ns = open_ns(first_trade.ts_ns, width_ns)
        last_ns = open_ns(
            self._now_ns() if end_ms is None else min(end_ms * NS_PER_MS, self._now_ns()), width_ns
        )
        begin_ns = last_ns - (limit - 1) * width_ns if start_ms is None else _next_open(start_ms, width_ns)
        begin_ns = max(begin_ns, oldest_ns)
        last_ns = min(last_ns, begin_ns + (limit - 1) * width_ns)
        bars = []
        for bar_ns in range(begin_ns, last_ns + 1, width_ns):
            bars.append(_bar(listing, bar_ns, width_ns, newest))
            await asyncio.sleep(0)  # a bar may hold very many trades: the streams go on meanwhile
        return bars


def _bar(listing: Listing, bar_ns: int, width_ns: int, newest: int) -> list[Any]:
    first = listing.last_id_at(bar_ns - 1) + 1
    last = min(listing.last_id_at(bar_ns + width_ns - 1), newest)
    before = listing.trades(first - 1, first - 1)
    previous_e8 = to_e8(before[0].price) if before else 0
    return kline(listing.history.columns(first, last), bar_ns, width_ns, previous_e8)


def _next_open(start_ms: int, width_ns: int) -> int:
    start_ns = start_ms * NS_PER_MS
    at_ns = open_ns(start_ns, width_ns)
    return at_ns if at_ns == start_ns else at_ns + width_ns


def _symbol_row(listing: Listing) -> dict[str, object]:
    symbol = listing.symbol
    quote = next((asset for asset in QUOTE_ASSETS if symbol.endswith(asset) and symbol != asset), "")
    return {
        "symbol": symbol,
        "status": listing.status,
        "baseAsset": symbol.removesuffix(quote),
        "baseAssetPrecision": 8,
        "quoteAsset": quote,
        "quotePrecision": 8,
        "quoteAssetPrecision": 8,
        "orderTypes": ["LIMIT", "MARKET"],
        "isSpotTradingAllowed": True,
        "filters": [
            {
                "filterType": "PRICE_FILTER",
                "minPrice": decimal_text(listing.history.tick_e8),
                "maxPrice": "1000000.00000000",
                "tickSize": decimal_text(listing.history.tick_e8),
            },
            {
                "filterType": "LOT_SIZE",
                "minQty": "0.00001000",
                "maxQty": "9000.00000000",
                "stepSize": "0.00001000",
            },
        ],
        "permissions": [],
        "permissionSets": [["SPOT"]],
    }


def _json_list(text: str) -> list[str]:
    try:
        names = json.loads(text)
    except json.JSONDecodeError:
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise RefusedError(-1135, "JSON sent for parameter 'symbols' is not valid")
    return names


def _error(status: int, code: int, msg: str, headers: dict[str, str]) -> web.Response:
    return web.json_response({"code": code, "msg": msg}, status=status, headers=headers, dumps=_compact)


def _compact(body: object) -> str:
    return json.dumps(body, separators=(",", ":"))
