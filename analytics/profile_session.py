"""What a session traded in each row of prices."""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt

from analytics.profile_area import Rows, Volumes


class Session(msgspec.Struct):
    """16 bytes per row that was traded: a session's trades bound it, not the distance between its prices."""

    start_ns: int = -1
    rows: bytearray = msgspec.field(default_factory=bytearray)  # int64, ascending
    volumes: bytearray = msgspec.field(default_factory=bytearray)  # float64, of these rows


def arrays(session: Session) -> tuple[Rows, Volumes]:
    """Look into the session; while such an array lives, `add` raises BufferError."""
    return np.frombuffer(session.rows, np.int64), np.frombuffer(session.volumes, np.float64)


def copied(session: Session) -> Session:
    return Session(session.start_ns, session.rows[:], session.volumes[:])


def add(session: Session, rows: Rows, volumes: Volumes) -> None:
    """Add the volumes of distinct rows in ascending order."""
    at, new = _places(session, rows)
    if new.any():
        at += np.cumsum(new) - new
        _insert(session, at[new], rows[new])
    np.frombuffer(session.volumes, np.float64)[at] += volumes


def _places(session: Session, rows: Rows) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.bool_]]:
    """Tell where in the session rows are or belong, and which are new."""
    known = np.frombuffer(session.rows, np.int64)
    at = known.searchsorted(rows)
    return at, known.take(at, mode="clip") != rows if len(known) else np.ones(len(rows), np.bool_)


def _insert(session: Session, at: npt.NDArray[np.intp], rows: Rows) -> None:
    """Make room for new rows, without volume; `at` is where they will be.

    No array may look into the buffers meanwhile: they grow in place, which is five times as fast.
    """
    first, end = int(at[0]), int(at[-1]) + 1
    known = np.ones(end - first, np.bool_)
    known[at - first] = False
    span = slice(8 * first, 8 * (end - len(at)))
    moved, volumes = np.empty(len(known), np.int64), np.zeros(len(known))
    moved[~known], moved[known] = rows, np.frombuffer(session.rows[span], np.int64)
    volumes[known] = np.frombuffer(session.volumes[span], np.float64)
    session.rows[span], session.volumes[span] = moved.tobytes(), volumes.tobytes()
