from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from structlog.testing import capture_logs

from market.errors import Fatal, Retryable, UsageError
from market.times import NS_PER_S
from storage import vectors
from storage.minilm import DIMENSIONS
from storage.vectors import TABLE, StateRow, Vectors

pytestmark = pytest.mark.embeddings

T0_NS, MINUTE_NS = 1_700_000_040 * NS_PER_S, 60 * NS_PER_S
PAIR = "binance:spot:BTCUSDT"


def unit(seed: int) -> Any:
    vector = np.random.default_rng(seed).normal(size=DIMENSIONS).astype(np.float32)
    return vector / np.linalg.norm(vector)


def row(i: int, symbol: str = PAIR, note: str = "", version: int = 1) -> StateRow:
    return StateRow(symbol, T0_NS + i * MINUTE_NS, {"note": note}, unit(i), version)


def stored(folder: Path) -> list[tuple[str, int]]:
    """Read symbol and minute of every row, by LanceDB alone."""
    import lancedb  # noqa: PLC0415 - may not be installed

    table = lancedb.connect(str(folder)).open_table(TABLE).to_arrow()
    times = table.column("timestamp").cast("int64").to_pylist()
    minutes = [(us * 1_000 - T0_NS) // MINUTE_NS for us in times]
    return sorted(zip(table.column("symbol").to_pylist(), minutes, strict=True))


def test_what_was_written_is_there_for_any_reader(tmp_path: Path) -> None:
    import lancedb  # noqa: PLC0415

    assert Vectors(tmp_path).write([row(0, note="é")]) == 1
    (got,) = lancedb.connect(str(tmp_path)).open_table(TABLE).to_arrow().to_pylist()
    assert list(got) == ["vector", "symbol", "timestamp", "metadata", "version"]
    assert np.array_equal(np.array(got["vector"], np.float32), unit(0))
    assert got["timestamp"].isoformat() == "2023-11-14T22:14:00+00:00"
    assert (got["symbol"], got["metadata"], got["version"]) == (PAIR, '{"note":"é"}', 1)


def test_a_replay_updates_and_never_doubles(tmp_path: Path) -> None:
    table = Vectors(tmp_path)
    assert table.write([row(i) for i in range(5)]) == 5
    assert table.write([row(i, note="new") for i in range(3, 8)]) == 3
    assert table.write([row(7), row(7, note="last"), row(0, "other")]) == 1
    assert stored(tmp_path) == sorted([("other", 0), *((PAIR, i) for i in range(8))])
    found = {i: table.get(PAIR, T0_NS + i * MINUTE_NS) for i in (2, 4, 7)}
    assert [one.metadata["note"] for one in found.values() if one] == ["", "new", "last"]


def test_nothing_to_write_is_no_version(tmp_path: Path) -> None:
    table = Vectors(tmp_path)
    assert table.write([]) == 0
    assert not table.tend()
    assert table.count() == 0


def test_the_state_at_or_before_a_time(tmp_path: Path) -> None:
    table = Vectors(tmp_path)
    table.write([row(i, symbol) for i in (1, 2, 4) for symbol in (PAIR, "it's")])
    for ts_ns, minute in ((None, 4), (T0_NS + 3 * MINUTE_NS, 2), (T0_NS + 2 * MINUTE_NS - 1, 1)):
        for symbol in (PAIR, "it's"):
            found = table.get(symbol, ts_ns)
            assert found is not None
            assert (found.symbol, found.ts_ns) == (symbol, T0_NS + minute * MINUTE_NS)
            assert np.array_equal(found.vector, unit(minute))
    assert table.get(PAIR, T0_NS) is None
    assert table.get("unknown") is None


def exact(rows: list[StateRow], vector: Any, k: int) -> list[int]:
    """Find the nearest the slow way."""
    near = sorted(rows, key=lambda one: -float(one.vector @ vector))
    return [one.ts_ns for one in near[:k]]


@pytest.mark.parametrize("kind", ["ivf_sq", "ivf_pq"])
def test_neighbours_are_those_of_an_exact_search_with_and_without_an_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: vectors.Index
) -> None:
    monkeypatch.setattr(vectors, "INDEX_FROM_ROWS", 1_000)
    rows = [row(i) for i in range(1_000)]
    table = Vectors(tmp_path, kind)
    table.write(rows[:999])
    table.optimize()
    assert index_kinds(tmp_path) == set()
    before = [table.search(rows[i].vector, 5) for i in range(0, 900, 100)]
    table.write(rows[999:])
    table.optimize()
    assert index_kinds(tmp_path) == {"BTree", "Bitmap", {"ivf_sq": "IvfSq", "ivf_pq": "IvfPq"}[kind]}
    after = [table.search(rows[i].vector, 5) for i in range(0, 900, 100)]
    for i, one in enumerate(before):
        assert [found.ts_ns for found in one] == exact(rows[:999], unit(100 * i), 5)
    for i, one in enumerate(after):
        assert one[0].ts_ns == T0_NS + 100 * i * MINUTE_NS
        assert one[0].distance == pytest.approx(0, abs=1e-6)
    if kind == "ivf_sq":
        found_ns = [found.ts_ns for one in after for found in one]
        assert found_ns == [ts_ns for i in range(9) for ts_ns in exact(rows, unit(100 * i), 5)]


