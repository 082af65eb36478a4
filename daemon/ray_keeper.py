"""`marketd ray-head`: Ray's head in a process of its own, which a restart of the daemon leaves alone."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import structlog

from daemon import logs, orphans
from daemon.kept_head import ADDRESS, TOKEN, KeptHead
from daemon.lock import FolderLock
from daemon.notify import Notify, manager
from daemon.ray_head import RayHead
from daemon.settings import Settings
from market.errors import Fatal, UsageError

log = structlog.get_logger()
POLL_S = 0.5
LOCK_RETRY_S = 0.1


def keep(settings: Settings) -> int:
    """Keep a head for the data folder's daemon until SIGTERM or SIGINT; raise Fatal if it ends by itself."""
    logs.configure(settings.log.level, settings.log.format)
    if settings.ray.address:
        raise UsageError("ray.address: the daemon joins a cluster, a head here would be of no use")
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    told, kept = manager(), KeptHead(settings.run_dir)
    lock = _hold(kept.folder)
    try:
        _serve(settings, kept, told, stopping)
    finally:
        lock.release()
    log.info("ray_head_stopped")
    return 0


def _serve(settings: Settings, kept: KeptHead, told: Notify | None, stopping: threading.Event) -> None:
    written = kept.run_dir / ADDRESS
    written.unlink(missing_ok=True)
    orphans.kill(kept.run_dir)
    head = RayHead(
        kept.run_dir, settings.ray, settings.engine.max_pairs_per_node, _known(kept.run_dir / TOKEN)
    )
    try:
        address = head.start()
        _write(written, address)
        log.info("ray_head_started", address=address)
        if told is not None:
            told.tell(READY="1", STATUS=f"Ray at {address}")
        while not stopping.wait(POLL_S):
            if head.poll() is not None:
                raise Fatal(f"Ray's head ended (what it said: {kept.run_dir / 'ray-head.log'})")
    finally:
        if told is not None:
            told.tell(STOPPING="1")
        written.unlink(missing_ok=True)  # the daemon sees that it is over before its calls fail
        head.stop()
        orphans.kill(kept.run_dir)


def _hold(folder: Path) -> FolderLock:
    """Lock the folder, for which a daemon that looks for a head may hold the lock for a moment."""
    lock = FolderLock(folder)
    try:
        lock.acquire()
    except UsageError:
        time.sleep(LOCK_RETRY_S)
        lock.acquire()
    return lock


def _known(path: Path) -> str:
    """Read the token of the head before: a daemon that lives on remembers it, and can use no other."""
    try:
        return path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return ""


def _write(path: Path, text: str) -> None:
    """Write a small file as a whole or not at all."""
    draft = path.with_suffix(".draft")
    draft.write_text(text, encoding="ascii")
    os.replace(draft, path)  # noqa: PTH105  over the one of before
