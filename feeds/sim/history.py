"""A simulated venue's trade history, generated or recorded."""

from __future__ import annotations

import csv
import gzip
import math
import zlib
from collections.abc import Iterator
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from feeds.sim.noise import Ints, walk
from feeds.sim.tape import E8, Aggregate, Columns, Flags, Tape, Trade
from market.times import NS_PER_MS


class History(Protocol):
    """All trades of one symbol, past and to come; ids and times rise together."""

    tick_e8: int  # the price step, in 1e-8
    first_id: int

    def last_id_at(self, ts_ns: int) -> int:
        """Give the newest id traded at or before the time; `first_id - 1` where there is none."""

    def trades(self, first_id: int, last_id: int) -> list[Trade]:
        """Give the trades of the ids, both ends included; those that never exist are left out."""

    def columns(self, first_id: int, last_id: int) -> Columns:
        """Give prices, sizes and sides of the same trades as numbers."""

    def aggregate_of(self, trade_id: int) -> int:
        """Give the id of the aggregate that holds the trade."""

    def aggregates(self, first: int, last: int) -> list[Aggregate]:
        """Give the aggregates of the ids, both ends included."""


BASE_PRICES = {"BTC": 60_000, "ETH": 3_000, "BNB": 600, "SOL": 150, "LTC": 80}
TICK_E8 = E8 // 100
SIZE_STEP_E8 = 1_000
VOLATILITY = 1e-4  # of the price, per root second: about 60 % a year
CACHED_BLOCKS = 8
MAX_SWEEP_SHARE = 0.5  # of the milliseconds of a block: each sweep has one of its own


class _Shape(NamedTuple):
    """The counts that every block of a rate shares; fixed, so that any id is found without its past."""

    trades: int
    aggregates: int
    sweeps: int
    span_ms: int


