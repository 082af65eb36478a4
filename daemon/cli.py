"""The command line. What a command needs beyond its options is imported when it runs: --help is instant."""

# ruff: noqa: PLC0415  the imports inside of the commands are the point

from __future__ import annotations

import json
import math
import os
import shutil
import sys
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from market.errors import MarketdError, Unreachable, UsageError
from market.pairs import Pair

if TYPE_CHECKING:
    from daemon.settings import Settings

DONE, FAILED, USAGE, UNREACHABLE = 0, 1, 2, 3
ASK_TIMEOUT_S = 3_600.0

app = typer.Typer(
    help="Keep a provably complete record of market trades, and hand on what they mean.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # it costs a tenth of a second
    context_settings={"help_option_names": ["-h", "--help"]},
)

Config = Annotated[
    Path | None,
    typer.Option(
        "--config", metavar="F", help="The configuration [default: MARKETD_CONFIG, else config.toml]."
    ),
]
PairName = Annotated[str, typer.Argument(metavar="PAIR", help="e.g. binance:spot:BTCUSDT")]


class Format(StrEnum):
    table = "table"
    csv = "csv"
    json = "json"
    parquet = "parquet"


def main() -> NoReturn:
    """Run a command; the one place where an error becomes an exit code and a line on stderr."""
    try:
        app(prog_name="marketd")
    except UsageError as error:
        _leave(error, USAGE)
    except Unreachable as error:
        _leave(error, UNREACHABLE)
    except MarketdError as error:
        _leave(error, FAILED)
    sys.exit(DONE)


def _leave(error: MarketdError, code: int) -> NoReturn:
    print("marketd:", " ".join(str(error).split()), file=sys.stderr)  # noqa: T201  the command's own voice
    sys.exit(code)


def _settings(config: Path | None) -> Settings:
    from daemon.config import load

    return load(config, os.environ)


def _version(wanted: bool) -> None:  # noqa: FBT001  typer calls it so
    if wanted:
        typer.echo(f"marketd {version('marketd')}")
        raise typer.Exit


@app.callback()
def _root(
    *,
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Say which version this is."),
    ] = False,
) -> None:
    pass


@app.command()
def run(config: Config = None) -> None:
    """Run the daemon until SIGTERM or Ctrl-C."""
    settings = _settings(config)
    from daemon import service

    raise typer.Exit(service.run(settings))


@app.command()
def ray_head(config: Config = None) -> None:
    """Keep Ray's head for the daemon of the same data folder, as a service of its own."""
    settings = _settings(config)
    from daemon import ray_keeper

    raise typer.Exit(ray_keeper.keep(settings))


@app.command()
def demo(
    pairs: Annotated[int, typer.Option(min=1, max=200, help="How many pairs.")] = 5,
    rate: Annotated[float, typer.Option(min=0.01, help="Trades a second, of all pairs together.")] = 100.0,
    seconds: Annotated[
        float | None, typer.Option(min=1, help="End after so long [default: at Ctrl-C].")
    ] = None,
    config: Config = None,
) -> None:
    """Run the whole daemon against a simulated exchange, with a live table."""
    settings = _settings(config) if config else None  # the usual file's data are no place for invented trades
    from daemon import demo as simulated

    raise typer.Exit(simulated.run(pairs, rate, seconds, settings))


@app.command()
def check(config: Config = None) -> None:
    """Find out whether the daemon would start: configuration, folders, servers."""
    settings = _settings(config)
    from daemon import checks

    found = checks.check(settings)
    for one in found:
        typer.echo(f"{'ok  ' if one.ok else 'FAIL' if one.fatal else 'warn'} {one.text}")
    raise typer.Exit(FAILED if any(one.fatal for one in found) else DONE)


@app.command()
def status(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON.")] = False,
    config: Config = None,
) -> None:
    """Show the running daemon's pairs, lag, gaps, sinks and memory."""
    settings = _settings(config)
    from daemon.control import call

    answer = call(settings.control_socket, "status", timeout_s=10.0)
    if as_json:
        typer.echo(json.dumps(answer))
        return
    from daemon import stores, table

    typer.echo(f"marketd (pid {answer['pid']}) on {answer['data_dir']}, up {answer['uptime_s']:.0f} s")
    for report in answer["pairs"]:
        typer.echo(table.line(table.row(report)))
    for one in stores.lines(answer):
        typer.echo(one)
    disk = answer["disk"]
    typer.echo(f"disk: {disk['free_bytes'] / 1e9:.1f} GB free of {disk['total_bytes'] / 1e9:.1f}")


@app.command()
def query(
    pair: PairName,
    sql: Annotated[str, typer.Argument(metavar="SQL", help="DuckDB SQL, read-only.")],
    fmt: Annotated[Format, typer.Option("--format", help="How to write the rows.")] = Format.table,
    config: Config = None,
) -> None:
    """Ask a pair's record, while the daemon runs or not."""
    settings, wanted = _settings(config), Pair.parse(pair)
    from daemon.control import NoDaemon, call

    with _answer_folder(settings.run_dir) as folder:
        out = Path(folder, "answer")
        asked = {"pair": wanted.key, "sql": sql, "fmt": fmt.value, "out": str(out)}
        try:
            call(settings.control_socket, "query", ASK_TIMEOUT_S, **asked)
        except NoDaemon:
            from daemon import offline

            offline.query(settings, wanted, sql, fmt.value, out)
        with out.open("rb") as answer:
            shutil.copyfileobj(answer, sys.stdout.buffer)


