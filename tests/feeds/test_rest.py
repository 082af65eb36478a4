"""What a venue's server sees of a request."""

from __future__ import annotations

import json

from aiohttp import web
from aiohttp.test_utils import TestServer

from feeds import rest


async def test_a_request_names_itself_and_wants_nothing_cached() -> None:
    async def tell(request: web.Request) -> web.Response:
        return web.json_response(dict(request.headers))

    app = web.Application()
    app.router.add_get("/trades", tell)
    async with TestServer(app) as server:
        told = json.loads(await rest.get(str(server.make_url("/trades"))))
    assert (told["User-Agent"], told["Cache-Control"]) == ("marketd", "no-cache")
