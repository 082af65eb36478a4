"""Answer a reader's SQL on a cursor beside the writer's connection, from another thread, while it writes."""

# ruff: noqa: S608 - the reader's SQL is one parsed SELECT inside a read-only transaction; the rest is ours

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import duckdb

from market.errors import UsageError
from market.rows import Row
from storage.archive_views import Shown, show
from storage.duck import Damaged, first_line, verdict

T = TypeVar("T")
TABLE_ROWS = 1_000
"""A table on a terminal ends here; the other formats give everything."""

_CELL = 60  # characters of one value in a table
_NUMBERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UBIGINT", "DOUBLE", "FLOAT", "DECIMAL")
_EXPLAIN = re.compile(rb"\s*explain\s+(analyze\s+)?(\([^)]*\)\s*)?", re.IGNORECASE)
# SELECT reaches a few functions that change the database or read raw memory.
_COMMENT = re.compile(r"/\*.*?\*/|--[^\n]*", re.DOTALL)
_FORBIDDEN = re.compile(
    r"\b(\w*checkpoint|(?:en|dis)able_\w+|truncate_\w+|\w*external_resource\w*|query|query_table|"
    r'\w*arrow_scan\w*|pandas_scan|python_map_function)"?\s*\(',
    re.IGNORECASE,
)
_COPY = {
    "csv": "FORMAT csv, HEADER",
    "json": "FORMAT json, ARRAY true",
    "parquet": "FORMAT parquet, COMPRESSION zstd",
}

FORMATS = ("table", *_COPY)


def begin(con: duckdb.DuckDBPyConnection) -> duckdb.DuckDBPyConnection:
    """Open a cursor that reads what is committed now and nothing later; whoever calls this closes it."""
    cursor = con.cursor()
    try:
        cursor.execute("SET enable_progress_bar = false")  # it would write to the answer's stdout
        cursor.execute("SET operator_memory_limit = '32MB'")  # half of all, so that the writer has the other
        _begin(cursor)
    except BaseException:
        cursor.close()
        raise
    return cursor


def _begin(cursor: duckdb.DuckDBPyConnection) -> None:
    cursor.execute("BEGIN TRANSACTION READ ONLY")
    cursor.execute("FROM meta").fetchall()  # a transaction sees what there is at its first look


def _anew(cursor: duckdb.DuckDBPyConnection) -> None:
    """Look again, at what is committed now: an error has ended the transaction and taken its views."""
    cursor.execute("ROLLBACK")
    _begin(cursor)


def export(
    cursor: duckdb.DuckDBPyConnection, open_rows: Mapping[str, Sequence[Row]], sql: str, fmt: str, out: Path
) -> None:
    """Write the result of one reading statement to `out` as table, csv, json or parquet.

    `cursor` is one of `begin`; `open_rows` are shown as if their tables held them. Memory stays within the
    connection's limit however large the result. Raises UsageError for what is not a reading statement or
    fails as SQL.
    """
    if fmt not in FORMATS:
        raise UsageError(f"format {fmt!r}: one of {', '.join(FORMATS)}")
    query, explains = reading(sql)

    def answer() -> None:
        if explains and fmt == "table":
            out.write_text("\n".join(plan for _, plan in cursor.execute(query).fetchall()), "utf-8")
        else:
            _write(cursor, _explained(cursor, query) if explains else query, fmt, out)

    seen(cursor, open_rows, answer, "query", named_in=query)


def seen(
    cursor: duckdb.DuckDBPyConnection,
    open_rows: Mapping[str, Sequence[Row]],
    read: Callable[[], T],
    what: str,
    named_in: str | None = None,
) -> T:
    """Read the tables (those named in a text, if one is given) as one with the archive and `open_rows`.

    What a compaction takes away meanwhile is looked for again, once. Raises ArchiveDamaged, naming the file.
    """
    shown = Shown()
    try:
        try:
            show(cursor, open_rows, shown, named_in)
            return read()
        except (duckdb.Error, FileNotFoundError):
            if not shown.vanished():
                raise
            _anew(cursor)
            show(cursor, open_rows, shown, named_in)
            return read()
    except duckdb.Error as error:
        shown.suspect(error)
        named = verdict(error, what)
        raise named if isinstance(named, Damaged) else UsageError(first_line(error)) from error


def reading(sql: str) -> tuple[str, bool]:
    """Check that this is one statement that only reads; give its bare text and whether it explains.

    Raises UsageError otherwise.
    """
    statement = _one(sql)
    kinds = duckdb.StatementType
    text = _bare(sql)
    explains = statement.type == kinds.EXPLAIN
    if explains:
        statement = _one(_EXPLAIN.sub(b"", text.encode(), count=1).decode())
    if statement.type != kinds.SELECT:
        raise UsageError(
            "only SELECT, WITH, FROM, VALUES, DESCRIBE, SHOW, SUMMARIZE and EXPLAIN of these are answered"
        )
    if found := _FORBIDDEN.search(_COMMENT.sub("", text)):
        raise UsageError(f"{found[1]} may not be called by a query")
    return text, explains


