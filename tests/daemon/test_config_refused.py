from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.config import load
from market.errors import UsageError
from tests.daemon.config_support import OTHER, PAIR, refusal

ENGINE_KEYS = (
    "gather_ms, flush_interval_ms, max_batch_ticks, journal_sync, max_pairs_per_node, stale_after_s, "
    "close_grace_ms, quotes_interval_ms, backfill_s, timeframes"
)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


SUPPORTED = (
    "binance spot, binance futures, bybit spot, bybit futures, coinbase spot, coinbase_advanced spot, "
    "kraken spot, okx spot, okx futures"
)
SECTIONS = "data_dir, pairs, exchanges, engine, analytics, redis, questdb, embeddings, retention, ray, log"
BAD = [
    ("bad = 1\n" + PAIR, f"bad: unknown key (known: {SECTIONS})"),
    (
        PAIR + "[object_store]\nurl = 's3://x'\n",
        "object_store: unknown section: this version of marketd has no such part",
    ),
    (PAIR + "[retention]\nticks_s = -1\n", "retention.ticks_s: expected int >= 0"),
    (
        PAIR + '[questdb]\nurl = "localhost:9000"\n',
        'questdb.url: expected "embedded" or "http::addr=host:9000;" (or https::)',
    ),
    (
        PAIR + '[questdb]\nurl = "http::addr=localhost:9000;username=me;password=secret;"\n',
        "questdb.url: holds a secret: give it by the variable MARKETD__QUESTDB__URL",
    ),
    (PAIR + "trim = false\n", 'pairs[0].trim: is for feed = "push"'),
    (PAIR + 'feed = "push"\ntrim = "no"\n', "pairs[0].trim: expected true or false, got str"),
    (PAIR + "alias = 7\n", "pairs[0].alias: expected str, got int"),
    (PAIR + 'feed = "rest"\n', "pairs[0].feed: expected one of live, push"),
    (
        PAIR + 'feed = "push"\n[redis]\nenabled = false\n',
        'redis.enabled: a pair with feed = "push" needs it',
    ),
    (
        f'data_dir = "/tmp/{"x" * 80}"\n{PAIR}feed = "push"\n',
        f"data_dir: its path is too long for /tmp/{'x' * 80}/run/redis/redis.sock, where collectors push",
    ),
    (PAIR + "[ray]\ndashboard_port = 10001\n", "ray.dashboard_port: Ray keeps 10001 to 19999 for itself"),
    (PAIR + "[ray]\nmetrics_port = 19999\n", "ray.metrics_port: Ray keeps 10001 to 19999 for itself"),
    (PAIR + "[ray]\nmetrics_port = 8265\n", "ray.metrics_port: is ray.dashboard_port too"),
    (PAIR + '[embeddings]\ntimeframe = "2h"\n', "embeddings.timeframe: is none of engine.timeframes"),
    (PAIR + '[embeddings]\nindex = "hnsw"\n', "embeddings.index: expected one of ivf_sq, ivf_pq"),
    ("", "pairs: expected at least one [[pairs]] block"),
    ("pairs = 3\n", "pairs: expected array, got int"),
    ("pairs = [3]\n", "pairs[0]: expected table, got int"),
    ('[[pairs]]\nmarket = "spot"\nsymbols = ["A"]\n', "pairs[0].exchange: missing"),
    (PAIR.replace('["BTCUSDT"]', "[]"), "pairs[0].symbols: expected array of length >= 1"),
    (PAIR.replace('["BTCUSDT"]', '"BTCUSDT"'), "pairs[0].symbols: expected array, got str"),
    (PAIR.replace('["BTCUSDT"]', "[7]"), "pairs[0].symbols: expected str, got int"),
    (PAIR.replace("BTC", "btc"), "pairs[0].symbols: symbol 'btcUSDT': expected 'BTCUSDT'"),
    (
        PAIR.replace("BTC", "BTC/"),
        (
            "pairs[0].symbols: symbol 'BTC/USDT': may not hold '/', ':', '\\', blanks or unprintable "
            "characters, nor be '.' or '..'"
        ),
    ),
    (PAIR.replace("binance", "bitmex"), f"pairs[0]: bitmex spot is not supported (supported: {SUPPORTED})"),
    (PAIR.replace("spot", "dex"), f"pairs[0]: binance dex is not supported (supported: {SUPPORTED})"),
    (
        PAIR + "depth = 5\n",
        (
            "pairs[0].depth: unknown key (known: exchange, market, symbols, alias, state_step_s, tick_size, "
            "analytics, feed, contiguous_ids, trim)"
        ),
    ),
    (
        PAIR.replace('"]', '", "ETHUSDT"]') + 'alias = "B"\n',
        "pairs[0].alias: names one pair, but the block has several symbols",
    ),
    (PAIR + 'alias = "a b"\n', "pairs[0].alias: expected printable text without blanks"),
    (PAIR + 'alias = ""\n', "pairs[0].alias: expected printable text without blanks"),
    (PAIR + "state_step_s = 7\n", "pairs[0].state_step_s: does not divide a day"),
    (PAIR + "tick_size = nan\n", "pairs[0].tick_size: expected float > 0.0"),
    (PAIR + "tick_size = inf\n", "pairs[0].tick_size: expected float <= 1000000000.0"),
    (PAIR + PAIR, "pairs: binance:spot:BTCUSDT is there twice"),
    (PAIR.replace('"]', '", "BTCUSDT"]'), "pairs: binance:spot:BTCUSDT is there twice"),
    (PAIR + 'alias = "B"\n' + OTHER + 'alias = "B"\n', "pairs: alias 'B' is there twice"),
    (
        PAIR + OTHER + 'alias = "binance:spot:BTCUSDT"\n',
        "pairs: alias 'binance:spot:BTCUSDT' is there twice",
    ),
    ('data_dir = ""\n' + PAIR, "data_dir: expected the path of a folder"),
    ('data_dir = "a\\u0000b"\n' + PAIR, "data_dir: expected the path of a folder"),
    ("data_dir = 5\n" + PAIR, "data_dir: expected str, got int"),
    (
        'data_dir = "~nobody-of-this-name/x"\n' + PAIR,
        "data_dir: could not determine home directory.",
    ),
    (
        PAIR + "[exchanges.krakn]\n",
        "exchanges.krakn: unknown key (known: binance, bybit, coinbase, coinbase_advanced, kraken, okx)",
    ),
    (
        PAIR + '[exchanges.binance]\nws_url = "https://x"\n',
        "exchanges.binance.ws_url: expected ws://host or wss://host",
    ),
    (
        PAIR + '[exchanges.binance]\nrest_url = "http://"\n',
        "exchanges.binance.rest_url: expected http://host or https://host",
    ),
    (
        PAIR + '[exchanges.binance]\nrest_url = "http://x:99999"\n',
        "exchanges.binance.rest_url: expected http://host or https://host",
    ),
    (
        PAIR + '[exchanges.binance.spot]\nws_url = "http://x"\n',
        "exchanges.binance.spot.ws_url: expected ws://host or wss://host",
    ),
    (
        PAIR + '[exchanges.okx]\nws_url = "ws://x"\n[exchanges.okx.futures]\nrest_url = "x"\n',
        "exchanges.okx.futures.rest_url: expected http://host or https://host",
    ),
    (
        PAIR + '[exchanges.binance.sport]\nws_url = "ws://x"\n',
        "exchanges.binance.sport: unknown key (known: ws_url, rest_url, spot, futures)",
    ),
    (
        PAIR + '[exchanges.binance.spot]\nurl = "ws://x"\n',
        "exchanges.binance.spot.url: unknown key (known: ws_url, rest_url)",
    ),
    ("engine = 3\n" + PAIR, "engine: expected table, got int"),
    (PAIR + "[engine]\ngather = 1\n", f"engine.gather: unknown key (known: {ENGINE_KEYS})"),
    (PAIR + '[engine]\ngather_ms = "5"\n', "engine.gather_ms: expected int, got str"),
    (PAIR + "[engine]\ngather_ms = true\n", "engine.gather_ms: expected int, got bool"),
    (PAIR + "[engine]\ngather_ms = -1\n", "engine.gather_ms: expected int >= 0"),
    (PAIR + "[engine]\nmax_batch_ticks = 0\n", "engine.max_batch_ticks: expected int >= 1"),
    (PAIR + "[engine]\nstale_after_s = nan\n", "engine.stale_after_s: expected float >= 1.0"),
    (PAIR + "[engine]\njournal_sync = 1\n", "engine.journal_sync: expected true or false, got int"),
    (
        PAIR + '[engine]\ntimeframes = ["1m", "7m"]\n',
        "engine.timeframes: '7m' does not divide a day",
    ),
    (
        PAIR + '[engine]\ntimeframes = ["1m", "x"]\n',
        "engine.timeframes: 'x' is no timeframe (like 5s, 1m, 1h)",
    ),
    (PAIR + '[engine]\ntimeframes = ["1m", "0s"]\n', "engine.timeframes: '0s' does not divide a day"),
    (PAIR + '[engine]\ntimeframes = ["5m"]\n', "engine.timeframes: 1m must be among them"),
    (PAIR + '[engine]\ntimeframes = ["1m", "60s"]\n', "engine.timeframes: one is there twice"),
    (
        PAIR + "[engine]\ngather_ms = 500\nflush_interval_ms = 100\n",
        "engine.flush_interval_ms: is less than engine.gather_ms (500)",
    ),
    (
        PAIR + "[engine]\nstale_after_s = 2\n",
        "engine.close_grace_ms: reaches engine.stale_after_s (2 s)",
    ),
    (
        PAIR + OTHER + "[engine]\nmax_pairs_per_node = 1\n",
        "pairs: 2 pairs, but engine.max_pairs_per_node is 1",
    ),
    (PAIR + "[analytics]\nprofile_bin_ticks = 0\n", "analytics.profile_bin_ticks: expected int >= 1"),
    (PAIR + "[analytics]\nprofile_va_step = 3\n", "analytics.profile_va_step: expected int <= 2"),
    (PAIR + "[analytics]\nzone_decay = nan\n", "analytics.zone_decay: expected float > 0.0"),
    (
        PAIR + "[analytics]\nstate_fast_half_life = 900\n",
        "analytics.state_fast_half_life: exceeds state_slow_half_life (600)",
    ),
    (
        PAIR + "analytics = { state_entropy_steps = 20 }\n",
        "pairs[0].analytics.state_entropy_needs: exceeds state_entropy_steps (20)",
    ),
    (
        PAIR + "[analytics]\nstate_tail_needs = 10\n",
        "analytics.state_tail_needs: leaves no return behind the 10 largest",
    ),
    (
        PAIR + "[analytics]\nstate_tail_steps = 99\n",
        "analytics.state_tail_needs: exceeds state_tail_steps (99)",
    ),
    (
        PAIR + "[analytics]\nsentiment_bearish = 0.55\n",
        "analytics.sentiment_bearish: reaches sentiment_bullish (0.55)",
    ),
    (
        PAIR + "[analytics]\nsize_outlier_needs = 501\n",
        "analytics.size_outlier_needs: exceeds size_outlier_window (500)",
    ),
    (PAIR + "analytics = 5\n", "pairs[0].analytics: expected table, got int"),
    (
        PAIR + '[redis]\nurl = "localhost"\n',
        'redis.url: expected "embedded", redis://host[:port][/number], rediss://... or unix:///path',
    ),
    (
        PAIR + '[redis]\nurl = "redis://:secret@host"\n',
        "redis.url: holds a password: give it by the variable MARKETD__REDIS__URL",
    ),
    (
        PAIR + '[redis]\nurl = "unix:///s?password=x"\n',
        "redis.url: holds a password: give it by the variable MARKETD__REDIS__URL",
    ),
    (PAIR + '[ray]\naddress = "auto"\n', "ray.address: expected host:port, or nothing for a head of its own"),
    (PAIR + '[ray]\ntemp_dir = "tmp"\n', "ray.temp_dir: expected an absolute path"),
    (PAIR + "[ray]\ndashboard_port = 80\n", "ray.dashboard_port: expected int >= 1024"),
    (PAIR + '[log]\nlevel = "loud"\n', "log.level: expected one of debug, info, warning, error"),
    (PAIR + "[log]\nformat = 1\n", "log.format: expected one of auto, json, console"),
]


