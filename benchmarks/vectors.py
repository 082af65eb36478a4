"""Market states in LanceDB: what a state costs, and how soon and how well its like is found among 100,000.

2,048 states of a random walk are worded and embedded; the other vectors are these with a little noise.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analytics.state_text import VERSION, MarketState, Physics, Sentiment, metadata, text
from benchmarks.figures import Figure
from market.rows import Candle
from market.times import NS_PER_S
from storage.minilm import Encoder
from storage.vectors import OPTIMIZE_EVERY, Neighbour, StateRow, Vectors

STATES, REAL, PAIRS = 100_000, 2_048, 5
BATCH, BACKLOG = 64, 12_800
QUERIES, K = 200, 5
NOISE = 0.004  # a component; a tenth of the distance between two states
T0_NS, MINUTE_NS = 1_700_000_040 * NS_PER_S, 60 * NS_PER_S

Array = NDArray[np.float32]


def measure_vectors() -> list[Figure]:
    """Measure on a table in a folder of its own."""
    rng = np.random.default_rng(7)
    states = _states(rng)
    encoder = Encoder()
    encoder.encode([text(states[0])])
    began_s = time.perf_counter()
    real = encoder.encode([text(state) for state in states])
    encode_s = time.perf_counter() - began_s
    vectors = _unit(np.tile(real, (STATES // REAL + 1, 1))[:STATES], rng)
    with TemporaryDirectory(prefix="marketd-") as folder:
        table = Vectors(Path(folder))
        rows = _rows(vectors, metadata(states[0]))
        return [
            Figure("states embedded a second", REAL / encode_s, "1/s", goal=100, at_least=True),
            *_filled(table, rows),
            Figure("disk a state, replaced files not yet dropped", _bytes(Path(folder)) / STATES, "bytes"),
            *_searched(table, vectors, _unit(real[rng.integers(0, REAL, QUERIES)], rng)),
            *_grown(table, rows[-1], _unit(real[:QUERIES], rng)),
        ]


def _filled(table: Vectors, rows: Sequence[StateRow]) -> list[Figure]:
    """Fill the table; its last states come as a backlog, and are searched meanwhile."""
    fill_s = _seconds(lambda at: table.write(rows[at : at + 4_000]), range(0, STATES - BACKLOG, 4_000))
    index_s = _seconds(lambda _: table.optimize(), [0])
    return [
        Figure("states stored a second, 4,000 at once", (STATES - BACKLOG) / sum(fill_s), "1/s"),
        Figure("index of all built in", index_s[0], "s"),
        *_backlog(table, rows),
    ]


def _backlog(table: Vectors, rows: Sequence[StateRow]) -> list[Figure]:
    """Write as the supervisor does: a batch of what it has embedded, and optimize where that is due."""
    write_s, search_s = [], []
    for at in range(STATES - BACKLOG, STATES, BATCH):
        write_s += _seconds(lambda at: (table.tend(), table.write(rows[at : at + BATCH])), [at])
        search_s += _seconds(lambda one: table.search(one.vector, K), [rows[at]])
    return [
        Figure(f"states stored a second, {BATCH} at once, optimized when due", BACKLOG / sum(write_s), "1/s"),
        Figure("search during that backlog, median", float(np.median(search_s)) * 1e3, "ms", goal=10),
    ]


def _searched(table: Vectors, vectors: Array, queries: Array) -> list[Figure]:
    """Search all states, then as `marketd similar` does: one pair's, before a time."""
    place = np.arange(STATES)
    before = STATES // 2
    past = vectors[(place % PAIRS == 0) & (place < before)]

    def anywhere(one: Array) -> list[Neighbour]:
        return table.search(one, K)

    def narrowed(one: Array) -> list[Neighbour]:
        return table.search(one, K, symbol="pair0", before_ns=T0_NS + before * MINUTE_NS)

    out: list[Figure] = []
    for name, search, among in (("", anywhere, vectors), (" in a pair's past", narrowed, past)):
        spent_s = _seconds(search, queries)
        out += [
            Figure(f"search{name}, median", float(np.median(spent_s)) * 1e3, "ms", goal=10),
            Figure(f"search{name}, p99", float(np.quantile(spent_s, 0.99)) * 1e3, "ms"),
            Figure(f"recall@{K}{name}", _recall(among, queries, search), "", goal=0.95, at_least=True),
        ]
    return out