def _one(sql: str) -> duckdb.Statement:
    try:
        statements = duckdb.extract_statements(sql)
    except duckdb.Error as error:
        raise UsageError(first_line(error)) from error
    if len(statements) != 1:
        raise UsageError(f"{len(statements)} statements; a query is one")
    return statements[0]


def _bare(sql: str) -> str:
    """Cut at the semicolon that ends the statement, so that it can stand in parentheses."""
    raw = sql.encode()
    ends = (
        at
        for at, kind in duckdb.tokenize(sql)
        if kind == duckdb.token_type.operator and raw[at : at + 1] == b";"
    )
    return raw[: next(ends, len(raw))].decode()


def _explained(cursor: duckdb.DuckDBPyConnection, query: str) -> str:
    """Run what cannot stand in parentheses, and give a query of its result."""
    plans = cursor.execute(query).fetchall()
    cursor.execute("CREATE TEMP TABLE plans (explain_key VARCHAR, explain_value VARCHAR)")
    cursor.executemany("INSERT INTO temp.plans VALUES (?, ?)", plans)
    return "FROM temp.plans"


def _write(cursor: duckdb.DuckDBPyConnection, query: str, fmt: str, out: Path) -> None:
    relation = cursor.sql(query)
    titles, types = relation.columns, [str(sql_type) for sql_type in relation.types]
    spelt = _projected(query, titles, types, fmt)
    if fmt == "table":
        rows = cursor.execute(f"{spelt} LIMIT {TABLE_ROWS + 1}").fetchall()
        out.write_text("\n".join(_box(titles, types, rows)) + "\n", "utf-8")
        return
    target = str(out).replace("'", "''")
    cursor.execute(f"COPY ({spelt}) TO '{target}' ({_COPY[fmt]})")


def _projected(query: str, titles: Sequence[str], types: Sequence[str], fmt: str) -> str:
    """Select the columns of a query in the spelling of a format."""
    names = [f"c{i}" for i in range(len(titles))]
    shown = ", ".join(
        f"{_spelt(name, sql_type, fmt)} AS {_quoted(title)}"
        for name, sql_type, title in zip(names, types, titles, strict=True)
    )
    return f"SELECT {shown} FROM (\n{query}\n) AS answer({', '.join(names)})"


def _spelt(name: str, sql_type: str, fmt: str) -> str:
    if fmt == "parquet":
        return name
    if sql_type.startswith("TIMESTAMP"):
        return _rfc3339(name, sql_type)
    if fmt == "json" and sql_type in {"DOUBLE", "FLOAT"}:
        return f"CASE WHEN isfinite({name}) THEN {name} END"  # JSON has no NaN
    return f"{name}::VARCHAR" if fmt == "table" else name


def _rfc3339(name: str, sql_type: str) -> str:
    """Write a time as `market.times.rfc3339` does: UTC, `Z`, and 0, 3, 6 or 9 decimals."""
    utc = f"timezone('UTC', {name})" if sql_type.endswith("TIME ZONE") else name
    text = f"{utc}::VARCHAR"
    fraction = f"split_part({text}, '.', 2)"
    decimals = f"rpad({fraction}, ((length({fraction}) + 2) // 3 * 3)::INTEGER, '0')"
    dotted = f"CASE WHEN {fraction} = '' THEN '' ELSE '.' || {decimals} END"
    return f"replace(split_part({text}, '.', 1), ' ', 'T') || {dotted} || 'Z'"


def _quoted(name: str) -> str:
    doubled = name.replace('"', '""')
    return f'"{doubled}"'


def _box(titles: Sequence[str], types: Sequence[str], rows: Sequence[Row]) -> Iterator[str]:
    """Draw rows of text as DuckDB's own shell does, numbers to the right."""
    cells = [[_cell(value) for value in row] for row in rows[:TABLE_ROWS]]
    widths = [max(map(len, column)) for column in zip(titles, *cells, strict=True)]
    adjust = [str.rjust if sql_type.startswith(_NUMBERS) else str.ljust for sql_type in types]
    rules = ["─" * (width + 2) for width in widths]
    yield f"┌{'┬'.join(rules)}┐"
    for i, line in enumerate([titles, *cells]):
        if i == 1:
            yield f"├{'┼'.join(rules)}┤"
        fitted = (fit(text, width) for fit, text, width in zip(adjust, line, widths, strict=True))
        yield f"│ {' │ '.join(fitted)} │"
    yield f"└{'┴'.join(rules)}┘"
    count = f"{len(rows):,} row{'' if len(rows) == 1 else 's'}"
    yield (
        f"the first {TABLE_ROWS:,} rows; csv, json and parquet give all" if len(rows) > TABLE_ROWS else count
    )


def _cell(value: str | None) -> str:
    text = "NULL" if value is None else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in value)
    return text if len(text) <= _CELL else text[: _CELL - 1] + "…"
