"""Pages of bars with the market state at the end of each, beside states folded from all trades in order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from actors import page_source
from actors.embeddings import states_of
from actors.lane_frames import Page, PageHello
from actors.page_service import Delivery
from actors.page_source import reader
from actors.spec import SinkSpec
from analytics import market_state
from analytics.state_text import metadata, text
from market.errors import BadFrame
from market.inputs import Clock, TickBatch
from market.rows import Candle, MarketState
from market.streams import CANDLES
from market.ticks import Ticks
from market.times import NS_PER_S
from storage.pages import decode_candles, decode_states, encode_states
from storage.states import states_at
from tests.actors.living import ENGINE, Living
from tests.actors.pair_support import spec
from tests.storage.hot_rows import MINUTE, T0, make_ticks

TOLD = replace(spec(Path()), engine=ENGINE)
COUNT = 400
STEP_NS = 3_700_000_001
END = T0 + 26 * MINUTE


def trades() -> Ticks:
    """Make 25 minutes of trades that go here and there."""
    ticks = make_ticks(COUNT, start_ns=T0 + 5, step_ns=STEP_NS)
    ticks["price"] = np.round(100 + np.cumsum(np.random.default_rng(3).normal(0, 0.05, COUNT)), 2)
    ticks["side"] = np.where(np.arange(COUNT) % 7 < 4, 1, -1)
    return ticks


def fed(folder: Path) -> Living:
    """Let a pair live through the trades, ten of them late by minutes."""
    pair, ticks = Living(folder, ENGINE), trades()
    late = (ticks["trade_id"] > 200) & (ticks["trade_id"] <= 210)
    for at in range(0, COUNT, 50):
        part = slice(at, at + 50)
        pair.take(TickBatch(ticks[part][~late[part]]))
        if at == 300:
            pair.take(TickBatch(ticks[late]))
        pair.flush()
    pair.take(Clock(END))
    pair.flush()
    return pair


@pytest.fixture(scope="module", params=["hot", "archived"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Living]:
    made = fed(tmp_path_factory.mktemp("pair") / "binance/spot/BTCUSDT")
    if request.param == "archived":
        made.keep_ns = 0
        made.sweep()
    yield made
    made.close()


def expected() -> dict[int, MarketState]:
    """Fold all trades in order; give the states by time."""
    state = market_state.init()
    made = market_state.step(state, trades()) + market_state.advance(state, END)
    return {row.ts_ns: row for row in made}


def read_all(pair: Living, name: str, timeframe: str = "1m") -> list[bytes]:
    """Read every page of a store, as its lane does."""
    read = reader(TOLD, SinkSpec(name, Path("lane.sock"), CANDLES, timeframe), pair.files.hot)
    bodies, after = list[bytes](), 0
    while True:
        last, body = read(after)
        if last == after:
            return bodies
        bodies.append(body)
        after = last


def close(a: float | None, b: float | None) -> bool:
    return a is b is None or (a is not None and a == pytest.approx(b, rel=1e-9, abs=1e-12))


def latest(bodies: list[bytes]) -> dict[int, tuple[Candle, MarketState | None]]:
    return {bar.ts_ns: (bar, state) for body in bodies for bar, state in decode_states(body)}


@pytest.mark.parametrize("page", [61, 1_024])
def test_each_bar_has_the_state_at_its_end(pair: Living, page: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_source, "PAGE_EVENTS", page)  # a page ends between a bar and its state
    found, states = latest(read_all(pair, "lancedb")), expected()
    assert sorted(found) == [T0 + minute * MINUTE for minute in range(26)]
    for ts_ns, (_, state) in found.items():
        want = states[ts_ns + MINUTE]
        assert state is not None
        assert (state.ts_ns, *state[7:9]) == (want.ts_ns, *want[7:9])
        assert all(map(close, state[1:7], want[1:7]))
    assert any(bar.revision for bar, _ in found.values())


def test_a_page_that_ends_before_a_bars_state(pair: Living, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_source, "PAGE_EVENTS", 1)
    events = pair.files.hot.events_after(0, 10_000)
    bars = [e.seq for e in events if e.event == "CANDLE_CLOSED" and b'"1m"' in e.data]
    read = reader(TOLD, SinkSpec("lancedb", Path("lane.sock"), CANDLES, "1m"), pair.files.hot)
    last, body = read(bars[5] - 1)
    ((bar, state),) = decode_states(body)
    assert last == bars[5]
    assert state is not None
    assert state.ts_ns == bar.ts_ns + MINUTE
    assert close(state.mass, expected()[state.ts_ns].mass)


@pytest.mark.parametrize("timeframe", ["1m", "5m"])
def test_the_bars_are_those_that_other_stores_get(pair: Living, timeframe: str) -> None:
    stated = latest(read_all(pair, "lancedb", timeframe))
    others = [decode_candles(body) for body in read_all(pair, "questdb.ohlcv", timeframe)]
    assert {ts_ns: bar for ts_ns, (bar, _) in stated.items()} == {
        bar.ts_ns: bar for body in others for bar in body
    }
    assert stated


def test_a_time_before_the_record_has_no_state(pair: Living) -> None:
    connection = pair.files.hot.connection
    assert states_at(connection, []) == {}
    assert states_at(connection, [T0 - MINUTE]) == {}
    assert states_at(connection, [T0 + MINUTE + 7, END + 3_600 * NS_PER_S]).keys() == {T0 + MINUTE + 7}


def test_states_come_back_whole_or_are_refused() -> None:
    bar = Candle(T0, 1.0, 2.0, 0.5, 1.5, 10.0, 6.0, 4.0, 1.25, 17, True, 0)
    told = MarketState(T0 + MINUTE, 1.0, None, 1e-8, 0.5, 2.0, None, "Unknown", "Neutral", 0.5)
    assert decode_states(encode_states([(bar, told), (bar, None)])) == [(bar, told), (bar, None)]
    with pytest.raises(BadFrame):
        decode_states(b"\x91\x01")


def test_what_a_page_tells_is_what_a_vectors_metadata_holds() -> None:
    bar = Candle(T0, 1.0, 2.0, 0.5, 1.5, 10.0, 6.0, 4.0, 1.25, 17, True, 0)
    told = MarketState(T0 + MINUTE, 1.5, -0.25, 0.75, 0.5, 2.0, 1.75, "Levy", "Bullish", 0.625)
    page = Page(1, 0, 2, encode_states([(bar, told), (bar, None)]))
    known, unknown = states_of(Delivery(PageHello("p", "BTC", CANDLES, 2, 0), page))
    assert (known.symbol, known.ts_ns, known.candle) == ("BTC", T0, bar)
    assert metadata(known) == {
        "physics": {
            "mass": 1.5,
            "momentum": -0.25,
            "friction": 0.75,
            "entropy": 0.5,
            "nash_dist": 2.0,
            "alpha": 1.75,
            "regime": "Levy",
        },
        "sentiment": {"label": "Bullish", "score": 0.625},
    }
    assert metadata(unknown)["physics"]["regime"] is None
    assert text(known).endswith("tails heavy; Levy regime; bullish sentiment.")
