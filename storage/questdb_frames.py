"""Ticks and candles as the frames that QuestDB's client sends fastest."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np

from market.rows import Candle
from market.ticks import Ticks, joined

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

_CANDLE_COLUMNS = ("open", "high", "low", "close", "volume", "vwap", "trade_count")
_SIDES = ["B", "S"]
_SIDE_CODES = np.array([-1, 0, 1], np.int8)  # by side: none for 0, B for 1, S for -1 (the last)


class TradeRows(NamedTuple):
    """Consecutive trades of one pair."""

    symbol: str  # the pair's alias
    exchange: str
    first_seq: int
    ticks: Ticks
    ids: tuple[str, ...] = ()  # the venue's, where they are text


CandleRows: TypeAlias = tuple[str, Sequence[Candle]]
"""A pair's alias and bars of it."""


def trades_frame(batch: Sequence[TradeRows]) -> pd.DataFrame:
    """Lay out trades as the columns of `trades`."""
    import pandas as pd  # noqa: PLC0415 - pandas is for the one process that writes to QuestDB
    import pyarrow as pa  # noqa: PLC0415

    ticks = joined(part.ticks for part in batch)
    lengths = [len(part.ticks) for part in batch]
    seqs = [np.arange(part.first_seq, part.first_seq + len(part.ticks)) for part in batch]
    return pd.DataFrame(
        {
            "symbol": _symbols((part.symbol for part in batch), lengths),
            "exchange": _symbols((part.exchange for part in batch), lengths),
            "side": pd.Categorical.from_codes(_SIDE_CODES[ticks["side"]], _SIDES),
            "price": np.ascontiguousarray(ticks["price"]),
            "size": np.ascontiguousarray(ticks["size"]),
            "seq": np.concatenate(seqs) if seqs else np.empty(0, np.int64),
            "trade_id": pd.Series(_ids(batch, ticks), dtype=pd.ArrowDtype(pa.string())),
            "timestamp": _microseconds(ticks["ts_ns"]),
        },
        copy=False,
    )


def candles_frame(batch: Sequence[CandleRows]) -> pd.DataFrame:
    """Lay out complete bars as the columns of `ohlcv_1m`; of one that comes again, the last."""
    import pandas as pd  # noqa: PLC0415

    newest = {(symbol, bar.ts_ns): bar for symbol, candles in batch for bar in candles if bar.is_complete}
    bars = list(newest.values())
    columns: dict[str, Any] = {
        name: np.array(
            [getattr(bar, name) for bar in bars], np.int64 if name == "trade_count" else np.float64
        )
        for name in _CANDLE_COLUMNS
    }
    return pd.DataFrame(
        {
            "symbol": _symbols((symbol for symbol, _ in newest), [1] * len(bars)),
            **columns,
            "timestamp": _microseconds(np.array([bar.ts_ns for bar in bars], np.int64)),
        },
        copy=False,
    )


def dead_letters_frame(table: str, rows: pd.DataFrame, reasons: Sequence[str]) -> pd.DataFrame:
    """Lay out refused rows as the columns of `dead_letters`."""
    import pandas as pd  # noqa: PLC0415

    return pd.DataFrame(
        {
            "table_name": pd.Categorical([table] * len(rows)),
            "symbol": rows["symbol"].astype(str).to_list(),
            "reason": list(reasons),
            "row": [row.to_json(date_format="iso", date_unit="us") for _, row in rows.iterrows()],
            "timestamp": np.maximum(rows["timestamp"].to_numpy().view(np.int64), 0).view("M8[us]"),
        },
    )


def before_1970(frame: pd.DataFrame) -> Any:
    """Tell the rows that the client would not send, and those it would send with the server's time."""
    return np.flatnonzero(frame["timestamp"].to_numpy().view(np.int64) < 0)


def _ids(batch: Sequence[TradeRows], ticks: Ticks) -> pa.Array:
    import pyarrow as pa  # noqa: PLC0415

    if not any(part.ids for part in batch):
        return pa.array(np.ascontiguousarray(ticks["trade_id"])).cast(pa.string())
    numbers = (map(str, part.ticks["trade_id"].tolist()) for part in batch)
    return pa.array(
        [name for part, own in zip(batch, numbers, strict=True) for name in part.ids or own], pa.string()
    )


def _symbols(names: Iterable[str], lengths: Sequence[int]) -> pd.Categorical:
    import pandas as pd  # noqa: PLC0415

    codes: dict[str, int] = {}
    each = [codes.setdefault(name, len(codes)) for name in names]
    return pd.Categorical.from_codes(np.repeat(np.array(each, np.int32), lengths), list(codes))


def _microseconds(ts_ns: Any) -> Any:
    return (ts_ns // 1_000).view("M8[us]")