def _answer_folder(run_dir: Path) -> TemporaryDirectory[str]:
    """Make a private folder for the pair's actor to write to: a service has a /tmp of its own."""
    try:
        folder = TemporaryDirectory(prefix="answer-", dir=run_dir)
    except OSError:  # nothing runs there, or its disk is full, of which the pair tells more
        return TemporaryDirectory(prefix="marketd-")
    owner = run_dir.stat()
    if os.geteuid() == 0:  # asks for whoever runs the daemon
        os.chown(folder.name, owner.st_uid, owner.st_gid)
    return folder


class Store(StrEnum):
    """A store of history that can be loaded anew."""

    questdb = "questdb"
    lancedb = "lancedb"


@app.command()
def verify(pair: PairName, config: Config = None) -> None:
    """Prove a pair's record: no hole in it, and everything computed from it is right."""
    settings, wanted = _settings(config), Pair.parse(pair)
    from daemon.control import NoDaemon, call

    try:
        claims = call(settings.control_socket, "verify", ASK_TIMEOUT_S, pair=wanted.key)["claims"]
    except NoDaemon:
        from daemon import offline

        claims = offline.verify(settings, wanted)
    for text, ok, detail in claims:
        typer.echo(f"{'ok  ' if ok else 'FAIL'} {text}" + (f": {detail}" if detail else ""))
    raise typer.Exit(DONE if all(ok for _, ok, _ in claims) else FAILED)


@app.command()
def resync(
    store: Annotated[Store, typer.Argument(metavar="questdb|lancedb", help="The store that lost rows.")],
    pairs: Annotated[list[str] | None, typer.Argument(metavar="[PAIR...]", help="[default: all]")] = None,
    *,
    since: Annotated[
        str | None, typer.Option("--from", metavar="T", help="A time [default: the beginning].")
    ] = None,
    config: Config = None,
) -> None:
    """Load a store again from the record, hot and archived; what it has already is not doubled.

    Days of trades that QuestDB has exported are exported again: begin after them.
    """
    settings = _settings(config)
    wanted = [Pair.parse(text) for text in pairs or []]
    from daemon.control import NoDaemon, call

    from_ns = _instant(since, "--from") if since is not None else 0
    keys = [pair.key for pair in wanted]
    try:
        begun = call(
            settings.control_socket, "resync", ASK_TIMEOUT_S, store=store.value, pairs=keys, from_ns=from_ns
        )
    except NoDaemon:
        from daemon import offline

        followed = wanted or [one.pair for one in settings.pairs]
        begun = {pair.key: offline.resync(settings, pair, store.value, from_ns) for pair in followed}
    for key, streams in begun.items():
        typer.echo(f"{key}: {streams} streams begin again" if streams else f"{key}: nothing to send again")


@app.command()
def similar(
    pair: PairName,
    *,
    at: Annotated[str | None, typer.Option(metavar="T", help="A time [default: the last state].")] = None,
    k: Annotated[int, typer.Option("-k", min=1, max=1_000, help="How many.")] = 5,
    config: Config = None,
) -> None:
    """Find the market states of the past that are nearest to one."""
    settings, wanted = _settings(config), Pair.parse(pair)
    from daemon import similar as neighbours

    at_ns = _instant(at, "--at") if at is not None else None
    found = neighbours.similar(settings, wanted, at_ns, k)
    for one in neighbours.lines(found):
        typer.echo(one)
    if len(found) == 1:
        typer.echo("nothing earlier to compare it with yet", err=True)


@app.command()
def record(
    pair: PairName,
    *,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", file_okay=False, help="Where to [default: {data_dir}/recordings/...]."),
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(min=1, help="End after so long [default: at Ctrl-C].")
    ] = None,
    config: Config = None,
) -> None:
    """Keep a venue's raw frames in files; needs no daemon and disturbs none."""
    settings, wanted = _settings(config), Pair.parse(pair)
    from daemon import record as frames

    raise typer.Exit(frames.record(settings, wanted, out, seconds))


@app.command()
def replay(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", exists=True, dir_okay=False, readable=True)
    ],
    pair: Annotated[str | None, typer.Option(metavar="PAIR", help="Whose trades they are.")] = None,
    speed: Annotated[str, typer.Option(metavar="X|max", help="1 is the recorded pace.")] = "max",
    config: Config = None,
) -> None:
    """Feed recorded trades, or raw frames of `marketd record`, through the same path as live ones."""
    settings, factor = _settings(config), _speed(speed)
    from daemon import service
    from feeds.replay import recorded_pair

    wanted = Pair.parse(pair) if pair else recorded_pair(files)
    raise typer.Exit(service.replay(settings, files, wanted, factor))


def _instant(text: str, option: str) -> int:
    """Read a time; raise UsageError for one that 64 bits of nanoseconds cannot tell."""
    from daemon.similar import time_ns

    instant_ns = time_ns(text, option)
    if not -(2**63) <= instant_ns < 2**63:
        raise UsageError(f"{option} {text!r}: expected a time between the years 1678 and 2261")
    return instant_ns


def _speed(text: str) -> float:
    """Read `max` as 0; raise UsageError for what is no positive number."""
    try:
        factor = 0.0 if text == "max" else float(text)
    except ValueError:
        factor = math.nan
    if text != "max" and not (0 < factor < math.inf):
        raise UsageError(f"--speed {text!r}: expected a positive number or max")
    return factor
