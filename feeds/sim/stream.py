from __future__ import annotations

from collections.abc import Container
from typing import NamedTuple

from feeds.sim.listing import Listing
from feeds.sim.tape import Trade
from feeds.sim.wire import aggregate_json, book_json, trade_json
from market.times import NS_PER_MS

QUOTE_EVERY_NS = 50 * NS_PER_MS


class Message(NamedTuple):
    """One event of a stream; `trade_id` is the trade it tells of, an aggregate's last, 0 for a quote."""

    stream: str
    trade_id: int
    payload: str


class SymbolStreams:
    """Write what the streams of one symbol say about new trades."""

    def __init__(self, listing: Listing) -> None:
        self._listing = listing
        lower = listing.symbol.lower()
        self.trade, self.aggregate, self.quote = f"{lower}@trade", f"{lower}@aggTrade", f"{lower}@bookTicker"
        self._quoted_price = ""
        self._quoted_ns = -QUOTE_EVERY_NS

    @property
    def names(self) -> tuple[str, str, str]:
        return self.trade, self.aggregate, self.quote

    def messages(self, trades: list[Trade], event_ms: int, wanted: Container[str]) -> list[Message]:
        """Tell of the trades on the wanted streams, in the order of the trades, quotes after theirs."""
        symbol = self._listing.symbol
        out: list[Message] = []
        aggregates = self._completed(trades, event_ms) if self.aggregate in wanted else {}
        tell_trades, tell_quotes = self.trade in wanted, self.quote in wanted
        for trade in trades:
            if tell_trades:
                out.append(Message(self.trade, trade.id, trade_json(symbol, trade, event_ms)))
            if trade.id in aggregates:
                out.append(aggregates[trade.id])
            if tell_quotes and self._quote_due(trade):
                out.append(Message(self.quote, 0, book_json(symbol, trade, self._listing.history.tick_e8)))
        return out

    def _completed(self, trades: list[Trade], event_ms: int) -> dict[int, Message]:
        """Give the aggregates that the trades completed, by their last trade."""
        history = self._listing.history
        first, last = trades[0].id, trades[-1].id
        rows = self._listing.aggregates(history.aggregate_of(first), history.aggregate_of(last))
        return {
            row.last_id: Message(
                self.aggregate,
                row.last_id,
                aggregate_json(self._listing.symbol, row, event_ms),
            )
            for row in rows
        }

    def _quote_due(self, trade: Trade) -> bool:
        due = trade.price != self._quoted_price and trade.ts_ns >= self._quoted_ns + QUOTE_EVERY_NS
        if due:
            self._quoted_price, self._quoted_ns = trade.price, trade.ts_ns
        return due
