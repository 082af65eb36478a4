"""The one door to LanceDB: market states as vectors, one row per symbol and candle.

The calls block: they belong in a thread. Foreign errors are translated here.
"""

from __future__ import annotations

import fcntl
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import orjson
import structlog

from market.errors import Fatal, MarketdError, Retryable, Unreachable, UsageError
from market.times import NS_PER_S, rfc3339
from storage.minilm import DIMENSIONS, require_libraries

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

TABLE = "market_state_embeddings"
INDEX_FROM_ROWS = 10_000  # fewer are searched one by one, in 15 ms
OPTIMIZE_EVERY = 20  # versions; each is a fragment more to visit: 32 double a search's time, 128 quadruple it
MAX_DELTAS = 6  # parts of the vector index, one more by each optimize; half a millisecond a search each
PARTITION_ROWS = 1_024  # given a number of partitions instead, optimize would join them to a few
PROBES = 16  # partitions looked into
REFINE = {"ivf_sq": 3, "ivf_pq": 20}  # times k, vectors compared in full: 10 and more take 3 ms
KEEP_VERSIONS = timedelta(minutes=2)  # for readers that are under way: none at all would break them
_SOURCE = re.compile(r",? */\S+\.rs:\d+:\d+")  # where in its own code an error arose
_NS_PER_US = 1_000
_KEY = ("symbol", "timestamp")

Index = Literal["ivf_sq", "ivf_pq"]

log = structlog.get_logger(__name__)


class StateRow(NamedTuple):
    """A state as it is stored; `version` is that of the words behind the vector."""

    symbol: str
    ts_ns: int  # the candle's open; stored in microseconds
    metadata: Mapping[str, Any]
    vector: NDArray[np.float32]  # 384, of length 1
    version: int


class Neighbour(NamedTuple):
    """A state found near another; `distance` is 1 - cosine: 0 is the same, 1 unrelated."""

    symbol: str
    ts_ns: int
    distance: float
    metadata: Mapping[str, Any]
    version: int


