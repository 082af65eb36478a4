from __future__ import annotations

from collections import deque

import pytest

from actors.lane_frames import Hello, Outgoing
from actors.signal_feed import PIPELINE_EVENTS, SHARE_EVENTS, Feed, gather, take_turn
from market.errors import SequenceBroken


def feed(symbol: str, events: int, size: int = 10) -> Feed:
    feed = Feed(Hello(symbol, symbol, 0, 0))
    feed.begin(0, 100)
    feed.accept([Outgoing(seq, 0, bytes(size)) for seq in range(1, events + 1)])
    return feed


def test_a_pipeline_is_bounded_and_fair() -> None:
    turns: deque[Feed] = deque()
    feeds = [feed(f"s{i}", 10 if i % 2 else 1_000) for i in range(40)]
    sent = {f.symbol: 0 for f in feeds}
    for f in [*feeds, *feeds]:
        take_turn(turns, f)
    rounds = 0
    while turns:
        batch = gather(turns)
        rounds += 1
        assert sum(map(len, batch.values())) < PIPELINE_EVENTS + SHARE_EVENTS
        for f, events in batch.items():
            sent[f.symbol] += len(events)
            f.confirm(events)
            take_turn(turns, f)
        if rounds == 3:
            assert all(sent.values())
    assert sent == {f.symbol: f.acked for f in feeds}
    assert all(f.pending_bytes == 0 for f in feeds)


def test_a_feed_takes_only_what_follows() -> None:
    f = feed("s", 3)
    with pytest.raises(SequenceBroken):
        f.accept([Outgoing(5, 0, b"")])
    f.accept([Outgoing(4, 0, b"")])
    assert f.last_seq == 4


@pytest.mark.parametrize(("stream", "start"), [(0, 0), (2, 2), (3, None), (5, None)])
def test_a_feed_is_rewound_to_what_the_stream_still_has(stream: int, start: int | None) -> None:
    f = feed("s", 5)
    f.confirm(f.share()[:3])
    assert f.rewind(stream, 100) == start
    assert f.last_seq == 5  # the record is as long as it was
    assert len(f.pending) == (2 if start is None else 0)


@pytest.mark.parametrize(
    ("last", "cursor", "stream", "start"),
    [
        (50, 45, 50, 45),  # in the stream, perhaps not published
        (50, 45, 30, 30),  # the stream lost some
        (50, 45, 0, 0),
        (5_000, 5_000, 0, 4_900),  # a stream begun anew holds the newest 100
        (5_000, 4_000, 0, 4_000),  # but nothing is skipped that was never sent
        (5_000, 10, 5_000, 10),
    ],
)
def test_where_a_pair_begins(last: int, cursor: int, stream: int, start: int) -> None:
    assert Feed(Hello("p", "s", last, cursor)).begin(stream, 100) == start