def _grown(table: Vectors, last: StateRow, queries: Array) -> list[Figure]:
    """Write state by state, as many as come before the next optimize, and search among them."""
    later = [
        last._replace(ts_ns=last.ts_ns + (1 + i) * MINUTE_NS, vector=queries[i])
        for i in range(OPTIMIZE_EVERY)
    ]
    write_s = _seconds(lambda one: table.write([one]), later)
    search_s = _seconds(lambda one: table.search(one, K), queries)
    tend_s = _seconds(lambda _: table.tend(), [0])
    get_s = _seconds(lambda at: table.get("pair0", T0_NS + at * MINUTE_NS), range(0, STATES, STATES // 20))
    return [
        Figure("a state stored alone, median", float(np.median(write_s)) * 1e3, "ms"),
        Figure("search just before an optimize, median", float(np.median(search_s)) * 1e3, "ms"),
        Figure(f"optimize, every {OPTIMIZE_EVERY} writes", tend_s[0] * 1e3, "ms"),
        Figure("a pair's state at a time, median", float(np.median(get_s)) * 1e3, "ms"),
    ]


def _seconds(call: Callable[[Any], object], arguments: Iterable[Any]) -> list[float]:
    spent_s = []
    for one in arguments:
        began_s = time.perf_counter()
        call(one)
        spent_s.append(time.perf_counter() - began_s)
    return spent_s


def _recall(among: Array, queries: Array, search: Callable[[Array], list[Neighbour]]) -> float:
    """Say what share of the found is as near as the k nearest: of equally near ones, any will do."""
    good = 0
    for one in queries:
        kth = np.sort(1 - among @ one)[K - 1]
        good += sum(found.distance <= kth + 1e-5 for found in search(one))
    return good / (K * len(queries))


def _states(rng: np.random.Generator) -> list[MarketState]:
    """Walk at random, lively and calm by turns."""
    spread_bps = 6 * np.exp(np.cumsum(rng.normal(0, 0.2, REAL)) % 3 - 1)
    return [_state(rng, minute, width) for minute, width in enumerate(spread_bps.tolist())]


def _state(rng: np.random.Generator, minute: int, width_bps: float) -> MarketState:
    move, up, down = width_bps * 1e-4 * rng.normal(0, 1, 3)
    close = 100 * (1 + move)
    low, high = min(100.0, close) * (1 - abs(down)), max(100.0, close) * (1 + abs(up))
    buy = float(np.clip(0.5 + move * 100 + rng.normal(0, 0.25), 0, 1))
    trades = int(rng.lognormal(4, 1.5)) + 1
    vwap = float(rng.uniform(low, high))
    mass, friction, nash = np.exp(rng.normal(0, 0.8, 3)).tolist()
    alpha = float(rng.uniform(1.2, 4.5))
    return MarketState(
        symbol="pair0",
        ts_ns=T0_NS + minute * MINUTE_NS,
        candle=Candle(0, 100.0, high, low, close, 1.0, buy, 1 - buy, vwap, trades, True, 0),
        physics=Physics(
            mass=mass,
            momentum=float(rng.normal(0, 1.5)),
            friction=friction,
            entropy=float(rng.uniform(0.3, 1)),
            nash_dist=nash,
            alpha=alpha,
            regime="Levy" if alpha < 2 else "Gaussian",
        ),
        sentiment=Sentiment(label="Bullish" if buy > 0.55 else "Bearish", score=buy),
    )


def _unit(vectors: Array, rng: np.random.Generator) -> Array:
    noisy = vectors + rng.normal(0, NOISE, vectors.shape).astype(np.float32)
    unit: Array = noisy / np.linalg.norm(noisy, axis=1, keepdims=True)
    return unit


def _rows(vectors: Array, facts: dict[str, Any]) -> list[StateRow]:
    return [
        StateRow(f"pair{i % PAIRS}", T0_NS + i * MINUTE_NS, facts, vector, VERSION)
        for i, vector in enumerate(vectors)
    ]


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