class Vectors:
    """The table in a folder; writers take turns, also those of other processes, readers need not wait.

    Raises UsageError if there is no table (and `create` is off) or LanceDB is not installed, Unreachable if
    that does not load, Fatal if what is there is of another schema or does not open.
    """

    def __init__(self, folder: Path, index: Index = "ivf_sq", *, create: bool = True) -> None:
        self._folder, self._kind = folder, index
        require_libraries("lancedb")
        if not create and not (folder / f"{TABLE}.lance").is_dir():
            raise UsageError(f"{folder}: holds no market states yet")
        self._lancedb = _import()
        with _door(folder, Fatal):
            self._table = self._open(create=create)
            _check_schema(folder, self._table.schema)
            fragments = self._table.stats()["fragment_stats"]["num_fragments"]
        self._versions = max(fragments - 1, 0)  # since it was optimized

    def count(self) -> int:
        """Count the states."""
        with self._latest() as table:
            return int(table.count_rows())

    def write(self, rows: Sequence[StateRow]) -> int:
        """Store rows, each in the place of an earlier one with its symbol and time; return how many are new.

        On return they survive a power cut. Raises Retryable: none of the rows may be taken as stored.
        """
        latest = {(row.symbol, row.ts_ns): row for row in rows}
        if not latest:
            return 0
        batch = _batch(list(latest.values()))
        with self._alone() as table:
            merge = table.merge_insert(list(_KEY)).when_matched_update_all().when_not_matched_insert_all()
            began_ns = time.time_ns()
            merged = merge.execute(batch)
            self._sync(began_ns)
        self._versions += 1
        return int(merged.num_inserted_rows)

    def tend(self) -> bool:
        """Optimize if enough was written since; cheap otherwise. Best called after acknowledging.

        Raises nothing that waiting may cure: without it searches are slower, and it is tried again.
        """
        if self._versions < OPTIMIZE_EVERY:
            return False
        try:
            self.optimize()
        except Retryable as error:
            self._versions = OPTIMIZE_EVERY // 2
            log.warning("vectors_not_optimized", reason=str(error))
            return False
        return True

    def optimize(self) -> None:
        """Join the fragments, bring the indices up to date and drop what no reader uses any more.

        Takes a tenth of a second, a few seconds for 100,000 rows when an index is built. Raises Retryable.
        """
        with self._alone() as table:
            began_ns = time.time_ns()
            table.optimize()
            self._index(table)
            self._sync(began_ns)
            table.optimize(cleanup_older_than=KEEP_VERSIONS)  # not before what takes their place is on disk
            self._versions = 0

    def search(
        self,
        vector: NDArray[np.float32],
        k: int,
        *,
        symbol: str | None = None,
        before_ns: int | None = None,
        version: int | None = None,
    ) -> list[Neighbour]:
        """Find the k nearest states, nearest first; `before_ns`, its own time, leaves itself out."""
        where = _where(symbol=symbol, before_ns=before_ns, version=version)
        with self._latest() as table:
            query = table.search(vector, vector_column_name="vector").distance_type("cosine").limit(k)
            query = query.nprobes(PROBES).refine_factor(REFINE[self._kind])
            if where:
                query = query.where(where, prefilter=True)
            found = query.select(["symbol", "timestamp", "metadata", "version", "_distance"]).to_arrow()
            return [
                Neighbour(
                    row["symbol"],
                    row["timestamp"],
                    max(row["_distance"], 0.0),
                    orjson.loads(row["metadata"]),
                    row["version"],
                )
                for row in _rows(found)
            ]

    def get(self, symbol: str, at_ns: int | None = None) -> StateRow | None:
        """Find the symbol's last state, or its last at or before a time."""
        before = None if at_ns is None else at_ns + 1
        with self._latest() as table:
            # Sorting the rows instead takes 200 ms among 100,000.
            found = table.search().where(_where(symbol=symbol, before_ns=before)).select(["timestamp"])
            times_ns = _times_ns(found.to_arrow())
            if not times_ns.size:
                return None
            last_ns = int(times_ns.max())
            where = _where(symbol=symbol, from_ns=last_ns, before_ns=last_ns + 1)
            (row,) = _rows(table.search().where(where).limit(1).to_arrow())
            return StateRow(
                row["symbol"],
                row["timestamp"],
                orjson.loads(row["metadata"]),
                np.array(row["vector"], np.float32),
                row["version"],
            )

    def _open(self, *, create: bool) -> Any:
        database = self._lancedb.connect(str(self._folder))
        if not create:
            return database.open_table(TABLE)
        with self._turn():
            if (self._folder / f"{TABLE}.lance").is_dir():
                return database.open_table(TABLE)
            return database.create_table(TABLE, schema=_schema())

    @contextmanager
    def _latest(self) -> Iterator[Any]:
        """Give the table as it is now: LanceDB's handles stay at the version they saw last."""
        with _door(self._folder, Retryable):
            self._table.checkout_latest()
            yield self._table

    @contextmanager
    def _alone(self) -> Iterator[Any]:
        """Give the table as it is now, and stay, until the end: two merges at once would double rows."""
        with _door(self._folder, Retryable), self._turn(), self._latest() as table:
            yield table

    @contextmanager
    def _turn(self) -> Iterator[None]:
        with (self._folder / f"{TABLE}.lock").open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # ends with the file, thus with the process
            yield

    def _sync(self, since_ns: int) -> None:
        """Bring to disk what was written since: LanceDB leaves that to the system, manifests included."""
        folder = self._folder / f"{TABLE}.lance"
        from_ns = since_ns - NS_PER_S  # a file's time is a little behind
        written = [path for path in (folder, *folder.rglob("*")) if path.stat().st_mtime_ns >= from_ns]
        for path in sorted(written, key=Path.is_dir):  # a folder after what it names
            handle = os.open(path, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)

    def _index(self, table: Any) -> None:
        """Build the indices that are missing, of another kind, or in too many parts."""
        rows = table.count_rows()
        if rows < INDEX_FROM_ROWS:
            return
        index = self._lancedb.index
        have = {one.columns[0]: one for one in table.list_indices()}
        if "timestamp" not in have:
            table.create_index("timestamp", config=index.BTree())
        if "symbol" not in have:
            table.create_index("symbol", config=index.Bitmap())
        if self._is_stale(table, have.get("vector")):
            wanted = {"ivf_sq": index.IvfSq, "ivf_pq": index.IvfPq}[self._kind]
            config = wanted(distance_type="cosine", target_partition_size=PARTITION_ROWS)
            table.create_index("vector", config=config)
            log.info("vector_index_built", kind=self._kind, rows=rows)

    def _is_stale(self, table: Any, have: Any) -> bool:
        if have is None:
            return True
        stats = table.index_stats(have.name)
        return bool(stats.index_type.lower() != self._kind or stats.num_indices > MAX_DELTAS)


