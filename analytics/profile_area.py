"""Where the volume of a market profile lies: its point of control and its value area (definitions §3).

Rows are integers in ascending order, only those that were traded; the rows between them count as empty.
"""

from __future__ import annotations

from math import ceil, log10
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

Rows: TypeAlias = npt.NDArray[np.int64]
Volumes: TypeAlias = npt.NDArray[np.float64]

_GROUPS = (256, 8_192)  # of rows looked at in one go: at first, and at most
_CHUNK = 8_192


class Area(NamedTuple):
    poc: int
    high: int
    low: int


class Profile(NamedTuple):
    """`scale` turns volumes into whole units: their sums are exact, and float noise decides no tie."""

    rows: Rows
    volumes: Volumes
    scale: float


def area(rows: Rows, volumes: Volumes, share: float, step: int) -> Area:
    """Find the POC, and walk from it, `step` rows at a time, until `share` of the volume is included."""
    total = float(volumes.sum())
    profile = Profile(rows, volumes, _scale(total))
    at = _poc(profile)
    poc, first, last = int(rows[at]), int(rows[0]), int(rows[-1])
    # Whole units reach a whole target whichever way its product was rounded.
    missing = (share * round(total * profile.scale) - round(volumes[at] * profile.scale)) * (1 - 1e-15)
    up, down = _walk(profile, poc, missing, step)
    return Area(poc, min(poc + up * step, last), max(poc - down * step, first))


def _scale(total: float) -> float:
    """Choose units of 1e-8, coarser where the total would leave no room for exact sums."""
    digits = ceil(log10(total))
    return 10.0 ** min(max(8, 12 - digits), 15 - digits, 300)


def _poc(profile: Profile) -> int:
    """Find the largest row; of several the one nearest the middle of the profile, then the lower one."""
    rows, volumes, scale = profile
    largest = np.flatnonzero(volumes > volumes.max() - 0.5 / scale)
    if len(largest) == 1:
        return int(largest[0])
    return int(largest[np.argmin(np.abs(2 * rows[largest] - (rows[0] + rows[-1])))])


def _walk(profile: Profile, poc: int, missing: float, step: int) -> tuple[int, int]:
    """Return how many groups above and below the POC it takes to find the `missing` volume.

    The larger of the next two groups is taken, so a group waits for the smallest one on its way: it comes
    before a group of the other side if and only if the least of its own side up to it is larger (equal:
    above). A side before an empty group waits for the other to end or to be before an empty one as well;
    then everything above comes before everything below.
    """
    up, down, (size, most) = 0, 0, _GROUPS
    while missing > 0:
        above = _next_groups(profile, poc + 1 + up * step, step, size)
        below = _next_groups(profile, poc - 1 - down * step, -step, size)
        if not len(below):
            return _outwards(profile, poc, missing, step, (up, down))
        least = np.minimum.accumulate(above), np.minimum.accumulate(below)
        ups, downs = _certain(*least)
        volume = float(above[:ups].sum() + below[:downs].sum())
        if volume >= missing:
            order = np.argsort(-np.concatenate((least[0][:ups], least[1][:downs])), kind="stable")
            included = np.cumsum(np.concatenate((above[:ups], below[:downs]))[order])
            taken = order[: int(included.searchsorted(missing)) + 1]
            downs = int(np.count_nonzero(taken >= ups))
            return up + len(taken) - downs, down + downs
        up, down, missing, size = up + ups, down + downs, missing - volume, min(4 * size, most)
    return up, down


def _next_groups(profile: Profile, row: int, step: int, size: int) -> Volumes:
    """Sum the volumes of up to `size` groups from `row` on, downwards if `step` is negative.

    The first empty group ends them; so does the profile's end, behind which all are empty.
    """
    width = size * abs(step)
    first = row if step > 0 else row - width + 1
    start, end = profile.rows.searchsorted((first, first + width))
    volumes = np.zeros(width)
    volumes[profile.rows[start:end] - first] = profile.volumes[start:end]
    if step < 0:
        volumes = volumes[::-1]
    groups = np.rint(sum(volumes[i :: abs(step)] for i in range(abs(step))) * profile.scale)
    least = int(groups.argmin())
    return groups if groups[least] else groups[:least]


def _certain(above: Volumes, below: Volumes) -> tuple[int, int]:
    """Tell how many groups of both sides come first whatever follows, given the least up to each."""
    if not len(above):
        return 0, len(below)
    if above[-1] >= below[-1]:
        return len(above), int(np.count_nonzero(below > above[-1]))
    return int(np.count_nonzero(above >= below[-1])), len(below)


def _outwards(
    profile: Profile, poc: int, missing: float, step: int, taken: tuple[int, int]
) -> tuple[int, int]:
    """Go on to the top of the profile and then to its bottom."""
    rows, volumes, scale = profile
    up, down = taken
    start, end = rows.searchsorted((poc + 1 + up * step, poc - down * step))
    found, missing = _reach(volumes[start:], missing, scale)
    if found:
        up = -(-int(rows[start + found - 1] - poc) // step)
    if missing > 0:
        found, missing = _reach(volumes[:end][::-1], missing, scale)
        down = -(-int(poc - rows[end - found]) // step) if found else down
    return up, down


def _reach(volumes: Volumes, missing: float, scale: float) -> tuple[int, float]:
    """Tell how many of the volumes it takes, at most all, and what is missing then."""
    for start in range(0, len(volumes), _CHUNK):
        units = np.rint(volumes[start : start + _CHUNK] * scale)
        volume = float(units.sum())
        if volume >= missing:
            return start + int(units.cumsum().searchsorted(missing)) + 1, 0.0
        missing -= volume
    return len(volumes), missing
