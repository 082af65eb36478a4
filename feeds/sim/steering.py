from __future__ import annotations

from collections.abc import Callable, Mapping

from aiohttp import web

from feeds.sim.faults import Fault, parse_fault
from feeds.sim.listing import Listing
from feeds.sim.query import Query, RefusedError
from feeds.sim.wire import trade_row

MOST_TRADES = 100_000


class Steering:
    """What no venue has: `/sim` endpoints to cause faults and to see what is true."""

    def __init__(
        self,
        listings: Mapping[str, Listing],
        inject: Callable[[Fault], None],
        statistics: Callable[[], dict[str, object]],
    ) -> None:
        self._listings, self._inject, self._statistics = listings, inject, statistics

    def register(self, app: web.Application) -> None:
        app.router.add_post("/sim/fault", self._fault)
        app.router.add_get("/sim/trades", self._trades)
        app.router.add_get("/sim/stats", self._stats)

    async def _fault(self, request: web.Request) -> web.Response:
        try:
            self._inject(parse_fault(await request.read()))
        except ValueError as error:  # msgspec's are ValueErrors, and name what they refuse
            return web.json_response({"error": str(error)}, status=400)
        return web.json_response({})

    async def _trades(self, request: web.Request) -> web.Response:
        """Give what was really traded, lost or not, with no weight; `limit` up to 100,000."""
        try:
            query = Query(request.query, ("symbol", "fromId", "limit"))
            listing, limit = query.listing(self._listings), query.limit(MOST_TRADES)
            first = query.integer("fromId")
        except RefusedError as refusal:
            return web.json_response({"error": str(refusal)}, status=400)
        if first is None:
            first = listing.history.first_id
        rows = listing.trades(first, min(first + limit - 1, listing.last_id))
        return web.json_response([trade_row(trade) for trade in rows])

    async def _stats(self, _: web.Request) -> web.Response:
        return web.json_response(self._statistics())
