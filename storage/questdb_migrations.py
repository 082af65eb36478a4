"""QuestDB's schema as numbered SQL files, applied once each; a table of the server says which ones were."""

# ruff: noqa: S608 - what is put into SQL are numbers and names of our own files

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import structlog

from market.errors import Fatal
from storage.questdb_sql import Sql, literal

FOLDER = Path(__file__).parent / "migrations" / "questdb"
LEDGER = "schema_migrations"
_LEDGER_DDL = (  # without a WAL, so that what is applied shows at once
    f"CREATE TABLE IF NOT EXISTS {LEDGER} (version INT, name VARCHAR, timestamp TIMESTAMP)"
    " TIMESTAMP(timestamp) PARTITION BY YEAR BYPASS WAL"
)
_NAME = re.compile(r"(\d{4})_(\w+)\.sql")

log = structlog.get_logger(__name__)


class Migration(NamedTuple):
    version: int
    name: str
    statements: tuple[str, ...]


def migrations(folder: Path = FOLDER) -> list[Migration]:
    """Read the files in order; their statements end with `;` at the end of a line."""
    found = []
    for path in sorted(folder.glob("*.sql")):
        named = _NAME.fullmatch(path.name)
        if named is None:
            raise Fatal(f"{path}: expected a name such as 0001_what_it_does.sql")
        text = "\n".join(line for line in path.read_text().splitlines() if not line.startswith("--"))
        statements = tuple(part.strip() for part in re.split(r";\s*$", text, flags=re.MULTILINE))
        found.append(Migration(int(named[1]), named[2], tuple(filter(None, statements))))
    return found


def migrate(sql: Sql, wanted: Sequence[Migration]) -> list[int]:
    """Apply what is missing, in order; return the versions that were applied now.

    A file that fails, or is cut off by a kill, is applied anew the next time: its statements can be repeated.
    Raises Fatal for a server that a later version of marketd has changed.
    """
    sql.rows(_LEDGER_DDL)
    there = {version for (version,) in sql.rows(f"SELECT version FROM {LEDGER}")}
    newest = max((one.version for one in wanted), default=0)
    if later := sorted(version for version in there if version > newest):
        raise Fatal(f"QuestDB's schema is of a later marketd: migration {later[0]:04d} is not known here")
    applied = [one for one in wanted if one.version not in there]
    for one in applied:
        for statement in one.statements:
            sql.rows(statement)
        sql.rows(f"INSERT INTO {LEDGER} VALUES ({one.version}, {literal(one.name)}, now())")
        log.info("questdb_migrated", version=one.version, name=one.name)
    return [one.version for one in applied]