def _import() -> Any:
    os.environ.setdefault("LANCEDB_LOG", "error")
    os.environ.setdefault("LANCE_LOG", "error")
    try:
        import lancedb.index  # noqa: PLC0415 - takes seconds
    except ImportError as error:
        raise Unreachable(f"embeddings: a library does not load: {error}") from error
    return lancedb


@contextmanager
def _door(folder: Path, translated: type[MarketdError]) -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:  # LanceDB has no errors of its own
        text = _SOURCE.sub("", str(error)).removeprefix("lance error: ")
        raise translated(f"LanceDB {folder}: {text}") from error


def _schema() -> pa.Schema:
    import pyarrow as pa  # noqa: PLC0415

    return pa.schema(
        [
            pa.field("vector", pa.list_(pa.float32(), DIMENSIONS), nullable=False),
            pa.field("symbol", pa.string(), nullable=False),
            pa.field("timestamp", pa.timestamp("us", "UTC"), nullable=False),
            pa.field("metadata", pa.string(), nullable=False),
            pa.field("version", pa.int32(), nullable=False),
        ]
    )


def _check_schema(folder: Path, found: pa.Schema) -> None:
    """Compare names and types; whether a column may be null makes no difference."""
    wanted = _schema()
    there = {field.name: str(field.type) for field in found}
    for field in wanted:
        if there.get(field.name) != str(field.type):
            kind = there.get(field.name, "missing")
            raise Fatal(f"{folder}: {TABLE}: column {field.name} is {kind}, expected {field.type}")
    if extra := sorted(there.keys() - set(wanted.names)):
        raise Fatal(f"{folder}: {TABLE}: column {extra[0]} is not of this table")


def _batch(rows: Sequence[StateRow]) -> pa.Table:
    import pyarrow as pa  # noqa: PLC0415

    flat = np.stack([row.vector for row in rows]).astype(np.float32, copy=False)
    if flat.shape != (len(rows), DIMENSIONS) or not np.isfinite(flat).all():
        raise ValueError(f"expected {DIMENSIONS} finite numbers a vector")
    columns = [
        pa.FixedSizeListArray.from_arrays(pa.array(flat.ravel()), DIMENSIONS),
        pa.array([row.symbol for row in rows]),
        pa.array([row.ts_ns // _NS_PER_US for row in rows], pa.timestamp("us", "UTC")),
        pa.array([orjson.dumps(row.metadata).decode() for row in rows]),
        pa.array([row.version for row in rows], pa.int32()),
    ]
    return pa.table(columns, schema=_schema())


def _rows(found: pa.Table) -> list[dict[str, Any]]:
    """Take the rows out of an answer, times in nanoseconds."""
    rows: list[dict[str, Any]] = found.drop_columns(["timestamp"]).to_pylist()
    times_ns = _times_ns(found).tolist()
    return [row | {"timestamp": ts_ns} for row, ts_ns in zip(rows, times_ns, strict=True)]


def _times_ns(found: pa.Table) -> NDArray[np.int64]:
    times: NDArray[np.int64] = found.column("timestamp").to_numpy().astype("M8[ns]").astype(np.int64)
    return times


def _where(
    *,
    symbol: str | None = None,
    from_ns: int | None = None,
    before_ns: int | None = None,
    version: int | None = None,
) -> str:
    terms = []
    if symbol is not None:
        quoted = symbol.replace("'", "''")
        terms.append(f"symbol = '{quoted}'")
    for sign, bound_ns in ((">=", from_ns), ("<", before_ns)):
        if bound_ns is not None:
            whole_ns = -(-bound_ns // _NS_PER_US) * _NS_PER_US  # literals are cut to microseconds
            terms.append(f"timestamp {sign} timestamp '{rfc3339(whole_ns).rstrip('Z')}'")
    if version is not None:
        terms.append(f"version = {version}")
    return " AND ".join(terms)