def index_kinds(folder: Path) -> set[str]:
    import lancedb  # noqa: PLC0415

    return {one.index_type for one in lancedb.connect(str(folder)).open_table(TABLE).list_indices()}


def test_another_kind_of_index_replaces_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vectors, "INDEX_FROM_ROWS", 300)
    table = Vectors(tmp_path, "ivf_pq")
    table.write([row(i) for i in range(300)])
    table.optimize()
    assert "IvfPq" in index_kinds(tmp_path)
    Vectors(tmp_path, "ivf_sq").optimize()
    assert index_kinds(tmp_path) == {"BTree", "Bitmap", "IvfSq"}


def test_an_index_in_many_parts_is_built_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import lancedb  # noqa: PLC0415

    monkeypatch.setattr(vectors, "INDEX_FROM_ROWS", 300)
    table = Vectors(tmp_path)
    table.write([row(i) for i in range(300)])
    table.optimize()
    parts = []
    for i in range(300, 310):
        table.write([row(i)])
        table.optimize()
        stats = lancedb.connect(str(tmp_path)).open_table(TABLE).index_stats("vector_idx")
        parts.append(stats.num_indices)
        assert stats.num_unindexed_rows == 0
    assert max(parts) <= vectors.MAX_DELTAS
    assert min(parts[1:]) == 1


def test_a_search_is_narrowed_by_symbol_time_and_version(tmp_path: Path) -> None:
    table = Vectors(tmp_path)
    table.write([row(i, symbol) for i in range(20) for symbol in (PAIR, "it's")])
    table.write([row(20, version=2)])
    at_ns = T0_NS + 10 * MINUTE_NS
    assert {one.symbol for one in table.search(unit(10), 2)} == {PAIR, "it's"}
    assert [one.symbol for one in table.search(unit(10), 2, symbol="it's")] == ["it's", "it's"]
    past = table.search(unit(10), 50, symbol=PAIR, before_ns=at_ns)
    assert sorted(one.ts_ns for one in past) == [T0_NS + i * MINUTE_NS for i in range(10)]
    assert [one.ts_ns for one in past] == exact([row(i) for i in range(10)], unit(10), 10)
    assert [one.version for one in table.search(unit(10), 50, version=2)] == [2]


def test_many_small_writes_are_joined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import lancedb  # noqa: PLC0415

    monkeypatch.setattr(vectors, "OPTIMIZE_EVERY", 10)
    table = Vectors(tmp_path)
    tended = []
    for i in range(25):
        table.write([row(i)])
        if i == 14:
            table = Vectors(tmp_path)  # a restart does not begin to count anew
        tended.append(table.tend())
    assert [i for i, done in enumerate(tended) if done] == [9, 19]
    stats = lancedb.connect(str(tmp_path)).open_table(TABLE).stats()
    assert stats["fragment_stats"]["num_fragments"] <= 6
    assert stored(tmp_path) == [(PAIR, i) for i in range(25)]


