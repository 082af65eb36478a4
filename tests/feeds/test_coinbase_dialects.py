"""The dialects of the fake venue and the parsers, each written from the documents, understand each other."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import numpy as np
import pytest

from feeds import coinbase_advanced
from feeds.venue import Ask, Listing, Notice, Parsed
from market.inputs import Quote
from market.ticks import EMPTY, Ticks
from market.times import NS_PER_MS
from tests.feeds.dialect import Dialect, FakeTrade
from tests.feeds.dialects.coinbase import CoinbaseDialect
from tests.feeds.dialects.coinbase_advanced import CoinbaseAdvancedDialect

START_NS = 1_786_309_548_000 * NS_PER_MS
STEP_MS = 137
COUNT = 3_333
TAPE = [
    FakeTrade(n, START_NS + n * STEP_MS * NS_PER_MS, 65_000.01 + n / 100, 0.00000001 * n, (1, -1, -1)[n % 3])
    for n in range(1, COUNT + 1)
]
NOW_NS = TAPE[-1].ts_ns + 5 * NS_PER_MS
DIALECTS: list[Any] = [CoinbaseDialect(), CoinbaseAdvancedDialect()]
PATH = "/"


def heard(dialect: Dialect, said: list[str]) -> Parsed:
    frames = [text.encode() for text in said]
    return dialect.venue.parse(frames, [NOW_NS] * len(frames), dialect.symbol)


def rows(dialect: Dialect, trades: list[FakeTrade]) -> list[tuple[Any, ...]]:
    return [(dialect.trade_id(x.number), x.ts_ns, x.price, x.size, NOW_NS, x.side) for x in trades]


def asked(dialect: Dialect, ask: Ask, tape: list[FakeTrade]) -> Ticks:
    url = urlsplit(ask.path)
    status, body = dialect.rest(url.path, dict(parse_qsl(url.query)), tape, NOW_NS)
    assert status == 200, body
    return dialect.venue.parse_trades(body, NOW_NS, dialect.symbol).ticks


@pytest.mark.parametrize("dialect", DIALECTS)
def test_trades_are_understood_as_they_happened(dialect: Dialect) -> None:
    got = heard(dialect, dialect.trades(PATH, TAPE[:50], NOW_NS))
    assert got.ticks.tolist() == rows(dialect, TAPE[:50])
    assert (got.rejected, got.notices) == ([], [])
    assert dialect.trades(PATH, [], NOW_NS) == []


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("tape", [[], TAPE[:30], TAPE])
def test_a_subscription_is_granted_once_and_begins_with_what_was_last(
    dialect: Dialect, tape: list[FakeTrade]
) -> None:
    (line,) = dialect.venue.lines(dialect.symbol)
    said = [x for request in line.requests for x in dialect.answers(line.path, request, tape, NOW_NS)]
    got = heard(dialect, said)
    assert sum(notice.subscribed for notice in got.notices) == line.acks
    assert {x.kind for x in got.notices} <= {"subscribed", "alive"}
    assert got.rejected == []
    repeated = 1 if isinstance(dialect, CoinbaseDialect) else 100
    assert got.ticks.tolist() == rows(dialect, tape[-repeated:])


@pytest.mark.parametrize("dialect", DIALECTS)
def test_an_unknown_product_is_refused(dialect: Dialect) -> None:
    (line,) = dialect.venue.lines("BTC-USX")
    got = heard(dialect, dialect.answers(line.path, line.requests[-1], TAPE, NOW_NS))
    assert [x.kind for x in got.notices] == ["refused"]
    for ask in (dialect.venue.listing("BTC-USX"), dialect.venue.latest("BTC-USX")):
        url = urlsplit(ask.path)
        assert dialect.venue.is_unlisted(*dialect.rest(url.path, dict(parse_qsl(url.query)), TAPE, NOW_NS))


@pytest.mark.parametrize("dialect", DIALECTS)
def test_quotes_are_understood(dialect: Dialect) -> None:
    got = heard(dialect, dialect.quote(PATH, 64_999.99, 65_000.01, NOW_NS))
    assert (got.rejected, got.notices) == ([], [])
    assert isinstance(got.quote, Quote)
    assert (got.quote.bid_price, got.quote.ask_price, got.quote.ts_ns) == (64_999.99, 65_000.01, NOW_NS)
    assert min(got.quote.bid_size, got.quote.ask_size) > 0


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("tape", [[], TAPE])
def test_heartbeats_are_understood(dialect: Dialect, tape: list[FakeTrade]) -> None:
    got = heard(dialect, dialect.heartbeat(PATH, tape, NOW_NS))
    assert (got.rejected, got.notices, got.venue_time_ns) == ([], [Notice("alive")], NOW_NS)
    tells = isinstance(dialect, CoinbaseDialect) and tape
    assert got.newest_id == (dialect.trade_id(COUNT) if tells else 0)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_newest_trades_are_the_last_thousand(dialect: Dialect) -> None:
    got = asked(dialect, dialect.venue.latest(dialect.symbol), TAPE)
    assert got.tolist() == rows(dialect, TAPE[-1_000:])
    assert len(asked(dialect, dialect.venue.latest(dialect.symbol), [])) == 0


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_product_is_listed(dialect: Dialect) -> None:
    status, body = dialect.rest(dialect.venue.listing(dialect.symbol).path, {}, TAPE, NOW_NS)
    assert status == 200
    assert dialect.venue.parse_listing(body, dialect.symbol) == Listing(
        "online", trading=True, tick_size=0.01
    )


def test_pages_by_id_lead_from_any_trade_to_the_newest() -> None:
    dialect = CoinbaseDialect()
    got, from_id = [], dialect.trade_id(2)
    while from_id <= dialect.trade_id(COUNT):
        page = asked(dialect, dialect.venue.page(dialect.symbol, from_id, 0), TAPE)
        page = page[page["trade_id"] >= from_id]
        got += page.tolist()
        from_id = int(page["trade_id"][-1]) + 1
    assert got == rows(dialect, TAPE[1:])


@pytest.mark.parametrize(("first", "last"), [(2, 3_000), (5, 5), (1_500, 3_333), (700, 1_700)])
def test_pages_by_time_close_a_hole_from_its_end(first: int, last: int) -> None:
    """Trades `first` to `last` are missing; the one before and the one after them are known."""
    dialect = CoinbaseAdvancedDialect()
    missing = list(range(dialect.trade_id(first), dialect.trade_id(last) + 1))
    from_ns, to_ns = TAPE[first - 2].ts_ns, TAPE[min(last, COUNT - 1)].ts_ns
    got: Ticks = EMPTY
    for _ in range(20):
        page = asked(dialect, coinbase_advanced.VENUE.page(dialect.symbol, missing[0], from_ns, to_ns), TAPE)
        page = page[np.isin(page["trade_id"], missing) & ~np.isin(page["trade_id"], got["trade_id"])]
        got = np.concatenate([page, got])
        to_ns = int(got["ts_ns"][0])
        if int(got["trade_id"][0]) == missing[0]:
            break
    assert got.tolist() == rows(dialect, TAPE[first - 1 : last])


def test_a_grant_lists_all_channels_that_were() -> None:
    """As recorded; the numbers of the messages go on over all channels."""
    dialect = CoinbaseAdvancedDialect()
    (line,) = dialect.venue.lines("BTC-USD")
    said = [json.loads(x) for r in line.requests for x in dialect.answers("/", r, TAPE, NOW_NS)]
    assert [x["channel"] for x in said] == ["subscriptions"] * 2 + ["market_trades", "subscriptions"]
    assert list(said[-1]["events"][0]["subscriptions"]) == ["heartbeats", "ticker", "market_trades"]
    assert [x["sequence_num"] for x in said] == [0, 1, 2, 3]
