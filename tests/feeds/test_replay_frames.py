"""Recordings of every venue's dialect, replayed: what was traded comes out, what was missed is said."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlsplit

import pytest
from structlog.testing import capture_logs

from feeds.intake import Intake, IntakeRules
from feeds.recording import Recorder, recordings
from feeds.recording_format import Kept
from feeds.replay import check_files, recorded_pair
from feeds.replay_frames import FrameReplay, Told
from feeds.replay_order import CUT, Named, Numbered
from feeds.replay_runs import NOBODY
from feeds.venue import Venue
from feeds.venues import VENUES
from market.errors import UsageError
from market.inputs import Clock, GapClosed, GapOpened, Input, Instrument, Quote, Rejected, TickBatch
from market.pairs import Pair
from market.times import NS_PER_MS, NS_PER_S
from tests.feeds.dialect import FakeTrade
from tests.feeds.dialects import binance_usdm, bybit, kraken, okx
from tests.feeds.dialects.coinbase import CoinbaseDialect
from tests.feeds.dialects.coinbase_advanced import CoinbaseAdvancedDialect
from tests.recordings import HERE, frames

T = TypeVar("T")
START_NS = 1_786_309_200 * NS_PER_S  # a whole hour
DIALECTS: dict[str, Any] = {
    "binance:futures": binance_usdm.DIALECT,
    "bybit:spot": bybit.SPOT,
    "bybit:futures": bybit.LINEAR,
    "coinbase:spot": CoinbaseDialect(),
    "coinbase_advanced:spot": CoinbaseAdvancedDialect(),
    "kraken:spot": kraken.DIALECT,
    "okx:spot": okx.SPOT,
    "okx:futures": okx.FUTURES,
}
EVERY = pytest.mark.parametrize("market", DIALECTS)
RULES = IntakeRules(stale_after_s=30.0, close_grace_ms=2_000, quotes_interval_ms=1_000)


class Script:
    """What a recorder has kept of a venue, told step by step."""

    def __init__(self, folder: Path, market: str) -> None:
        self.dialect = DIALECTS[market]
        self.venue: Venue = self.dialect.venue
        self.pair = Pair.parse(f"{market}:{self.dialect.symbol}")
        self.now_ns, self.folder = START_NS, folder
        self.tape: list[FakeTrade] = []
        self._recorder = Recorder(folder, self.pair.key)

    def begin(self, *, listed: bool = True) -> None:
        """Let a recorder begin, in a file of its own."""
        self.close()
        self._keep(0, "", b'{"tap": "began"}')
        path = self.venue.listing(self.dialect.symbol).path
        if listed:
            asked = urlsplit(path)
            status, body = self.dialect.rest(asked.path, dict(parse_qsl(asked.query)), self.tape, self.now_ns)
            assert status == 200
            self._keep(0, path, body)

    def connect(self, connection: int) -> None:
        for line in self.venue.lines(self.dialect.symbol):
            for request in line.requests:
                self._say(
                    connection, line.path, self.dialect.answers(line.path, request, self.tape, self.now_ns)
                )

    def trade(self, count: int, *connections: int) -> None:
        """Let one trade happen every 100 ms, told on connections; on none it is missed."""
        for _ in range(count):
            number, self.now_ns = len(self.tape) + 1, self.now_ns + NS_PER_S // 10
            price, side = 100 + (number * 37 % 101) / 8, 1 if number % 3 else -1
            made = FakeTrade(number, self.now_ns - 20 * NS_PER_MS, price, 1 + number % 7, side)
            self.tape.append(made)
            for connection in connections:
                self.tell([made], connection)

    def tell(self, trades: Sequence[FakeTrade], connection: int) -> None:
        for line in self.venue.lines(self.dialect.symbol):
            self._say(connection, line.path, self.dialect.trades(line.path, trades, self.now_ns))

    def quote(self, bid: float, connection: int) -> None:
        for line in self.venue.lines(self.dialect.symbol):
            self._say(connection, line.path, self.dialect.quote(line.path, bid, bid + 1, self.now_ns))

    def heartbeat(self, connection: int) -> None:
        for line in self.venue.lines(self.dialect.symbol):
            self._say(connection, line.path, self.dialect.heartbeat(line.path, self.tape, self.now_ns))

    def say(self, frame: bytes, connection: int) -> None:
        self._keep(connection, self.venue.lines(self.dialect.symbol)[0].path, frame)

    def close(self) -> None:
        self._recorder.close()

    @property
    def ids(self) -> list[str]:
        return [str(self.dialect.trade_id(one.number)) for one in self.tape]

    @property
    def files(self) -> list[Path]:
        self.close()
        return recordings(self.folder)

    def _say(self, connection: int, path: str, messages: Sequence[str]) -> None:
        for message in messages:
            self._keep(connection, path, message.encode())

    def _keep(self, connection: int, path: str, frame: bytes) -> None:
        self._recorder.append(Kept(self.now_ns, connection, path, frame))


class Replayed:
    """A feed's inputs, taken to the end as an engine does."""

    def __init__(self, script: Script, before: Replayed | None = None, takes: int = 10**9) -> None:
        known = before.ids if before else []
        last_ns = before.newest_ns if before else 0
        self.order: Numbered | Named = (
            Numbered(int(known[-1]) + 1 if known else None, last_ns)
            if script.venue.rules.contiguous
            else Named(len(known) + 1, known[-1_024:], last_ns)
        )
        intake = Intake(script.venue, script.dialect.symbol, self.order, RULES)
        told = Told(script.venue, script.dialect.symbol, self.order, NS_PER_S, last_ns)
        self.feed = FrameReplay(script.files, 0.0, told, intake)
        self.inputs: list[Input] = []
        for _ in range(takes):
            self.inputs += self.feed.take(1, START_NS)
            if self.feed.finished:
                break

    def of(self, kind: type[T]) -> list[T]:
        return [one for one in self.inputs if isinstance(one, kind)]

    @property
    def ids(self) -> list[str]:
        return [
            name
            for batch in self.of(TickBatch)
            for name in batch.ids or map(str, batch.ticks["trade_id"].tolist())
        ]

    @property
    def newest_ns(self) -> int:
        return max((int(batch.ticks["ts_ns"].max()) for batch in self.of(TickBatch)), default=0)


