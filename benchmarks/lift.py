"""Whether neighbours are alike: do the nearest past states of a minute share more than chance with it.

Asked is for its regime, its sentiment, and what came next.

The states are made by the folds from recorded trades. Regime and sentiment are words of the text, so a model
that reads finds them; a text without these words (and the tails', which say the regime again) must have them
from the others, and what came next is in no text. `numbers` is the same state as a plain vector of
standardised figures, alpha and the score among them, or not ("without the two"). Neighbours are at least an
hour older than the minute asked about.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, TypeAlias

import duckdb
import numpy as np
from numpy.typing import NDArray

from analytics import candles, market_state
from analytics.panes import panes
from analytics.state_text import MarketState, Physics, Sentiment, text
from benchmarks.figures import Figure
from market import rows
from market.rows import Candle
from market.ticks import TICK, Ticks
from market.times import NS_PER_S
from storage.minilm import Encoder

K = 5
LEAST = 100  # minutes that are an hour older: with fewer, nothing is asked
WIDTH_NS = 60 * NS_PER_S
APART_NS = 3_600 * NS_PER_S
AHEAD = 15  # minutes

Floats: TypeAlias = NDArray[np.float64]
Classes: TypeAlias = NDArray[np.int64]


class Recording(NamedTuple):
    name: str
    file: str
    state_step_s: int
    trade_id: str = "trade_id"  # names of columns
    side: str = "side"


RECORDINGS = (
    Recording("SPY", "ticks_equity/spy_20131007-09.csv.gz", 1, "seq", "side_inferred"),
    Recording("BAC", "ticks_equity/bac_20131007-09.csv.gz", 1, "seq", "side_inferred"),
    Recording("XRPETH", "trades/binance_spot_xrpeth_aggtrades_2019_part1.csv.gz", 60),
)


def measure_lift(folder: Path | None) -> list[Figure]:
    """Measure on recorded trades under a folder."""
    if folder is None:
        raise ValueError("tell the folder of recorded trades: --recordings FOLDER")
    encoder = Encoder()
    return [figure for one in RECORDINGS for figure in _measured(one, folder, encoder)]


def _measured(recording: Recording, folder: Path, encoder: Encoder) -> list[Figure]:
    states = states_of(trades(folder / recording.file, recording), recording.state_step_s)
    times = np.array([state.ts_ns for state in states])
    vectors = {
        "text": _embedded(encoder, states),
        "text without the two": _embedded(encoder, [_unlabelled(state) for state in states]),
        "text of the candle alone": _embedded(encoder, [_bare(state) for state in states]),
        "numbers": _standardised(states),
        "numbers without the two": _standardised([_unlabelled(state) for state in states]),
    }
    outcomes = _outcomes(states)
    nearest = {name: neighbours(vector, times) for name, vector in vectors.items()}
    asked = sum(1 for row in nearest["text"] if row.size)
    out = [Figure(f"{recording.name}, minutes asked about", asked, "")]
    for what, classes in outcomes.items():
        if len(np.unique(classes)) == 1:  # nothing to find
            continue
        out.append(Figure(f"{recording.name}, same {what}, by chance", chance(classes, times), ""))
        out += [
            Figure(f"{recording.name}, same {what}, lift of {name}", lift(classes, times, found), "times")
            for name, found in nearest.items()
        ]
    return out


def trades(path: Path, recording: Recording) -> Ticks:
    """Read recorded trades in the order of time."""
    with duckdb.connect() as con:
        columns = con.execute(
            f"SELECT {recording.trade_id} AS id, ts_event_ns, price, size, {recording.side} = 'buy' AS buys "  # noqa: S608 - ours
            "FROM read_csv(?) ORDER BY ts_event_ns, id",
            [str(path)],
        ).fetchnumpy()
    ticks = np.zeros(len(columns["id"]), TICK)
    ticks["trade_id"], ticks["ts_ns"] = columns["id"], columns["ts_event_ns"]
    ticks["price"], ticks["size"] = columns["price"], columns["size"]
    ticks["side"] = np.where(columns["buys"], 1, -1)
    return ticks


def states_of(ticks: Ticks, state_step_s: int) -> list[MarketState]:
    """Make the state of each minute that had trades and whose regime is known, as a pair does."""
    fold = market_state.init(market_state.Params(step_ns=state_step_s * NS_PER_S))
    told = {row.ts_ns: row for row in market_state.step(fold, ticks)}
    closed = candles.step(candles.init(WIDTH_NS), panes(ticks, WIDTH_NS))
    pairs = [(bar, told.get(bar.ts_ns + WIDTH_NS)) for bar in closed if bar.trade_count]
    return [_state(bar, row) for bar, row in pairs if row is not None and row.alpha is not None]


def neighbours(vectors: Floats, times: NDArray[np.int64]) -> list[NDArray[np.intp]]:
    """Find the K nearest of the states an hour and more before each; none where those are few."""
    out = []
    for i, vector in enumerate(vectors):
        past = int(np.searchsorted(times, times[i] - APART_NS, "right"))
        far = ((vectors[:past] - vector) ** 2).sum(axis=1)
        out.append(np.argsort(far, kind="stable")[:K] if past >= LEAST else np.zeros(0, np.intp))
    return out


def lift(classes: Classes, times: NDArray[np.int64], found: Sequence[NDArray[np.intp]]) -> float:
    """Compare how often neighbours are of the same class with chance; states without a class are left out."""
    same = [
        _share(classes, near, classes[i]) for i, near in enumerate(found) if near.size and classes[i] >= 0
    ]
    return float(np.nanmean(same)) / chance(classes, times)


def chance(classes: Classes, times: NDArray[np.int64]) -> float:
    """Give the share of the candidates of each state that are of its class, on average."""
    pasts = [int(np.searchsorted(times, at - APART_NS, "right")) for at in times]
    same = [
        _share(classes, np.arange(past), classes[i])
        for i, past in enumerate(pasts)
        if past >= LEAST and classes[i] >= 0
    ]
    return float(np.nanmean(same))


def _share(classes: Classes, among: NDArray[np.intp], one: int) -> float:
    known = classes[among]
    known = known[known >= 0]
    return float((known == one).mean()) if known.size else float("nan")


def _state(bar: Candle, row: rows.MarketState) -> MarketState:
    physics = Physics(
        mass=row.mass,
        momentum=row.momentum,
        friction=row.friction,
        entropy=row.entropy,
        nash_dist=row.nash_dist,
        alpha=row.alpha,
        regime=row.regime,
    )
    sentiment = Sentiment(label=row.sentiment_label, score=row.sentiment_score)
    return MarketState(symbol="", ts_ns=bar.ts_ns, candle=bar, physics=physics, sentiment=sentiment)


def _unlabelled(state: MarketState) -> MarketState:
    return replace(state, physics=replace(state.physics, regime=None, alpha=None), sentiment=Sentiment())


def _bare(state: MarketState) -> MarketState:
    return replace(state, physics=Physics(), sentiment=Sentiment())


def _embedded(encoder: Encoder, states: Sequence[MarketState]) -> Floats:
    """Embed each text once: many minutes read the same."""
    texts = [text(state) for state in states]
    different = list(dict.fromkeys(texts))
    place = {one: i for i, one in enumerate(different)}
    vectors: Floats = encoder.encode(different).astype(np.float64)
    return vectors[[place[one] for one in texts]]


def _standardised(states: Sequence[MarketState]) -> Floats:
    """Put the figures behind the words side by side, each of mean 0 and deviation 1; unknown is the mean."""
    table: Floats = np.array([[np.nan if x is None else x for x in _figures(state)] for state in states])
    table = table[:, ~np.isnan(table).all(axis=0)]
    deviation = np.nanstd(table, axis=0)
    scaled = (table - np.nanmean(table, axis=0)) / np.where(deviation > 0, deviation, 1.0)
    bounded: Floats = np.nan_to_num(np.clip(scaled, -4, 4))
    return bounded


def _figures(state: MarketState) -> list[float | None]:
    bar, physics = state.candle, state.physics
    both = bar.buy_volume + bar.sell_volume
    return [
        1e4 * np.log(bar.close / bar.open),
        np.log1p(1e4 * (bar.high / bar.low - 1)),
        (bar.close - bar.low) / (bar.high - bar.low) if bar.high > bar.low else 0.5,
        (bar.buy_volume - bar.sell_volume) / both if both else None,
        np.log(bar.trade_count),
        1e4 * np.log(bar.close / bar.vwap),
        _log(physics.mass),
        physics.momentum,
        _log(physics.friction),
        physics.entropy,
        physics.nash_dist,
        1 / physics.alpha if physics.alpha else None,
        state.sentiment.score,
    ]


def _log(value: float | None) -> float | None:
    return float(np.log(value)) if value else None


def _outcomes(states: Sequence[MarketState]) -> dict[str, Classes]:
    """Give each state classes to share: -1 is none."""
    regimes = {"Levy": 0, "Gaussian": 1}
    labels = {"Bullish": 0, "Neutral": 1, "Bearish": 2}
    return {
        "regime": np.array([regimes[state.physics.regime or ""] for state in states]),
        "sentiment": np.array([labels[state.sentiment.label or ""] for state in states]),
        f"direction {AHEAD} minutes on": _classes(_ahead(states, _direction), thirds=False),
        f"third of the range in {AHEAD} minutes": _classes(_ahead(states, _range), thirds=True),
    }


def _ahead(states: Sequence[MarketState], measure: Callable[[Candle, Sequence[Candle]], float]) -> Floats:
    """Measure the minutes that follow each state; NaN where they are not on record without a break."""
    bars = {state.ts_ns: state.candle for state in states}
    out = []
    for state in states:
        later = [bars.get(state.ts_ns + n * WIDTH_NS) for n in range(1, AHEAD + 1)]
        known = [bar for bar in later if bar is not None]
        out.append(measure(state.candle, known) if later[-1] is not None else float("nan"))
    return np.array(out)


def _direction(bar: Candle, later: Sequence[Candle]) -> float:
    return later[-1].close / bar.close - 1


def _range(_: Candle, later: Sequence[Candle]) -> float:
    return max(bar.high for bar in later) / min(bar.low for bar in later) - 1


def _classes(values: Floats, *, thirds: bool) -> Classes:
    edges = np.nanquantile(values, [1 / 3, 2 / 3]) if thirds else np.array([0.0])
    found = np.searchsorted(edges, values, "right")
    return np.where(np.isnan(values), -1, found).astype(np.int64)
