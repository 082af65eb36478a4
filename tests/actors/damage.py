"""Ruin files as disks and people do."""

from __future__ import annotations

import random
from pathlib import Path

import duckdb

from storage.journal import segments

PAGE_BYTES = 4_096
BLOCK_BYTES = 262_144  # DuckDB's, after three pages of headers


def flip(path: Path, at: int) -> None:
    raw = bytearray(path.read_bytes())
    raw[at] ^= 0x10
    path.write_bytes(raw)


def zero_page(path: Path, at: int) -> None:
    raw = bytearray(path.read_bytes())
    start = at // PAGE_BYTES * PAGE_BYTES
    end = min(start + PAGE_BYTES, len(raw))
    raw[start:end] = bytes(end - start)
    path.write_bytes(raw)


def truncate(path: Path, at: int) -> None:
    with path.open("r+b") as file:
        file.truncate(at)


def remove(path: Path, at: int) -> None:  # noqa: ARG001 - as the others
    path.unlink()


def tear(path: Path, table: str, column: str) -> None:
    """Zero a part of every block that holds rows of a column."""
    with duckdb.connect(str(path), read_only=True) as con:
        told = "SELECT DISTINCT block_id FROM pragma_storage_info(?) WHERE column_name = ? AND block_id >= 0"
        blocks = [block for (block,) in con.execute(told, [table, column]).fetchall()]
    for block in blocks:
        zero_page(path, 3 * PAGE_BYTES + block * BLOCK_BYTES)


HARMS = (flip, zero_page, truncate, remove)


def damage_journal(folder: Path, rng: random.Random) -> str:
    """Damage one segment somewhere; say how."""
    path = rng.choice(segments(folder)).path
    harm = rng.choice(HARMS)
    at = rng.randrange(path.stat().st_size)
    harm(path, at)
    return f"{harm.__name__} {path.name} at {at}"


def damage_database(path: Path, rng: random.Random) -> str:
    """Damage DuckDB's file or its log; say how."""
    parts = [
        part for part in (path, path.with_name(f"{path.name}.wal")) if part.exists() and part.stat().st_size
    ]
    part, harm = rng.choice(parts), rng.choice(HARMS)
    at = rng.randrange(part.stat().st_size)
    harm(part, at)
    return f"{harm.__name__} {part.name} at {at}"
