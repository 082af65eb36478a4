"""QuestDB's server: one jar, fetched once, kept in the user's cache, checked whenever it is used."""

from __future__ import annotations

import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from market.errors import Unreachable


@dataclass(frozen=True, slots=True)
class Jar:
    """Name one release of the server and what its file must hash to."""

    version: str
    sha256: str

    @property
    def name(self) -> str:
        return f"questdb-{self.version}.jar"


SERVER = Jar("9.3.4", "939bc53ab22f93dbaa6545143a6e7c536d4904c07b7f2d381e8eef10436be062")


def default_cache() -> Path:
    """Say where this user keeps what can be fetched again."""
    home = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(home) if Path(home).is_absolute() else Path.home() / ".cache"
    return base / "marketd"


def obtain(jar: Jar, cache: Path) -> Path:
    """Find the jar in the cache, or fetch it (again, if what is there is not it).

    Raises Unreachable, in one line, if it cannot be had or what comes is not it.
    """
    path = cache / jar.name
    try:
        if not (path.exists() and _sha256(path) == jar.sha256):
            _fetch(jar, path)
    except OSError as error:
        raise Unreachable(f"embedded QuestDB: {path} cannot be had: {_one_line(error)}") from error
    return path


def _fetch(jar: Jar, path: Path) -> None:
    """Put the jar in its place whole, or not at all: others may be starting from the same cache."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=path.parent) as folder:
        fetched = _download(jar, Path(folder))
        if (found := _sha256(fetched)) != jar.sha256:
            raise Unreachable(
                f"embedded QuestDB: the file that came for {path} has sha256 {found}, expected {jar.sha256}",
            )
        fetched.replace(path)


def _download(jar: Jar, folder: Path) -> Path:
    from jgo.maven import MavenContext  # noqa: PLC0415 - only where the jar is not in the cache

    context = MavenContext(repo_cache=folder, local_repos=[])
    try:
        return context.project("org.questdb", "questdb").at_version(jar.version).artifact().resolve()
    except (RuntimeError, ValueError) as error:
        raise OSError(f"the package repository does not give {jar.name}") from error


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _one_line(error: OSError) -> str:
    """Name the fault: a refused download's text is a nest of several lines' length."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}"
