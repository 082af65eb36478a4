from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.lane_frames import (
    MAX_FRAME_BYTES,
    TARGET_FRAME_BYTES,
    Ack,
    Events,
    Frame,
    Hello,
    Outgoing,
    Resume,
    Snapshot,
    encode,
    event_frames,
    pair_reader,
    supervisor_reader,
)
from market.errors import BadFrame

seqs = st.integers(0, 2**63 - 1)
outgoings = st.builds(Outgoing, seqs, seqs, st.binary(max_size=300))
values = st.one_of(st.text(max_size=20), st.integers(-(2**63), 2**63), st.floats(allow_nan=False))
to_supervisor = st.one_of(
    st.builds(Hello, st.text(max_size=20), st.text(max_size=20), seqs, seqs),
    st.builds(Events, seqs, st.lists(outgoings, max_size=5)),
    st.builds(Snapshot, st.dictionaries(st.text(max_size=5), values, max_size=5)),
)


def test_the_bytes_of_a_frame_are_fixed() -> None:
    assert encode(Ack(7)) == b"\x06\x00\x00\x00\x92\xa3ack\x07"


@given(st.lists(to_supervisor, max_size=6), st.integers(1, 50))
def test_any_slicing_of_the_stream_gives_the_same_frames(frames: list[Frame], size: int) -> None:
    stream = b"".join(bytes(encode(frame)) for frame in frames)
    reader = supervisor_reader()
    got = [f for at in range(0, len(stream), size) for f in reader.feed(stream[at : at + size])]
    assert got == frames


def test_what_a_supervisor_says() -> None:
    assert list(pair_reader().feed(bytes(encode(Resume(0, 1)) + encode(Ack(2**40))))) == [
        Resume(0, 1),
        Ack(2**40),
    ]


def test_a_frame_over_the_bound_is_refused_before_it_is_read() -> None:
    with pytest.raises(BadFrame, match=str(MAX_FRAME_BYTES)):
        list(supervisor_reader().feed((MAX_FRAME_BYTES + 1).to_bytes(4, "little")))


@given(st.binary(min_size=1, max_size=60))
def test_garbage_is_a_bad_frame_or_nothing(garbage: bytes) -> None:
    reader = supervisor_reader()
    try:
        for frame in reader.feed(len(garbage).to_bytes(4, "little") + garbage):
            assert isinstance(frame, Hello | Events | Snapshot)
    except BadFrame:
        pass


def test_the_wrong_ends_frames_are_refused() -> None:
    with pytest.raises(BadFrame):
        list(supervisor_reader().feed(bytes(encode(Ack(1)))))


@given(st.lists(st.integers(0, TARGET_FRAME_BYTES * 2), max_size=8))
def test_events_are_cut_into_frames_of_bounded_size(sizes: list[int]) -> None:
    events = [Outgoing(seq, 0, bytes(size)) for seq, size in enumerate(sizes)]
    frames = list(event_frames(1, events))
    assert [event for frame in frames for event in frame.events] == events
    assert all(
        len(frame.events) == 1 or sum(len(e.message) for e in frame.events) <= TARGET_FRAME_BYTES
        for frame in frames
    )
