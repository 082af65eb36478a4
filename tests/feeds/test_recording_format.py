"""The form in which frames are kept: what goes in comes out, and of a damaged file what can be trusted."""

from __future__ import annotations

import gzip
import json
import random
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feeds.recording_format import Kept, Packer, Unpacker
from market.errors import UsageError

PAIR = "coinbase:spot:BTC-USD"
MEMBER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00"  # how gzip begins, and cannot go on
NS = 1_786_309_548_629_007_801


def unpacked(data: bytes) -> tuple[list[Kept], Unpacker]:
    unpacker = Unpacker(data)
    return list(unpacker.frames()), unpacker


def packed(blocks: list[list[Kept]]) -> bytes:
    packer = Packer(PAIR)
    return b"".join(packer.block(x) for x in blocks) + packer.end()


def some(count: int, start: int = 0) -> list[Kept]:
    """Make frames that differ, and compress neither to nothing nor not at all."""
    rng = random.Random(start)
    return [
        Kept(NS + i, 1 + i % 2, "/ws", b'{"trade_id":%d,"price":"%d"}' % (i, rng.randrange(10**9)))
        for i in range(start, start + count)
    ]


@given(
    st.lists(
        st.lists(
            st.builds(
                Kept,
                st.integers(0, 2**63 - 1),
                st.integers(1, 10**6),
                st.text(st.characters(exclude_categories=["Cs"]), max_size=9),
                st.one_of(
                    st.binary(max_size=40), st.text(max_size=40).map(lambda x: x.encode(errors="replace"))
                ),
            ),
            min_size=1,
            max_size=5,
        ),
        max_size=5,
    )
)
def test_whatever_goes_in_comes_out(blocks: list[list[Kept]]) -> None:
    got, unpacker = unpacked(packed(blocks))
    assert got == [x for block in blocks for x in block]
    assert (unpacker.torn, unpacker.damaged, unpacker.pair) == (False, 0, PAIR if blocks else "")


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\n",
        b"\r\n",
        b'{"check":1}',
        b'\n{"check":1}\n',
        b"\xff\x00\n",
        b"\x1f\x8b\x08\0\0\0\0\0",
        b"\xe2\x80\xa8",
    ],
)
def test_no_frame_can_be_taken_for_part_of_the_form(frame: bytes) -> None:
    blocks = [[Kept(NS, 1, "/", frame)], [Kept(NS, 1, "/", b"after")]]
    assert unpacked(packed(blocks))[0] == [blocks[0][0], blocks[1][0]]


def test_any_tool_can_read_it() -> None:
    """Only gzip and json are needed, and the lines mean what the docstring says."""
    frames = [Kept(NS, 1, "/ws", b'{"price":"1"}'), Kept(NS + 1, 2, "/ws", b"\xff")]
    text = gzip.decompress(packed([frames]))
    header, first, second, check = text.splitlines(keepends=True)
    assert json.loads(header) == {"format": "marketd frames", "version": 1, "pair": PAIR}
    assert json.loads(first) == {"ns": NS, "connection": 1, "path": "/ws", "frame": '{"price":"1"}'}
    assert json.loads(second) == {"ns": NS + 1, "connection": 2, "path": "/ws", "bytes": "/w=="}
    assert json.loads(check) == {"check": zlib.crc32(header + first + second)}


def test_a_block_can_be_read_as_soon_as_it_is_written() -> None:
    packer, data = Packer(PAIR), b""
    for i in range(20):
        data += packer.block(some(3, 3 * i))
        got, unpacker = unpacked(data)
        assert got == [x for j in range(i + 1) for x in some(3, 3 * j)]
        assert (unpacker.torn, unpacker.damaged) == (True, 0)


def test_a_member_ends_when_it_is_full() -> None:
    blocks = [some(2, 2 * i) for i in range(20)]
    packer = Packer(PAIR, 500)
    data = b"".join(packer.block(x) for x in blocks) + packer.end()
    assert 4 < data.count(MEMBER) < 12
    assert unpacked(data)[0] == [x for block in blocks for x in block]
    assert gzip.decompress(data).count(b'"format"') == data.count(MEMBER)


@pytest.fixture
def members() -> tuple[list[list[Kept]], list[bytes]]:
    """Give six blocks, and what each appended to the file: two of them are a member."""
    packer = Packer(PAIR, 450)
    blocks = [some(2, 2 * i) for i in range(6)]
    parts = [packer.block(x) for x in blocks]
    assert b"".join(parts).count(MEMBER) == 3
    assert packer.end() == b""
    return blocks, parts


