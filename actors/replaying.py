"""A pair's replay, of trade files or of raw frames, set to go on where its record stands."""

from __future__ import annotations

from actors.engine import Feed
from actors.spec import PairSpec, ReplaySource
from actors.state import Ledger
from feeds.intake import Intake, IntakeRules
from feeds.replay import Ids, ReplayFeed, recorded_pair
from feeds.replay_frames import FrameReplay, Told
from feeds.replay_order import Named, Numbered
from feeds.venues import VENUES
from market.pairs import Pair
from market.times import NS_PER_MS


def replay_feed(spec: PairSpec, source: ReplaySource, ledger: Ledger) -> Feed:
    """Make the feed; raises UsageError for files that cannot be read."""
    recorded = recorded_pair(source.files)
    if recorded is not None:
        return _frames(spec, source, ledger, recorded)
    ids = Ids(spec.contiguous, ledger.recent_ids)
    return ReplayFeed(source.files, source.speed, ledger.next_id, ledger.last_ts_ns, ids)


def _frames(spec: PairSpec, source: ReplaySource, ledger: Ledger, recorded: Pair) -> FrameReplay:
    """Read frames as the venue that sent them would be heard, whatever the pair is called here."""
    venue, engine = VENUES[recorded.exchange, recorded.market], spec.engine
    order = (
        Numbered(ledger.next_id, ledger.last_ts_ns)
        if venue.rules.contiguous
        else Named(ledger.next_seq, ledger.recent_ids, ledger.last_ts_ns)
    )
    rules = IntakeRules(engine.stale_after_s, engine.close_grace_ms, engine.quotes_interval_ms)
    intake = Intake(venue, recorded.symbol, order, rules, stale=ledger.stale)
    interval_ns = engine.quotes_interval_ms * NS_PER_MS
    told = Told(venue, recorded.symbol, order, interval_ns, ledger.last_ts_ns)
    return FrameReplay(source.files, source.speed, told, intake)