@EVERY
def test_what_was_traded_comes_out_to_the_last_digit(tmp_path: Path, market: str) -> None:
    script = Script(tmp_path, market)
    script.trade(3)  # before anybody listened
    script.begin()
    script.connect(1)
    script.trade(70, 1)
    heard = Replayed(script)
    rows = [tuple(row) for b in heard.of(TickBatch) for row in b.ticks[["price", "size", "side"]].tolist()]
    size = heard.feed._intake.contract_size
    known = len(rows) - 70  # of a snapshot
    assert 0 <= known <= 3
    assert heard.ids == script.ids[3 - known :]
    assert rows == [(one.price, one.size * size, one.side) for one in script.tape[3 - known :]]
    assert not heard.of(GapOpened)
    assert not heard.of(Rejected)
    assert heard.of(Instrument)
    assert heard.feed.status()["replayed"] == len(rows)


@EVERY
def test_quotes_are_conflated_by_the_recorded_time(tmp_path: Path, market: str) -> None:
    script = Script(tmp_path, market)
    script.begin()
    script.trade(1)
    script.connect(1)
    for bid in range(50, 100):
        script.trade(1, 1)
        script.quote(bid, 1)
    heard = Replayed(script)
    last = {round(START_NS + (bid - 48) * NS_PER_S / 10) // NS_PER_S: bid for bid in range(50, 100)}
    quotes = {one.received_ns // NS_PER_S: one.bid_price for one in heard.of(Quote)}
    assert quotes == last
    assert len(heard.of(Quote)) == len(last) == 6


@EVERY
def test_what_the_recorder_missed_is_said(tmp_path: Path, market: str) -> None:
    script = Script(tmp_path, market)
    script.begin()
    script.connect(1)
    script.trade(20, 1)
    script.trade(200)
    script.connect(2)
    script.trade(200, 2)
    heard = Replayed(script)
    assert len(set(heard.ids)) == len(heard.ids)
    (opened,), (closed,) = heard.of(GapOpened), heard.of(GapClosed)
    missing = [i for i in script.ids if i not in set(heard.ids)]
    assert 90 <= len(missing) <= 200  # a snapshot gives some of them back
    if script.venue.rules.contiguous:
        assert [str(opened.first_id), str(opened.last_id)] == [missing[0], missing[-1]]
        assert (closed.missing, closed.reason) == (len(missing), NOBODY)
    else:
        assert (opened.counted, opened.reason, closed.missing) == (False, CUT, 1)
        assert (opened.from_ns, opened.to_ns) == (script.tape[19].ts_ns, script.tape[220].ts_ns)


@EVERY
def test_a_handover_and_a_new_hour_are_no_gaps(tmp_path: Path, market: str) -> None:
    script = Script(tmp_path, market)
    script.now_ns -= 10 * NS_PER_S
    script.begin()
    script.connect(1)
    script.trade(90, 1)
    script.connect(2)
    script.trade(2, 1)
    script.trade(5, 2, 1)
    script.trade(120, 2)
    assert len(script.files) == 2
    heard = Replayed(script)
    assert heard.ids == script.ids
    assert not heard.of(GapOpened)


@EVERY
def test_a_recorder_that_began_anew_has_missed_what_was_between(tmp_path: Path, market: str) -> None:
    script = Script(tmp_path, market)
    for _ in range(2):
        script.begin()
        script.connect(1)
        script.trade(20, 1)
        script.trade(120)
    script.begin()
    script.connect(1)
    script.trade(120, 1)
    heard = Replayed(script)
    assert len(script.files) == 3
    assert len(heard.of(GapOpened)) == len(heard.of(GapClosed)) == 2
    assert len(set(heard.ids)) == len(heard.ids)


@EVERY
def test_a_replay_broken_off_and_one_repeated_give_each_trade_once(tmp_path: Path, market: str) -> None:
    script = Script(tmp_path, market)
    script.begin()
    script.connect(1)
    for bid in range(60):
        script.trade(80, 1)
        script.quote(bid + 1, 1)
        script.say(b"{", 1)
    part = Replayed(script, takes=1)
    assert 0 < len(part.ids) < len(script.ids)
    rest = Replayed(script, part)
    assert part.ids + rest.ids == script.ids
    assert len(part.of(Rejected)) + len(rest.of(Rejected)) == 60
    whole = Replayed(script)
    assert whole.ids == script.ids
    assert not Replayed(script, whole).of(TickBatch)


@pytest.mark.parametrize("market", ["coinbase:spot", "coinbase_advanced:spot", "kraken:spot"])
def test_the_venues_time_closes_bars_of_a_quiet_pair(tmp_path: Path, market: str) -> None:
    script = Script(tmp_path, market)
    script.begin()
    script.connect(1)
    script.trade(5, 1)
    for _ in range(20):
        script.now_ns += NS_PER_S
        script.heartbeat(1)
    clocks = Replayed(script).of(Clock)
    assert clocks
    assert script.now_ns - 4 * NS_PER_S <= clocks[-1].ts_ns <= script.now_ns


def test_contracts_without_a_listing_are_refused(tmp_path: Path) -> None:
    script = Script(tmp_path, "okx:futures")
    script.begin(listed=False)
    script.connect(1)
    script.trade(5, 1)
    with pytest.raises(UsageError, match="sizes are in contracts"):
        Replayed(script)


def test_a_paced_replay_gives_what_is_due(tmp_path: Path) -> None:
    script = Script(tmp_path, "kraken:spot")
    script.begin()
    script.connect(1)
    script.trade(100, 1)
    order = Numbered(None, 0)
    intake = Intake(script.venue, script.dialect.symbol, order, RULES)
    feed = FrameReplay(script.files, 2.0, Told(script.venue, script.dialect.symbol, order, NS_PER_S), intake)
    begun_ns = time.time_ns()
    feed.take(begun_ns, None)
    for second in (1, 2, 3):
        feed.take(begun_ns + second * NS_PER_S, None)
        assert feed.replayed == 20 * second
    assert not feed.finished
    feed.take(begun_ns + 6 * NS_PER_S, None)
    assert (feed.replayed, feed.finished) == (100, True)


def test_a_torn_recording_is_replayed_as_far_as_it_goes(tmp_path: Path) -> None:
    script = Script(tmp_path, "kraken:spot")
    script.begin()
    script.connect(1)
    script.trade(100, 1)
    (file,) = script.files
    file.write_bytes(file.read_bytes()[:-200])
    with capture_logs() as logs:
        heard = Replayed(script)
    assert 50 < len(heard.ids) < 100
    assert heard.ids == script.ids[: len(heard.ids)]
    assert "recording_incomplete" in [one["event"] for one in logs]


def test_frames_of_a_real_stream_are_the_trades_they_hold(tmp_path: Path) -> None:
    raw, times = frames(HERE / "binance_spot_btcusdt_midnight.jsonl.gz")
    recorder = Recorder(tmp_path, "binance:spot:BTCUSDT")
    for frame, at in zip(raw, times, strict=True):
        recorder.append(Kept(at, 1, "/ws", frame))
    recorder.close()
    venue, order = VENUES["binance", "spot"], Numbered(None, 0)
    intake = Intake(venue, "BTCUSDT", order, RULES)
    feed = FrameReplay(recordings(tmp_path), 0.0, Told(venue, "BTCUSDT", order, NS_PER_S), intake)
    out: list[Input] = []
    while not feed.finished:
        out += feed.take(1, None)
    told = [body for body in (json.loads(frame)["data"] for frame in raw) if body.get("e") == "trade"]
    ticks = [row for b in out if isinstance(b, TickBatch) for row in b.ticks[["trade_id", "ts_ns"]].tolist()]
    assert ticks == sorted((body["t"], body["T"] * NS_PER_MS) for body in told)
    assert 80 < sum(isinstance(item, Quote) for item in out) < 95


def test_files_that_do_not_go_together_are_refused(tmp_path: Path) -> None:
    kraken_file = _file(tmp_path / "a", "kraken:spot:BTC-USD")
    other = _file(tmp_path / "b", "kraken:spot:ETH-USD")
    trades = tmp_path / "trades.csv"
    trades.write_text("trade_id,price,size,side,ts_event_ns\n")
    assert recorded_pair([kraken_file]) == Pair("kraken", "spot", "BTC-USD")
    assert recorded_pair([trades]) is None
    for files, reason in (
        ([kraken_file, trades], "not replayed together"),
        ([kraken_file, other], "recordings of several pairs: kraken:spot:BTC-USD, kraken:spot:ETH-USD"),
        ([_file(tmp_path / "c", "mars:spot:A")], "frames of mars:spot:A, which is not supported"),
    ):
        with pytest.raises(UsageError, match=reason):
            check_files(files)
    kraken_file.write_bytes(b"")
    with pytest.raises(UsageError, match="holds no frames"):
        check_files([kraken_file])


def _file(folder: Path, pair: str) -> Path:
    recorder = Recorder(folder, pair)
    recorder.append(Kept(START_NS, 1, "/", b"{}"))
    recorder.close()
    (file,) = recordings(folder)
    return file
