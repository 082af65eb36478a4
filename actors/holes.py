"""Trades that are missing: what the record holds of each gap, and how it ends. Pure."""

from __future__ import annotations

from actors.effects import Effects
from actors.payloads import payload
from actors.state import Gap, Ledger
from market.inputs import GapClosed, GapOpened
from market.ticks import Ticks


def count_ids(ledger: Ledger, ids: Ticks) -> None:
    """Note which ids are here now."""
    ledger.next_id = max(ledger.next_id or 0, int(ids.max()) + 1)
    for gap in [gap for gap in ledger.gaps if gap.counted]:
        inside = ids[(ids >= gap.first_id) & (ids <= gap.last_id)]
        if len(inside):
            gap.rows_filled += len(inside)
            gap.next_id = max(gap.next_id, int(inside.max()) + 1)


def opened(ledger: Ledger, out: Effects, hole: GapOpened) -> None:
    gap = Gap(
        ledger.next_gap,
        hole.first_id,
        hole.last_id,
        hole.first_id,
        hole.from_ns,
        hole.to_ns,
        hole.detected_ns,
        hole.reason,
        counted=hole.counted,
    )
    ledger.next_gap += 1
    ledger.gaps.append(gap)
    row = gap.row("OPEN", None)
    out.rows.insert("data_gaps", row)
    out.announce(ledger, "DATA_GAP", hole.detected_ns, payload(row))


def closed(ledger: Ledger, out: Effects, end: GapClosed) -> None:
    """Close the gap's row: FILLED, or UNFILLABLE if the record does not have all of it."""
    for gap in [g for g in ledger.gaps if g.first_id == end.first_id]:
        ledger.gaps.remove(gap)
        if lost := _lost(ledger, gap, end):
            ledger.gaps_unfillable += 1
            why = f"{lost} missing: {end.reason}" if gap.counted else end.reason
            gap.reason = f"{gap.reason}; {why}"
        row = gap.row("UNFILLABLE" if lost else "FILLED", end.closed_ns)
        out.rows.replace("data_gaps", row)
        out.announce(ledger, "DATA_GAP" if lost else "DATA_GAP_FILLED", end.closed_ns, payload(row))


def _lost(ledger: Ledger, gap: Gap, end: GapClosed) -> int:
    """Count what of a gap is not in the record; what has no ids can only be believed."""
    if not gap.counted:
        gap.rows_filled = end.rows
        return end.missing
    ledger.next_id = max(ledger.next_id or 0, gap.last_id + 1)
    return gap.last_id - gap.first_id + 1 - gap.rows_filled