@pytest.mark.parametrize(("text", "message"), BAD)
def test_a_bad_file_is_refused_in_one_line_by_file_key_and_reason(text: str, message: str) -> None:
    assert refusal(text) == f"config.toml: {message}"


def test_all_problems_are_told_at_once() -> None:
    assert refusal(PAIR + "[engine]\ngather_ms = -1\n[log]\nlevel = 3\n[ray]\ndashboard = 1\n") == (
        "config.toml: engine.gather_ms: expected int >= 0; "
        "config.toml: ray.dashboard: expected true or false, got int; "
        "config.toml: log.level: expected one of debug, info, warning, error"
    )


def test_what_is_no_toml_is_told_by_line() -> None:
    assert refusal("a = \n") == "config.toml: Invalid value (at line 1, column 5)"


def test_what_is_no_text_is_refused(folder: Path) -> None:
    (folder / "config.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match=r"^config.toml: 'utf-8' codec can't decode"):
        load(None, {})


def test_a_missing_file() -> None:
    with pytest.raises(UsageError, match=r"^no config.toml in this folder: copy it from the marketd project"):
        load(None, {})
    with pytest.raises(UsageError, match=r"^nope.toml: no such file or directory$"):
        load(Path("nope.toml"), {})
    with pytest.raises(UsageError, match=r"^else.toml: no such file or directory$"):
        load(None, {"MARKETD_CONFIG": "else.toml"})
    with pytest.raises(UsageError, match=r"^\.: is a directory$"):
        load(Path(), {})


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("MARKETD__ENGINE__GATHER", "1", f"MARKETD__ENGINE__GATHER: unknown key (known: {ENGINE_KEYS})"),
        (
            "MARKETD__TYPO__X",
            "1",
            f"MARKETD__TYPO__X: unknown key (known: {SECTIONS})",
        ),
        ("MARKETD__ENGINE__GATHER_MS", "fast", "MARKETD__ENGINE__GATHER_MS: expected int, got str"),
        ("MARKETD__ENGINE__GATHER_MS", "1\nx = 2", "MARKETD__ENGINE__GATHER_MS: expected int, got str"),
        ("MARKETD__DATA_DIR__X", "1", "MARKETD__DATA_DIR__X: data_dir is not a section"),
        ("MARKETD__ENGINE", "1", "MARKETD__ENGINE: expected table, got int"),
    ],
)
def test_a_bad_override_is_refused_by_its_name(name: str, text: str, message: str) -> None:
    assert refusal('data_dir = "data"\n' + PAIR, {name: text}) == message


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_text(text, encoding="utf-8", errors="replace")
    with pytest.raises(UsageError):
        load(path, {})
    path.write_text(PAIR, encoding="utf-8")
    with suppress(UsageError):
        load(path, {"MARKETD__DATA_DIR": text, "MARKETD__REDIS__URL": text, "MARKETD__RAY__ADDRESS": text})
