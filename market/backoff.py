from __future__ import annotations

import random
from collections.abc import Iterator


def delays(base_s: float = 0.05, cap_s: float = 1.0) -> Iterator[float]:
    """Yield for ever how long to wait before the next try: doubling, capped, jittered by up to a half."""
    delay_s = base_s
    while True:
        yield delay_s * random.uniform(0.5, 1.0)
        delay_s = min(cap_s, 2 * delay_s)
