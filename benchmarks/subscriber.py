"""A subscriber in a process of its own: `python -m benchmarks.subscriber REDIS_URL CHANNEL`.

Prints a line when it listens; at SIGTERM it prints every message, before it the time of its arrival.
"""

from __future__ import annotations

import signal
import sys
import time

import redis


def main() -> None:
    url, channel = sys.argv[1:]
    got: list[tuple[int, bytes]] = []
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with redis.Redis.from_url(url).pubsub() as pubsub:  # type: ignore[no-untyped-call]  # redis has no type there
            pubsub.subscribe(channel)
            for message in pubsub.listen():
                if message["type"] == "message":
                    got.append((time.time_ns(), message["data"]))
                else:
                    sys.stdout.write("listening\n")
                    sys.stdout.flush()
    except KeyboardInterrupt:
        for at_ns, data in got:
            sys.stdout.buffer.write(b"%d %s\n" % (at_ns, data))


if __name__ == "__main__":
    main()