def _shape(rate_per_s: float) -> _Shape:
    trades = max(256, math.ceil(rate_per_s))
    span_ms = max(2, round(trades * 1_000 / rate_per_s))
    aggregates = trades * 3 // 5
    return _Shape(trades, aggregates, min(aggregates * 2 // 3, int(span_ms * MAX_SWEEP_SHARE)), span_ms)


class GeneratedHistory:
    """A market made of nothing but its arguments: equal arguments, equal trades, also after a restart.

    Trades have ids from 1 at `start_ns` (cut to a millisecond) without an end. A block of about a second
    (longer where fewer than 256 trades fill it) is made at a time, and `CACHED_BLOCKS` of them are kept.
    """

    first_id = 1
    tick_e8 = TICK_E8

    def __init__(self, symbol: str, seed: int, rate_per_s: float, start_ns: int) -> None:
        if not rate_per_s > 0:
            raise ValueError(f"rate_per_s {rate_per_s}: must be above 0")
        self._seed = (abs(seed), zlib.crc32(symbol.encode()))
        self._start_ms = start_ns // NS_PER_MS
        self._shape = _shape(rate_per_s)
        self._base = next(
            (price for asset, price in BASE_PRICES.items() if symbol.startswith(asset)),
            10 + self._seed[1] % 990,
        )
        self._block = lru_cache(CACHED_BLOCKS)(self._make)

    def last_id_at(self, ts_ns: int) -> int:
        index = (ts_ns // NS_PER_MS - self._start_ms) // self._shape.span_ms
        if index < 0:
            return 0
        tape = self._block(index)
        return index * self._shape.trades + int(np.searchsorted(tape.ts_ns, ts_ns, side="right"))

    def trades(self, first_id: int, last_id: int) -> list[Trade]:
        tapes = self._tapes(first_id, last_id, self._shape.trades)
        return [trade for tape in tapes for trade in tape.trades(first_id, last_id)]

    def columns(self, first_id: int, last_id: int) -> Columns:
        tapes = self._tapes(first_id, last_id, self._shape.trades)
        parts = [[c[tape.rows(first_id, last_id)] for c in tape.columns] for tape in tapes]
        if not parts:
            return Columns(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.bool_))
        price_e8, size_e8, makers = (np.concatenate(column) for column in zip(*parts, strict=True))
        return Columns(price_e8, size_e8, makers.astype(np.bool_))

    def aggregate_of(self, trade_id: int) -> int:
        return self._block((trade_id - 1) // self._shape.trades).aggregate_of(trade_id)

    def aggregates(self, first: int, last: int) -> list[Aggregate]:
        tapes = self._tapes(first, last, self._shape.aggregates)
        return [row for tape in tapes for row in tape.aggregates(first, last)]

    def _tapes(self, first: int, last: int, per_block: int) -> Iterator[Tape]:
        return map(self._block, range((max(first, 1) - 1) // per_block, (last - 1) // per_block + 1))

    def _make(self, index: int) -> Tape:
        """Make a block: sweeps at distinct milliseconds, each of price levels, each of trades.

        Neighbouring levels differ in time or price, so that exactly `aggregates` of them are told apart.
        """
        shape = self._shape
        rng = np.random.default_rng((*self._seed, index))
        start_ms = self._start_ms + index * shape.span_ms
        sweep_ms = start_ms + np.sort(rng.choice(shape.span_ms, shape.sweeps, replace=False))
        buys: Flags = np.cumsum(rng.random(shape.sweeps) < 0.3) % 2 == int(rng.integers(2))
        level_ticks, sweep_of_level = self._levels(rng, sweep_ms, buys)
        level_of_trade = _spread(rng, shape.trades, shape.aggregates)
        sweep_of_trade = sweep_of_level[level_of_trade]
        columns = Columns(
            level_ticks[level_of_trade] * TICK_E8,
            self._sizes(rng),
            ~buys[sweep_of_trade],
        )
        ids = np.arange(1, shape.trades + 1) + index * shape.trades
        return Tape(ids, sweep_ms[sweep_of_trade] * NS_PER_MS, columns, index * shape.aggregates + 1)

    def _levels(self, rng: np.random.Generator, sweep_ms: Ints, buys: Flags) -> tuple[Ints, Ints]:
        """Let each sweep go away from the walk's price, buys up from the ask, sells down from the bid."""
        mid = self._base * np.exp(VOLATILITY * walk(hash_key(self._seed), sweep_ms))
        way = np.where(buys, 1, -1)
        best_tick = np.rint(mid * 100).astype(np.int64) + (way + 1) // 2
        sweep_of_level = _spread(rng, self._shape.aggregates, self._shape.sweeps)
        depth = np.arange(self._shape.aggregates) - np.searchsorted(sweep_of_level, sweep_of_level)
        step = rng.integers(1, 4, self._shape.sweeps) * way
        ticks: Ints = best_tick[sweep_of_level] + step[sweep_of_level] * depth
        return ticks, sweep_of_level

    def _sizes(self, rng: np.random.Generator) -> Ints:
        median = 150 / self._base  # a median trade of 150 in quote units
        steps = np.exp(rng.normal(math.log(median), 1.5, self._shape.trades)) * (E8 // SIZE_STEP_E8)
        sizes: Ints = np.maximum(np.rint(steps), 1).astype(np.int64) * SIZE_STEP_E8
        return sizes


def hash_key(seed: tuple[int, int]) -> int:
    """Make one 64-bit number of a seed and a symbol's checksum."""
    return (seed[0] << 32) ^ (seed[1] * 0x9E3779B1)


def _spread(rng: np.random.Generator, items: int, groups: int) -> Ints:
    """Give each of `items` its group, in order, no group empty."""
    starts = np.zeros(items, np.int64)
    starts[1 + rng.choice(items - 1, groups - 1, replace=False)] = 1
    numbers: Ints = np.cumsum(starts)
    return numbers


class RecordedHistory:
    """Trades of a CSV or CSV.gz file with the columns trade_id, price, size, side (taker's) and ts_event_ns.

    Prices and sizes are printed as in the file. Times are the file's, or, with `shift_to_ns`, begin there and
    run `speed` times as fast. The whole file is held in memory.
    """

    def __init__(
        self,
        path: Path,
        symbol: str | None = None,
        speed: float = 1.0,
        shift_to_ns: int | None = None,
    ) -> None:
        rows = sorted(_read_csv(path), key=lambda row: int(row["trade_id"]))
        if not rows:
            raise ValueError(f"{path}: no trades")
        self.symbol = symbol or rows[0]["symbol"]
        prices, sizes = [row["price"] for row in rows], [row["size"] for row in rows]
        columns = Columns(_e8(prices), _e8(sizes), np.array([row["side"].lower() == "sell" for row in rows]))
        ids = np.array([int(row["trade_id"]) for row in rows], np.int64)
        ts_ns = np.array([int(row["ts_event_ns"]) for row in rows], np.int64)
        if shift_to_ns is not None:
            ts_ns = shift_to_ns + ((ts_ns - ts_ns[0]) / speed).astype(np.int64)
        if (np.diff(ts_ns) < 0).any():
            raise ValueError(f"{path}: times fall while ids rise")
        self._tape = Tape(ids, ts_ns, columns, texts=(prices, sizes))
        self.first_id = int(ids[0])
        self.first_ns = int(ts_ns[0])
        self.tick_e8 = _decimal_step(columns.price_e8)

    def last_id_at(self, ts_ns: int) -> int:
        count = int(np.searchsorted(self._tape.ts_ns, ts_ns, side="right"))
        return int(self._tape.ids[count - 1]) if count else self.first_id - 1

    def trades(self, first_id: int, last_id: int) -> list[Trade]:
        return self._tape.trades(first_id, last_id)

    def columns(self, first_id: int, last_id: int) -> Columns:
        at = self._tape.rows(first_id, last_id)
        price_e8, size_e8, makers = self._tape.columns
        return Columns(price_e8[at], size_e8[at], makers[at])

    def aggregate_of(self, trade_id: int) -> int:
        return self._tape.aggregate_of(trade_id)

    def aggregates(self, first: int, last: int) -> list[Aggregate]:
        return self._tape.aggregates(first, last)


def _read_csv(path: Path) -> list[dict[str, str]]:
    raw = path.read_bytes()
    text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode()
    return list(csv.DictReader(text.splitlines()))


def _decimal_step(prices_e8: Ints) -> int:
    """Give the greatest power of ten that all prices are multiples of, at most 1."""
    steps = [10**k for k in range(8, 0, -1)]
    return next((step for step in steps if not (prices_e8 % step).any()), 1)


def _e8(texts: list[str]) -> Ints:
    return np.array([int(Decimal(text).scaleb(8)) for text in texts], np.int64)
