"""What a venue sends, as bytes."""

from __future__ import annotations

import json


def raw(payload: object) -> bytes:
    return json.dumps(payload).encode()
