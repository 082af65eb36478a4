from __future__ import annotations

import json
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest

from feeds.okx import FUTURES, SPOT, Okx
from feeds.venue import Ask, Listing, Notice, Parsed
from market.errors import Unlisted
from market.inputs import Quote
from tests.feeds.dialect import Dialect, FakeTrade
from tests.feeds.dialects import okx as dialects
from tests.feeds.okx_support import AT_NS, MS, SYMBOL

TAPE = [
    FakeTrade(
        n, AT_NS - (3_000 - n) * 70 * MS, 60_000.0 + n % 37 / 10, n % 11 / 1000 + 0.001, 1 - 2 * (n % 3 > 0)
    )
    for n in range(1, 1_251)
]
DIALECTS = pytest.mark.parametrize("dialect", [dialects.SPOT, dialects.FUTURES], ids=["spot", "futures"])


def ticks_of(dialect: Dialect, tape: list[FakeTrade]) -> list[tuple[object, ...]]:
    return [(dialect.trade_id(x.number), x.ts_ns, x.price, x.size, AT_NS, x.side) for x in tape]


def read(dialect: Dialect, said: list[str]) -> Parsed:
    return dialect.venue.parse([x.encode() for x in said], [AT_NS] * len(said), dialect.symbol)


def asked(dialect: Dialect, ask: Ask) -> tuple[int, bytes]:
    url = urlsplit(ask.path)
    return dialect.rest(url.path, {k: v[0] for k, v in parse_qs(url.query).items()}, TAPE, AT_NS)


@DIALECTS
def test_the_parser_reads_what_the_documents_let_a_venue_say(dialect: dialects.Okx) -> None:
    business, public = "/ws/v5/business", "/ws/v5/public"
    said = dialect.trades(business, TAPE, AT_NS) + dialect.trades(public, TAPE, AT_NS)
    said += dialect.quote(business, 1.0, 2.0, AT_NS) + dialect.quote(public, 60_000.5, 60_000.6, AT_NS)
    got = read(dialect, said)
    assert got.ticks.tolist() == ticks_of(dialect, TAPE)
    assert got.quote == Quote(AT_NS, 60_000.5, 5.0, 60_000.6, 11.0, AT_NS)
    assert (got.rejected, got.notices) == ([], [])


@DIALECTS
def test_what_is_asked_for_where_it_lives_is_granted(dialect: dialects.Okx) -> None:
    business, public = dialect.venue.lines(dialect.symbol)
    granted = read(dialect, dialect.answers(business.path, business.requests[0], TAPE, AT_NS))
    assert granted.notices == [Notice("subscribed", id="1")]
    assert granted.ticks.tolist() == ticks_of(dialect, TAPE[-1:])
    said = dialect.answers(public.path, public.requests[0], TAPE, AT_NS)
    assert read(dialect, said).notices == [Notice("subscribed", id="1")]
    assert read(dialect, dialect.answers(public.path, "ping", TAPE, AT_NS)).notices == [Notice("alive")]


@DIALECTS
def test_what_is_asked_for_elsewhere_or_wrongly_is_refused(dialect: dialects.Okx) -> None:
    business, public = dialect.venue.lines(dialect.symbol)
    nosuch = dialect.venue.lines("NO-SUCH")[0].requests[0]
    for path, message, code in (
        (public.path, business.requests[0], 64001),
        (business.path, public.requests[0], 64002),
        (business.path, nosuch, 60018),
        (business.path, "{", 60012),
        (business.path, '{"op":"subscribe"}', 60012),
    ):
        notices = read(dialect, dialect.answers(path, message, TAPE, AT_NS)).notices
        assert [(x.kind, x.code) for x in notices] == [("refused", code)]


def whole(dialect: Dialect, first: int) -> list[int]:
    """Page forward from trade `first` on, as a hole is filled; return the length of each page."""
    venue, next_id, pages = dialect.venue, int(dialect.trade_id(first)), []
    while True:
        _, body = asked(dialect, venue.page(dialect.symbol, next_id, 0))
        ticks = venue.parse_trades(body, AT_NS, dialect.symbol).ticks
        if not len(new := ticks[ticks["trade_id"] >= next_id]):
            break
        pages.append(new)
        next_id = int(new["trade_id"][-1]) + 1
    assert np.concatenate(pages).tolist() == ticks_of(dialect, TAPE[first - 1 :])
    return [len(x) for x in pages]


@DIALECTS
def test_pages_that_lead_backwards_join_to_the_whole_record(dialect: dialects.Okx) -> None:
    assert whole(dialect, 1) == [100] * 12 + [50]
    assert whole(dialect, 1_249) == [2]
    _, body = asked(dialect, dialect.venue.latest(dialect.symbol))
    latest = dialect.venue.parse_trades(body, AT_NS, dialect.symbol).ticks
    assert latest.tolist() == ticks_of(dialect, TAPE[-500:])


@DIALECTS
def test_the_dialect_keeps_the_venues_limits(dialect: dialects.Okx) -> None:
    of = f"instId={dialect.symbol}"
    newest = json.loads(asked(dialect, Ask(f"/api/v5/market/history-trades?{of}&before=1&limit=3"))[1])[
        "data"
    ]
    assert [int(x["tradeId"]) for x in newest] == [dialect.trade_id(x) for x in (1_250, 1_249, 1_248)]
    assert asked(dialect, Ask(f"/api/v5/market/history-trades?{of}&limit=101"))[0] == 400
    assert asked(dialect, Ask(f"/api/v5/market/trades?{of}&limit=501"))[0] == 400
    assert asked(dialect, Ask("/api/v3/trades"))[0] == 404
    assert asked(dialect, Ask(f"/api/v5/public/instruments?{of}"))[0] == 400


@pytest.mark.parametrize(
    ("dialect", "expected"),
    [
        (dialects.SPOT, Listing("live", True, 0.1, 1.0)),
        (dialects.FUTURES, Listing("live", True, 0.1, 0.01)),
        (dialects.Okx(FUTURES, "BTC-USDT-260925"), Listing("live", True, 0.1, 0.01)),
    ],
)
def test_the_listing_of_the_dialect_is_read(dialect: dialects.Okx, expected: Listing) -> None:
    venue: Okx = SPOT if dialect.symbol == SYMBOL else FUTURES
    assert venue.parse_listing(asked(dialect, venue.listing(dialect.symbol))[1], dialect.symbol) == expected
    for answer in (asked(dialect, venue.listing("NO-SUCH"))[1], asked(dialect, venue.latest("NO-SUCH"))[1]):
        with pytest.raises(Unlisted):
            venue.parse_trades(answer, AT_NS, "NO-SUCH")
