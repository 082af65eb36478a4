"""A whole pair, from the venue's frames to its file: faults, full disks, stops."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from actors.engine import Engine
from actors.hot_writer import HotWriter
from actors.outlets import Outlets
from actors.pair import PairService
from actors.recovery import PairFiles, open_pair
from feeds.sim.exchange import SimExchange
from feeds.sim.faults import Lose, Malformed, RestStatus, Silence, Skip
from market.inputs import Input, TickBatch
from market.times import NS_PER_MS
from storage.duck import Damaged
from tests.actors.damage import tear
from tests.actors.pair_support import PAIR, QUICK, ByHand, Tables, events, spec, tables, working
from tests.disk_support import small_disk
from tests.feeds.sim_support import get, manual_sim
from tests.recordings import HERE, trades
from tests.storage.archive_support import FOUND
from tests.storage.hot_rows import MINUTE, make_ticks
from tests.support import eventually

BTC = PAIR.symbol
PAST = 20
RECORDED = HERE / "binance_spot_btcusdt_20260216.csv.gz"


@asynccontextmanager
async def trading(folder: Path) -> AsyncIterator[tuple[SimExchange, PairService]]:
    """Let a pair work on an exchange that has seen PAST trades."""
    async with manual_sim() as sim:
        await sim.emit(PAST)
        async with working(spec(folder, sim.ws_url, sim.rest_url)) as service:
            await eventually(lambda: service.status().get("state") == "streaming")
            yield sim, service


async def emit(sim: SimExchange, count: int) -> None:
    for start in range(0, count, 7):
        await sim.emit(min(7, count - start))
        await asyncio.sleep(0.003)


def has_all(sim: SimExchange, service: PairService, lost: int = 0) -> bool:
    status = service.status()
    last_id = sim.listings[BTC].last_id
    return status.get("ticks") == last_id - PAST - lost and not status["gaps_open"]


async def assert_stored(sim: SimExchange, read: Tables, lost: range = range(0)) -> None:
    """Compare the ticks with what the venue says it traded."""
    rows = await get(sim, "/sim/trades", symbol=BTC, fromId=PAST + 1, limit=10_000)
    expected = [
        (
            r["time"] * 1_000_000,
            float(r["price"]),
            float(r["qty"]),
            "SELL" if r["isBuyerMaker"] else "BUY",
            str(r["id"]),
        )
        for r in rows
        if r["id"] not in lost
    ]
    assert sorted((row[1:6] for row in read["ticks"]), key=lambda row: int(row[4])) == expected
    assert [row[0] for row in read["ticks"]] == list(range(1, len(expected) + 1))
    assert [row[0] for row in read["events"]] == list(range(1, len(read["events"]) + 1))


async def test_everything_that_goes_wrong_is_in_the_record(tmp_path: Path) -> None:
    async with trading(tmp_path) as (sim, service):
        sim.inject(Skip(BTC, 40, 44))
        sim.inject(Lose(BTC, 60, 62))
        sim.inject(Malformed(BTC, "negative", at_id=80))
        await emit(sim, 100)
        await eventually(lambda: has_all(sim, service, lost=3))
        sim.inject(Silence(seconds=3.0))
        busy = asyncio.create_task(emit(sim, 100_000))
        await eventually(lambda: service.status()["state"] == "stale")
        await eventually(lambda: service.status()["state"] == "streaming")
        busy.cancel()
        await eventually(lambda: has_all(sim, service, lost=3))
        read = await read_through(service, tmp_path)
        await assert_stored(sim, read, lost=range(60, 63))
    assert [(row[1], row[2], row[6], row[8]) for row in read["data_gaps"]][:2] == [
        (40, 44, "FILLED", 5),
        (60, 62, "UNFILLABLE", 0),
    ]
    assert len(read["rejected"]) == 1
    assert b'"p":"-1"' in read["rejected"][0][2]
    told = [name for _, _, name, _ in events(read) if "CANDLE" not in name and name != "ORDER_FLOW"]
    assert told[:4] == ["DATA_GAP", "DATA_GAP_FILLED", "DATA_GAP", "DATA_GAP"]
    assert [name for name in told if "FEED" in name] == ["FEED_STALE", "FEED_RECOVERED"]
    assert read["quotes"]


async def test_a_query_sees_what_was_announced_and_the_open_bar(tmp_path: Path) -> None:
    async with trading(tmp_path / "pair") as (sim, service):
        await emit(sim, 100)
        await eventually(lambda: has_all(sim, service))
        out = tmp_path / "out.csv"
        await service.query("SELECT count(*) AS n, max(seq) AS last FROM ticks", "csv", out)
        assert out.read_text() == "n,last\n100,100\n"
        await service.query("SELECT count(*) AS n FROM candles_1m WHERE NOT is_complete", "csv", out)
        assert out.read_text() == "n\n1\n"
        assert all(claim.ok for claim in await service.prove())


async def test_stop_stores_what_was_received_and_lets_go(tmp_path: Path) -> None:
    async with trading(tmp_path) as (sim, service):
        sim.inject(RestStatus(502, count=100))
        sim.inject(Skip(BTC, 40, 44))
        await emit(sim, 50)
        await eventually(lambda: service.status()["holes"])
        await eventually(lambda: sim.stats["frames"] >= 45)
        kept = await service.stop()
        assert kept == 45
    files = open_pair(tmp_path, PAIR, QUICK)
    assert [(gap.first_id, gap.last_id) for gap in files.core.state.ledger.gaps] == [(40, 44)]
    files.close()
    assert len(tables(tmp_path)["ticks"]) == 45


async def test_damage_that_a_query_meets_is_mended_at_once(tmp_path: Path) -> None:
    pair = ByHand(tmp_path)
    for start in range(0, 20_000, 5_000):
        at_ns = MINUTE + start * NS_PER_MS
        pair.take(TickBatch(make_ticks(5_000, first_id=start + 1, start_ns=at_ns, step_ns=NS_PER_MS)))
    pair.flush()
    pair.files.hot.checkpoint()
    pair.close()
    tear(tmp_path / "trading.duckdb", "ticks", "price")
    async with manual_sim() as sim, working(spec(tmp_path, sim.ws_url, sim.rest_url)) as service:
        out, total = tmp_path / "out.csv", "SELECT count(*) AS n, sum(price) > 0 AS ok FROM ticks"
        await eventually(lambda: service.engine)
        with pytest.raises(Damaged):
            await service.query(total, "csv", out)
        await eventually((tmp_path / "trading.duckdb.damaged").exists, 30)
        await eventually(lambda: service.engine)
        await service.query(total, "csv", out)
        assert out.read_text() == "n,ok\n20000,true\n"


async def test_stop_while_it_recovers(tmp_path: Path) -> None:
    async with manual_sim() as sim:
        service = PairService(spec(tmp_path, sim.ws_url, sim.rest_url))
        running = asyncio.create_task(service.run())
        await asyncio.sleep(0)
        assert service.status()["state"] == "recovering"
        assert await asyncio.wait_for(service.stop(), 20) == 0
        await asyncio.wait_for(running, 5)
    open_pair(tmp_path, PAIR, QUICK).close()


async def test_a_broken_hot_file_is_recovered_from_while_the_venue_goes_on(tmp_path: Path) -> None:
    async with trading(tmp_path) as (sim, service):
        await emit(sim, 50)
        await eventually(lambda: has_all(sim, service))
        before = service.engine
        assert before is not None
        before._files.hot.connection.cursor().execute("ALTER TABLE ticks RENAME TO elsewhere").close()
        await emit(sim, 50)
        await eventually(lambda: service.engine not in {None, before}, timeout_s=20)
        await eventually(lambda: has_all(sim, service))
        assert service.status()["error"] == ""
        await assert_stored(sim, await read_through(service, tmp_path))


async def read_through(service: PairService, folder: Path) -> Tables:
    await service.stop()
    return tables(folder)


class FeedThatDies:
    """Gives a few ticks and then ends with an error, as only a fault of ours would."""

    finished = False

    def __init__(self, ticks: list[Input]) -> None:
        self._ticks = ticks

    async def run(self) -> None:
        await asyncio.sleep(0.2)
        raise ZeroDivisionError("a fault nobody foresaw")

    async def wait(self, timeout_s: float) -> None:
        await asyncio.sleep(min(timeout_s, 0.01))

    def take(self, now_ns: int, next_close_ns: int | None) -> list[Input]:  # noqa: ARG002 - the seam's shape
        taken, self._ticks = self._ticks, []
        return taken

    def drain(self, now_ns: int) -> list[Input]:  # noqa: ARG002 - the seam's shape
        return []

    def status(self) -> dict[str, object]:
        return {}


def by_hand(folder: Path, feed: FeedThatDies) -> tuple[Engine, HotWriter, PairFiles]:
    files = open_pair(folder, PAIR, QUICK)
    writer = HotWriter(files.hot, folder / "trading.duckdb.wal")
    return Engine(spec(folder), files, writer, feed, Outlets()), writer, files


async def test_a_feed_that_dies_ends_the_engine_with_its_reason(tmp_path: Path) -> None:
    engine, writer, files = by_hand(tmp_path, FeedThatDies([TickBatch(trades(RECORDED)[:10])]))
    with pytest.raises(ZeroDivisionError, match="nobody foresaw"):
        await asyncio.wait_for(engine.run(), 10)
    await asyncio.wait_for(writer.close(), 10)
    files.close()
    files = open_pair(tmp_path, PAIR, QUICK)
    assert (files.core.state.ledger.next_seq, files.hot.last_tick_seq()) == (11, 10)
    files.close()


async def test_a_write_that_failed_for_good_is_raised_and_nothing_is_written_after_it(tmp_path: Path) -> None:
    feed = FeedThatDies([])
    engine, writer, files = by_hand(tmp_path, feed)
    await engine._commit([TickBatch(trades(RECORDED)[:10])])
    cursor = files.hot.connection.cursor()
    cursor.execute("ALTER TABLE ticks RENAME TO elsewhere")
    writer.start()
    with pytest.raises(Exception, match="ticks"):
        await writer.flush()
    cursor.execute("ALTER TABLE elsewhere RENAME TO ticks")
    cursor.close()
    await engine._commit([TickBatch(trades(RECORDED)[10:20])])
    with pytest.raises(Exception, match="ticks"):
        writer.start()
    await writer.close()
    files.close()
    files = open_pair(tmp_path, PAIR, QUICK)
    assert files.hot.last_tick_seq() == 20
    files.close()


# A full disk


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", "24m") as disk:
        yield disk


def fill(disk: Path) -> Path:
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(4_096)) == 4_096:
                pass
        except OSError:
            return ballast
    return ballast


async def test_a_full_disk_blocks_loudly_and_goes_on_by_itself(disk: Path) -> None:
    async with trading(disk / "pair") as (sim, service):
        await emit(sim, 50)
        await eventually(lambda: has_all(sim, service))
        ballast = fill(disk)
        await emit(sim, 3_000)
        await eventually(lambda: "No space left" in service.status()["blocked"])
        await emit(sim, 100)
        ballast.unlink()
        await eventually(lambda: has_all(sim, service), timeout_s=20)
        await eventually(lambda: not service.status()["blocked"])
        assert service.status()["gaps"] == 0
        await assert_stored(sim, await read_through(service, disk / "pair"))


async def test_stop_does_not_wait_for_a_full_disk(disk: Path) -> None:
    folder = disk / "pair"
    async with trading(folder) as (sim, service):
        await emit(sim, 50)
        await eventually(lambda: has_all(sim, service))
        ballast = fill(disk)
        await emit(sim, 3_000)
        await eventually(lambda: "No space left" in service.status()["blocked"])
        began = time.monotonic()
        await asyncio.wait_for(service.stop(), 15)
        assert time.monotonic() - began < 10
        ballast.unlink()
        async with working(spec(folder, sim.ws_url, sim.rest_url)) as again:
            await eventually(lambda: has_all(sim, again), timeout_s=20)
        await assert_stored(sim, tables(folder))


async def test_a_question_nobody_waits_for_is_given_up(tmp_path: Path) -> None:
    async with trading(tmp_path) as (sim, service):
        await emit(sim, 10)
        endless = "SELECT count(*) FROM range(1_000_000) a, range(1_000_000) b WHERE a.range + b.range = 7"
        asked = asyncio.create_task(service.query(endless, "csv", tmp_path / "never.csv"))
        await eventually((tmp_path / "never.csv").exists)
        asked.cancel()
        async with asyncio.timeout(10):
            await asyncio.wait([asked])
        assert asked.cancelled()
        await emit(sim, 10)
        await service.query("SELECT count(*) AS n FROM ticks", "csv", tmp_path / "answer.csv")
        assert (tmp_path / "answer.csv").read_text().startswith("n\n")


async def test_a_hot_file_that_is_behind_holds_nobody_up_at_a_segments_end(tmp_path: Path) -> None:
    async with trading(tmp_path) as (sim, service):
        await eventually(lambda: service.engine)
        assert service.engine is not None
        writer, segments = service.engine._writer, (tmp_path / "journal").glob
        with held_up(writer):
            begun = 0
            for _ in range(4):  # 10 kB of journal are a segment here
                await emit(sim, 200)
                await eventually(lambda: has_all(sim, service))
                begun = begun or len(list(segments("*.log")))
            assert writer.written < service.status()["journal_records"]
            assert len(list(segments("*.log"))) == begun
        await emit(sim, 7)
        await eventually(lambda: len(list(segments("*.log"))) > begun)
        await assert_stored(sim, await read_through(service, tmp_path))


@contextmanager
def held_up(writer: HotWriter) -> Iterator[None]:
    """Keep the file's thread from writing; when this begins, what it wrote before is written."""
    at_work, go_on = threading.Event(), threading.Event()
    writer._thread.submit(at_work.set)
    held = writer._thread.submit(go_on.wait)
    at_work.wait()
    try:
        yield
    finally:
        go_on.set()
        held.result()