def test_tidying_that_fails_is_told_and_tried_again(tmp_path: Path) -> None:
    table = Vectors(tmp_path)
    for i in range(vectors.OPTIMIZE_EVERY):
        table.write([row(i)])
    held = tmp_path.rename(tmp_path.with_name("held"))
    with capture_logs() as logged:
        assert not table.tend()
    assert [one["event"] for one in logged] == ["vectors_not_optimized"]
    held.rename(tmp_path)
    for i in range(vectors.OPTIMIZE_EVERY // 2):
        assert not table.tend()
        table.write([row(i)])
    assert table.tend()


def test_a_reader_beside_the_writer_sees_what_is_new(tmp_path: Path) -> None:
    writer = Vectors(tmp_path)
    writer.write([row(0)])
    reader = Vectors(tmp_path, create=False)
    for i in range(1, 6):
        writer.write([row(i)])
        assert reader.search(unit(i), 1)[0].distance == pytest.approx(0, abs=1e-6)
        writer.optimize()
        assert reader.count() == i + 1


WRITER = """
import sys
from pathlib import Path
from storage import vectors
from tests.storage.test_vectors import row
vectors.OPTIMIZE_EVERY = 7
table = vectors.Vectors(Path(sys.argv[1]))
at = table.count() // 4
for i in range(int(sys.argv[2])):
    table.write([row(4 * (at + i) + j) for j in range(4)])
    print(4 * (at + i + 1), flush=True)
    table.tend()
"""


def writer(folder: Path, batches: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(folder), str(batches)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_kill_9_in_mid_write_loses_and_doubles_nothing(tmp_path: Path) -> None:
    acknowledged = 0
    for kills in range(2):
        with writer(tmp_path, 10_000) as child:
            assert child.stdout is not None
            for _ in range(10 + kills):
                acknowledged = int(child.stdout.readline())
            child.send_signal(signal.SIGKILL)
            acknowledged = max([acknowledged, *map(int, child.stdout.read().split())])
        table = Vectors(tmp_path)
        whole = table.count()
        assert acknowledged <= whole <= acknowledged + 4
        assert stored(tmp_path) == [(PAIR, i) for i in range(whole)]
        table.write([row(i) for i in range(whole)])
        table.optimize()
        assert table.count() == whole


def test_two_writers_at_once_double_nothing(tmp_path: Path) -> None:
    Vectors(tmp_path)
    with writer(tmp_path, 30) as one, writer(tmp_path, 30) as other:
        for child in (one, other):
            assert child.stdout is not None
            child.stdout.read()
            assert child.wait() == 0
    rows = stored(tmp_path)
    assert len(rows) == len(set(rows)) >= 120


def test_another_schema_is_named_by_folder_and_column(tmp_path: Path) -> None:
    import lancedb  # noqa: PLC0415
    import pyarrow as pa  # noqa: PLC0415

    Vectors(tmp_path / "ours")
    ours = lancedb.connect(str(tmp_path / "ours")).open_table(TABLE).schema
    narrow = pa.field("vector", pa.list_(pa.float32(), 3))
    schemas = {
        "column vector is fixed_size_list": ours.set(ours.get_field_index("vector"), narrow),
        "column version is missing": ours.remove(ours.get_field_index("version")),
        "column colour is not of this table": ours.append(pa.field("colour", pa.string())),
    }
    for i, (reason, schema) in enumerate(schemas.items()):
        folder = tmp_path / str(i)
        lancedb.connect(str(folder)).create_table(TABLE, schema=schema)
        with pytest.raises(Fatal, match=f"{folder}: {TABLE}: {reason}") as caught:
            Vectors(folder)
        assert not isinstance(caught.value, UsageError)


def test_a_table_that_does_not_open_is_named(tmp_path: Path) -> None:
    Vectors(tmp_path).write([row(0)])
    for manifest in tmp_path.rglob("*.manifest"):
        manifest.write_bytes(b"garbage")
    with pytest.raises(Fatal, match=str(tmp_path)) as caught:
        Vectors(tmp_path)
    assert ".rs:" not in str(caught.value)


def test_a_folder_that_cannot_be_one_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Fatal, match=str(tmp_path / "file")):
        Vectors(tmp_path / "file")


def test_a_folder_that_goes_is_retryable_and_what_is_wanted_can_be_written_again(tmp_path: Path) -> None:
    table = Vectors(tmp_path / "gone")
    table.write([row(0)])
    shutil.rmtree(tmp_path / "gone")
    for call in (lambda: table.write([row(1)]), lambda: table.search(unit(0), 1), table.count):
        with pytest.raises(Retryable, match=str(tmp_path / "gone")):
            call()
    again = Vectors(tmp_path / "gone")
    assert again.write([row(0), row(1)]) == 2


def test_a_reader_creates_nothing(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no market states yet"):
        Vectors(tmp_path / "none", create=False)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("vector", [np.zeros(3, np.float32), np.full(DIMENSIONS, np.nan, np.float32)])
def test_a_vector_that_is_none_is_not_written(tmp_path: Path, vector: Any) -> None:
    table = Vectors(tmp_path)
    with pytest.raises(ValueError, match="384 finite numbers"):
        table.write([row(0)._replace(vector=vector)])
    assert table.count() == 0