def test_cut_at_any_byte_the_rest_is_what_was_written_before(
    members: tuple[list[list[Kept]], list[bytes]],
) -> None:
    blocks, parts = members
    data, everything = b"".join(parts), [x for block in blocks for x in block]
    ends = [sum(map(len, parts[: i + 1])) for i in range(len(parts))]
    assert len(data) > 500
    for cut in range(len(data) + 1):
        got, unpacker = unpacked(data[:cut])
        written = 2 * sum(end <= cut for end in ends)
        assert got == everything[: len(got)], cut
        assert len(got) in {written, written + 2}, cut  # a flush ends with bytes that tell nothing new
        assert unpacker.damaged == 0, cut
        at_a_seam = cut in {0, ends[1], ends[3], ends[5]}
        assert unpacker.torn != at_a_seam or cut < 8, cut


def test_after_a_cut_frames_that_follow_in_a_new_member_are_read(
    members: tuple[list[list[Kept]], list[bytes]],
) -> None:
    blocks, parts = members
    later = some(3, 100)
    for cut in range(1, len(parts[0]) + len(parts[1])):
        got, unpacker = unpacked(b"".join(parts)[:cut] + packed([later]))
        assert got[-3:] == later
        assert got[:-3] in ([], blocks[0], blocks[0] + blocks[1])
        assert unpacker.damaged == 1
        assert unpacker.torn is False


def test_one_bit_turned_anywhere_costs_no_other_member_and_makes_no_wrong_frame(
    members: tuple[list[list[Kept]], list[bytes]],
) -> None:
    blocks, parts = members
    data = b"".join(parts)
    starts = [0, len(parts[0] + parts[1]), len(b"".join(parts[:4])), len(data)]
    for at in range(len(data)):
        for bit in (0, 3, 7):
            bad = bytearray(data)
            bad[at] ^= 1 << bit
            got, unpacker = unpacked(bytes(bad))
            hit = next(i for i in range(3) if starts[i] <= at < starts[i + 1])
            read = [block for block in blocks if all(x in got for x in block)]
            assert got == [x for block in read for x in block], at  # whole blocks, in order, unchanged
            kept = [block for i, block in enumerate(blocks) if i // 2 != hit]
            assert [block for block in read if block in kept] == kept, at
            assert unpacker.damaged + unpacker.torn >= (got != [x for b in blocks for x in b]), at


@pytest.mark.parametrize(
    "tail", [b"\0" * 5_000, b"\xff" * 100, b"garbage", random.Random(1).randbytes(9_999)]
)
def test_what_a_power_cut_leaves_behind_the_last_block_is_not_read(tail: bytes) -> None:
    packer = Packer(PAIR)
    data = packer.block(some(4)) + packer.block(some(4, 4))
    got, unpacker = unpacked(data + tail)
    assert got == some(8)[:4] + some(4, 4)
    assert unpacker.damaged + unpacker.torn == 1


@pytest.mark.parametrize(
    "data", [b"PK\x03\x04 other", b'{"ns":1}\n', b"\x1f\x8b\x08\x08" + b"x" * 90, b"\0" * 20]
)
def test_a_file_of_another_kind_is_refused(data: bytes) -> None:
    with pytest.raises(UsageError, match="no recording of frames"):
        unpacked(data)


def test_frames_of_a_later_version_are_refused() -> None:
    lines = b'{"format":"marketd frames","version":2,"pair":"x"}\n{"something":"new"}\n'
    text = lines + b'{"check":%d}\n' % zlib.crc32(lines)
    with pytest.raises(UsageError, match="version 2"):
        unpacked(gzip.compress(text, mtime=0))


@pytest.mark.parametrize(
    "text", [b"", b"x", b'{"ns":1}\n', b'{"ns":1,"connection":1,"path":"","frame":""}\n']
)
def test_lines_without_a_checksum_are_not_believed(text: bytes) -> None:
    got, unpacker = unpacked(gzip.compress(text, mtime=0))
    assert (got, unpacker.damaged) == ([], int(bool(text)))


@given(st.binary(max_size=200), st.randoms(use_true_random=False))
def test_damage_of_any_kind_never_makes_a_frame(noise: bytes, rng: random.Random) -> None:
    frames = some(6)
    data = packed([frames[:3], frames[3:]])
    a, b = sorted(rng.randrange(len(data) + 1) for _ in range(2))
    bad = data[:a] + noise + data[b:]
    try:
        got, _ = unpacked(bad)
    except UsageError:
        return
    assert got in ([], frames[:3], frames)
