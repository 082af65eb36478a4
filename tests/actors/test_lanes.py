from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop
from structlog.testing import capture_logs

from actors.lane_client import PAGE_EVENTS
from actors.lane_frames import Ack, Fields, Hello, Outgoing, Snapshot, encode
from actors.lane_server import Lane, LaneServer
from tests.actors.record import Record, running
from tests.support import eventually


class Supervisor:
    """Keeps what arrives; resumes at `start`, acknowledges at once while `acking`."""

    def __init__(self) -> None:
        self.lanes: list[Lane] = []
        self.got: list[Outgoing] = []
        self.snapshots: list[Fields] = []
        self.start: int | None = 0
        self.acking = True

    def joined(self, lane: Lane) -> None:
        self.lanes.append(lane)
        if self.start is not None:
            lane.resume(self.start)

    def events(self, lane: Lane, events: list[Outgoing]) -> None:
        self.got += events
        if self.acking:
            lane.ack(events[-1].seq)

    def snapshot(self, lane: Lane, fields: Fields) -> None:
        assert lane in self.lanes
        self.snapshots.append(fields)

    def left(self, lane: Lane) -> None:
        self.lanes.remove(lane)

    @property
    def seqs(self) -> list[int]:
        return [event.seq for event in self.got]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "signals.sock"


@pytest.fixture
def supervisor() -> Supervisor:
    return Supervisor()


@pytest.fixture
async def server(path: Path, supervisor: Supervisor) -> AsyncIterator[LaneServer[Lane]]:
    server = LaneServer[Lane](path, lambda server: Lane(server, supervisor))
    await server.start()
    yield server
    server.close()


def one_to(last: int) -> list[int]:
    return list(range(1, last + 1))


async def test_history_then_live_in_order(
    path: Path, supervisor: Supervisor, server: LaneServer[Lane]
) -> None:
    assert server.lanes == set()
    record = Record(path)
    record.add(3 * PAGE_EVENTS + 7)
    async with running(record):
        for _ in range(200):
            record.tell(3)
            await asyncio.sleep(0)
        await eventually(lambda: record.lane.acked_seq == len(record.events))
        assert record.lane.lag == 0
    assert supervisor.got == record.events
    assert record.acks == sorted(set(record.acks))


async def test_live_events_are_not_read_from_the_record(
    path: Path,
    supervisor: Supervisor,
    server: LaneServer[Lane],
) -> None:
    assert server.lanes == set()
    record = Record(path)
    async with running(record):
        await eventually(lambda: record.lane.connected)
        record.tell()
        await eventually(lambda: supervisor.got)
        pages = record.pages
        for _ in range(100):
            record.tell()
            await asyncio.sleep(0)
        await eventually(lambda: len(supervisor.got) == 101)
    assert record.pages == pages
    assert supervisor.got == record.events


async def test_the_supervisor_says_where_to_begin(
    path: Path,
    supervisor: Supervisor,
    server: LaneServer[Lane],
) -> None:
    assert server.lanes == set()
    supervisor.start = 40
    record = Record(path, cursor=45)
    record.add(50)
    async with running(record):
        await eventually(lambda: len(supervisor.got) == 10)
        assert supervisor.lanes[0].hello == Hello("x:spot:s", "s", 50, 45)
        assert record.acks == [50]
        supervisor.lanes[0].resume(30)  # and again, whenever it likes
        await eventually(lambda: len(supervisor.got) == 30)
        record.tell()
        await eventually(lambda: len(supervisor.got) == 31)
    assert supervisor.seqs == [*range(41, 51), *range(31, 52)]
    assert record.acks == [50, 51]  # a cursor never goes back


async def test_what_was_under_way_before_a_rewind_is_passed_over(
    path: Path,
    supervisor: Supervisor,
    server: LaneServer[Lane],
) -> None:
    assert server.lanes == set()
    record = Record(path)
    async with running(record):
        await eventually(lambda: record.lane.connected)
        record.tell(10)
        await eventually(lambda: record.lane.lag == 0)
        supervisor.lanes[0].resume(5)
        for _ in range(20):
            record.tell()  # goes out before the pair has read that it is to rewind
        await eventually(lambda: record.lane.lag == 0)
    assert supervisor.seqs == [*range(1, 11), *range(6, 31)]


async def test_a_record_that_shows_events_late_leaves_no_gap(
    path: Path,
    supervisor: Supervisor,
    server: LaneServer[Lane],
) -> None:
    assert server.lanes == set()
    record = Record(path)
    hidden = [record.add(1)[0] for _ in range(20)]
    record.events.clear()
    async with running(record):
        record.lane.push(hidden[:10])
        record.lane.push(hidden[10:])
        await eventually(lambda: record.pages >= 2)
        record.events += hidden
        await eventually(lambda: record.lane.lag == 0)
    assert supervisor.seqs == one_to(20)