async def test_what_is_old_is_archived_and_its_journal_goes(tmp_path: Path) -> None:
    candles = ("candles_1s", "candles_5s", "candles_1m")
    kept = dict.fromkeys(("ticks", "quotes", "order_flow", "events", *candles, *FOUND), 2)
    async with manual_sim(start_ns=time.time_ns()) as sim:  # quotes are of this host's time
        await sim.emit(PAST)
        wanted = replace(spec(tmp_path, sim.ws_url, sim.rest_url), hot_s=kept)
        async with working(wanted) as service:
            await eventually(lambda: service.status().get("state") == "streaming")
            before: list[Path] = []
            for _ in range(8):
                await emit(sim, 400)  # 8 s of the venue's time
                await eventually(lambda: has_all(sim, service))
                swept = await service.sweep()
                assert swept["rows"]
                before = before or sorted((tmp_path / "journal").glob("*.log"))
            await service.sweep()
            assert not before[0].exists()
            whole = await _counted(service, tmp_path, "ticks")
            assert whole == service.status()["ticks"]
            assert [claim for claim in await service.prove() if not claim[1]] == []
    assert len(tables(tmp_path)["ticks"]) < whole  # the rest is only in the archive


async def _counted(service: PairService, folder: Path, table: str) -> int:
    await service.query(f"SELECT count(*) AS n FROM {table}", "csv", folder / "answer.csv")  # noqa: S608 - ours
    return int((folder / "answer.csv").read_text().split()[1])
