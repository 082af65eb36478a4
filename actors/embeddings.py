"""Market states from the pairs' lanes to LanceDB: a text for each closed candle, a vector for each text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import orjson

from actors.page_service import Delivery, PageService
from actors.priority import Place, take
from actors.supervise import bring_back, end, live, vitals
from analytics.state_text import VERSION, MarketState, Physics, Sentiment, metadata, text
from market import rows
from market.errors import Retryable
from storage.pages import decode_states
from storage.vectors import StateRow

if TYPE_CHECKING:
    from storage.minilm import Encoder
    from storage.vectors import Index, Vectors


class _Known(TypedDict, total=False):
    physics: Physics
    sentiment: Sentiment


class StatePages:
    """LanceDB as a store of pages; the model is loaded for the first state, when the pairs have started."""

    def __init__(self, folder: Path, model: str, index: Index) -> None:
        self._folder, self._model_name, self._index = folder, model, index
        self._model: Encoder | None = None
        self._table: Vectors | None = None

    def prepare(self) -> None:
        """Open the table; the libraries' absence or another schema is told at once."""
        if self._table is None:
            self._open()

    def write(self, deliveries: Sequence[Delivery]) -> int:
        """Embed the candles; one of the same time takes the place of an earlier one."""
        assert self._table is not None  # noqa: S101 - prepare comes first
        states = {(state.symbol, state.ts_ns): state for one in deliveries for state in states_of(one)}
        self._table.tend()
        try:
            self._write(self._loaded(), self._table, list(states.values()))
        except Retryable:
            self._table = None  # whatever it was, a table that is opened anew may know better
            raise
        return len(states)

    def ping(self) -> None:
        """Tidy up: nothing is waiting."""
        if self._table is not None:
            self._table.tend()

    def status(self) -> dict[str, Any]:
        try:
            return {"states": self._table.count() if self._table else None}
        except Retryable as error:
            return {"states": None, "error": str(error)}

    def close(self) -> None:
        self._model = self._table = None

    def _open(self) -> None:
        bring_back("pydantic", "pyarrow", "pandas", "rich")
        from storage.vectors import Vectors  # noqa: PLC0415

        self._table = Vectors(self._folder, self._index)

    def _loaded(self) -> Encoder:
        from storage.minilm import Encoder  # noqa: PLC0415 - seconds, and most of a gigabyte

        self._model = self._model or Encoder(self._model_name)
        return self._model

    def _write(self, model: Encoder, table: Vectors, states: Sequence[MarketState]) -> None:
        if not states:
            return
        vectors = model.encode([text(state) for state in states])
        table.write(
            [
                StateRow(state.symbol, state.ts_ns, metadata(state), vector, VERSION)
                for state, vector in zip(states, vectors, strict=True)
            ]
        )


class EmbeddingSupervisor:
    """The service as an actor's class; create it where an event loop runs."""

    def __init__(
        self, path: Path, folder: Path, model: str, index: Index, prepare: Callable[[], None]
    ) -> None:
        prepare()
        take(Place.LAST)
        self._service = PageService("lancedb", path, StatePages(folder, model, index))
        self._task = live(self._service.run())

    async def status(self) -> bytes:
        return orjson.dumps(vitals() | self._service.status())

    async def stop(self) -> None:
        """Close the lanes; what was not acknowledged stays with the pairs."""
        await end(self._task)


def states_of(delivery: Delivery) -> list[MarketState]:
    """Read what a page tells of each bar."""
    symbol = delivery.hello.symbol
    return [
        MarketState(symbol=symbol, ts_ns=bar.ts_ns, candle=bar, **_known(state))
        for bar, state in decode_states(delivery.page.body)
    ]


def _known(state: rows.MarketState | None) -> _Known:
    if state is None:
        return {}
    physics = Physics(
        mass=state.mass,
        momentum=state.momentum,
        friction=state.friction,
        entropy=state.entropy,
        nash_dist=state.nash_dist,
        alpha=state.alpha,
        regime=state.regime,
    )
    sentiment = Sentiment(label=state.sentiment_label, score=state.sentiment_score)
    return {"physics": physics, "sentiment": sentiment}