async def test_survives_every_hanging_up(
    path: Path, supervisor: Supervisor, server: LaneServer[Lane]
) -> None:
    record = Record(path)
    with capture_logs() as logs:
        async with running(record):
            for round_ in range(5):
                for _ in range(50):
                    record.tell(7)
                    await asyncio.sleep(0)
                await eventually(lambda: record.lane.connected)
                await eventually(lambda: record.lane.lag == 0)
                supervisor.start = record.cursor
                if round_ % 2:
                    server.close()
                    await server.start()
                else:
                    supervisor.lanes[0].close()
                await eventually(lambda: not record.lane.connected)
            await eventually(lambda: record.lane.connected)
    assert supervisor.got == record.events
    assert {entry["event"] for entry in logs} == {"lane_lost", "lane_back"}


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_a_supervisor_that_reads_nothing_costs_no_memory(path: Path, run: Callable[[Any], None]) -> None:
    run(_push_to_a_deaf_supervisor(path))


async def _push_to_a_deaf_supervisor(path: Path) -> None:
    supervisor, record = Supervisor(), Record(path)
    server = LaneServer[Lane](path, lambda server: Lane(server, supervisor))
    await server.start()
    async with running(record):
        await eventually(lambda: record.lane.connected)
        supervisor.lanes[0].pause()
        for _ in range(3_000):
            record.tell(2, b'"%s"' % (b"x" * 1000))
            record.lane.snapshot({"seq": len(record.events)})
            await asyncio.sleep(0)
        link = record.lane._link
        assert link
        assert link._transport
        assert link._transport.get_write_buffer_size() < 1024 * 1024
        assert record.lane.lag == 6_000
        supervisor.lanes[0].go_on()
        await eventually(lambda: record.lane.lag == 0)
        await eventually(lambda: supervisor.snapshots[-1] == {"seq": 6_000})
    assert supervisor.got == record.events
    assert len(supervisor.snapshots) < 3_000
    server.close()


async def test_snapshots_go_nowhere_without_a_lane(
    path: Path,
    supervisor: Supervisor,
    server: LaneServer[Lane],
) -> None:
    assert server.lanes == set()
    record = Record(path)
    record.lane.snapshot({"price": 1.0})
    async with running(record):
        await eventually(lambda: record.lane.connected)
        record.lane.snapshot({"price": 2.5, "timestamp": "t"})
        await eventually(lambda: supervisor.snapshots)
    assert supervisor.snapshots == [{"price": 2.5, "timestamp": "t"}]


async def test_pairs_wait_for_their_supervisor(path: Path, supervisor: Supervisor) -> None:
    records = [Record(path, f"s{i}") for i in range(20)]
    async with running(*records):
        for record in records:
            record.tell(5)
        await asyncio.sleep(0.2)
        server = LaneServer[Lane](path, lambda server: Lane(server, supervisor))
        await server.start()
        await eventually(lambda: all(record.lane.lag == 0 for record in records))
    await eventually(lambda: not supervisor.lanes)
    assert len(supervisor.got) == 100
    server.close()


async def test_a_path_too_long_for_a_socket(tmp_path: Path, supervisor: Supervisor) -> None:
    path = tmp_path / ("folder" * 20) / ("deeper" * 20) / "signals.sock"
    server = LaneServer[Lane](path, lambda server: Lane(server, supervisor))
    await server.start()
    record = Record(path)
    async with running(record):
        record.tell(3)
        await eventually(lambda: record.lane.lag == 0)
    assert supervisor.got == record.events
    server.close()


@pytest.mark.parametrize(
    "said",
    [
        b"\xff\xff\xff\xff",
        b"\x01\x00\x00\x00\xc1",
        bytes(encode(Ack(1))),
        bytes(encode(Snapshot({}))),
        bytes(encode(Hello("p", "s", 0, 0))) * 2,
    ],
)
async def test_whoever_talks_nonsense_is_hung_up_on(
    path: Path,
    supervisor: Supervisor,
    server: LaneServer[Lane],
    said: bytes,
) -> None:
    with capture_logs() as logs, socket.socket(socket.AF_UNIX) as stranger:
        stranger.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(stranger, str(path))
        await loop.sock_sendall(stranger, said)
        await eventually(lambda: logs and not server.lanes)
    assert [entry["event"] for entry in logs] == ["lane_bad_frame"]
    assert supervisor.lanes == []
