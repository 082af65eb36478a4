"""A random walk that can be asked of any time: octaves of smoothed lattice noise, as in terrain synthesis."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]
UInts: TypeAlias = npt.NDArray[np.uint64]

_PERIODS_MS: Ints = 250 * 2 ** np.arange(20, dtype=np.int64)  # a quarter of a second .. 36 hours
_AMPLITUDES: Floats = np.sqrt(_PERIODS_MS / 1_000.0)  # Brownian: grows with the root of time


def walk(key: int, t_ms: Ints) -> Floats:
    """Give the walk's values at the times; about 1 per root second of distance, whatever the times' order."""
    cells, phases_ms = np.divmod(t_ms[:, None], _PERIODS_MS)
    phase = phases_ms / _PERIODS_MS
    left, right = _lattice(key, cells), _lattice(key, cells + 1)
    smooth = phase * phase * (3.0 - 2.0 * phase)
    values: Floats = ((left + (right - left) * smooth) * _AMPLITUDES).sum(axis=1)
    return values


def _lattice(key: int, cells: Ints) -> Floats:
    """Hash (key, octave, cell) to [-1, 1); the finaliser is SplitMix64's (Steele, Lea and Flood 2014)."""
    octaves: UInts = np.arange(cells.shape[1], dtype=np.uint64) << np.uint64(56)
    x: npt.NDArray[Any] = cells.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ octaves) + np.uint64(key % 2**64)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    unit: Floats = (x ^ (x >> np.uint64(31))) / 2.0**63 - 1.0
    return unit
