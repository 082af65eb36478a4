from __future__ import annotations

from contextlib import suppress
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.spec import LiveSource, PairSpec, PushSource
from analytics.params import AnalyticsParams
from daemon import settings as settings_of
from daemon.analytics import AnalyticsSettings
from daemon.config import load
from daemon.settings import Settings
from feeds.venues import VENUES
from market.errors import UsageError
from market.pairs import Pair
from storage import embedded_redis

ROOT = Path(__file__).parents[2]
PAIR = '[[pairs]]\nexchange = "binance"\nmarket = "spot"\nsymbols = ["BTCUSDT"]\n'
OTHER = PAIR.replace("BTCUSDT", "ETHUSDT")
ENGINE_KEYS = (
    "gather_ms, flush_interval_ms, max_batch_ticks, journal_sync, max_pairs_per_node, stale_after_s, "
    "close_grace_ms, quotes_interval_ms, backfill_s, timeframes"
)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def addresses(spec: PairSpec) -> tuple[str, str]:
    assert isinstance(spec.source, LiveSource)
    return spec.source.ws_url, spec.source.rest_url


def given_file(text: str, env: dict[str, str] | None = None) -> Settings:
    Path("config.toml").write_text(text, encoding="utf-8")
    return load(None, env or {})


def refusal(text: str, env: dict[str, str] | None = None) -> str:
    with pytest.raises(UsageError) as caught:
        given_file(text, env)
    return str(caught.value)


def test_the_projects_own_file_is_the_default_product(folder: Path) -> None:
    settings = load(ROOT / "config.toml", {})
    specs = settings.pair_specs()
    assert [spec.pair.key for spec in specs] == [
        "binance:spot:BTCUSDT",
        "binance:spot:ETHUSDT",
        "binance:spot:SOLUSDT",
    ]
    assert specs[0].alias == "binance:spot:BTCUSDT"
    assert specs[0].folder == folder / "data/binance/spot/BTCUSDT"
    assert specs[0].signal_lane == folder / "data/run/lanes/signal.sock"
    assert addresses(specs[0]) == ("wss://data-stream.binance.vision", "https://api.binance.com")


def test_what_the_projects_file_shows_as_defaults_are_the_defaults() -> None:
    text = (ROOT / "config.toml").read_text(encoding="utf-8")
    keys = [line[2:] for line in text.splitlines() if line.startswith("# ") and " = " in line]
    shown = text
    for line in keys:
        if not line.startswith(("alias", "tick_size")):
            shown = shown.replace("# " + line, line)
    assert shown != text
    assert given_file(shown) == given_file(text)


def test_every_value_reaches_its_place() -> None:
    settings = given_file(
        'data_dir = "~/record"\n'
        + PAIR
        + 'alias = "BTC"\nstate_step_s = 60\ntick_size = 0.5\n'
        + '[exchanges.binance]\nws_url = "ws://127.0.0.1:1/"\nrest_url = "http://[::1]:2"\n'
        + "[engine]\ngather_ms = 7\nflush_interval_ms = 500\nmax_batch_ticks = 99\njournal_sync = false\n"
        + "max_pairs_per_node = 3\nstale_after_s = 12.5\nclose_grace_ms = 100\nquotes_interval_ms = 250\n"
        + 'timeframes = ["1h", "1m", "5s"]\n'
        + "[redis]\nenabled = false\n"
        + '[ray]\naddress = "head:6379"\n[log]\nlevel = "debug"\nformat = "json"\n',
    )
    (spec,) = settings.pair_specs()
    assert settings.data_dir == Path("~/record").expanduser()
    assert (spec.alias, spec.signal_lane) == ("BTC", None)
    assert (settings.pairs[0].state_step_s, settings.pairs[0].tick_size) == (60, 0.5)
    assert addresses(spec) == ("ws://127.0.0.1:1", "http://[::1]:2")
    engine = spec.engine
    assert (engine.gather_ms, engine.flush_interval_ms, engine.max_batch_ticks) == (7, 500, 99)
    assert (engine.journal_sync, engine.stale_after_s, engine.close_grace_ms) == (False, 12.5, 100)
    assert (engine.quotes_interval_ms, engine.timeframes_s) == (250, (5, 60, 3_600))
    assert (settings.engine.max_pairs_per_node, settings.ray.address) == (3, "head:6379")
    assert (settings.log.level, settings.log.format) == ("debug", "json")


def test_a_pushed_pair_is_of_any_exchange_and_knows_its_stream(folder: Path) -> None:
    text = (
        '[[pairs]]\nexchange = "uniswap"\nmarket = "dex"\nsymbols = ["WETH-USDC"]\nfeed = "push"\n'
        '[[pairs]]\nexchange = "bybit"\nmarket = "spot"\nsymbols = ["A", "B"]\nfeed = "push"\n'
        "contiguous_ids = true\ntrim = false\n"
    )
    (dex, spot, _), url = given_file(text).pair_specs(), f"unix://{folder}/data/run/redis/redis.sock"
    assert (dex.source, dex.contiguous) == (PushSource(url, "ingest:uniswap:dex:WETH-USDC"), False)
    assert (spot.source, spot.contiguous) == (PushSource(url, "ingest:bybit:spot:A", trim=False), True)
    own = given_file(text, {"MARKETD__REDIS__URL": "redis://:secret@host"}).pair_specs()[0]
    assert isinstance(own.source, PushSource)
    assert own.source.url == "redis://:secret@host"
    assert "secret" not in repr(own)


def test_a_path_too_long_for_a_collector_is_one_too_long_for_a_socket() -> None:
    assert settings_of.MAX_REDIS_SOCKET_BYTES == embedded_redis.MAX_SOCKET_PATH_BYTES


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


def test_an_unknown_parameter_is_refused_where_it_stands() -> None:
    known = "(known: profile_bin_ticks, profile_value_area, "
    text = PAIR + "analytics.fvg_size = 1\n" + "[analytics]\natr = 1\n"
    first, second = refusal(text).split("; ")
    assert first.startswith(f"config.toml: analytics.atr: unknown key {known}")
    assert second.startswith(f"config.toml: pairs[0].analytics.fvg_size: unknown key {known}")


def parameters(text: str, env: dict[str, str] | None = None) -> list[AnalyticsParams]:
    found = [spec.params for spec in given_file(text, env).pair_specs()]
    return [params for params in found if params is not None]


def test_the_parameters_are_the_products_unless_all_pairs_or_one_have_others() -> None:
    (usual,) = parameters(PAIR)
    assert usual == AnalyticsParams()
    one, other = parameters(
        PAIR
        + "state_step_s = 60\nanalytics = { zone_atr_bars = 20, size_outlier_z = 5 }\n"
        + OTHER
        + "[analytics]\nzone_atr_bars = 10\nprofile_bin_ticks = 4\nsentiment_bullish = 0.6\n",
        {"MARKETD__ANALYTICS__FVG_MIN_GAP_TICKS": "3"},
    )
    assert (one.zones.atr_bars, other.zones.atr_bars) == (20, 10)
    assert (one.state.step_ns, other.state.step_ns) == (60 * 10**9, 10**9)
    assert (one.outliers.size.z, other.outliers.size.z) == (5.0, 4.0)
    for params in (one, other):
        assert params.profile.bin_ticks == 4
        assert (params.state.bullish, params.gaps.min_gap_ticks) == (0.6, 3.0)


def test_each_parameter_reaches_a_fold_of_its_own() -> None:
    usual = AnalyticsSettings()
    seen = {usual.params(1)}
    for one in fields(usual):
        value: Any = getattr(usual, one.name)
        other: Any = (
            not value if isinstance(value, bool) else value / 2 if isinstance(value, float) else value + 1
        )
        if one.name in {"fvg_min_gap_ticks", "fvg_min_gap_atr"}:
            other = 1.0
        seen.add(replace(usual, **{one.name: other}).params(1))
    assert len(seen) == 1 + len(fields(usual))


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


def test_the_option_comes_before_the_variable_before_the_usual_file(folder: Path) -> None:
    for name in ("config", "variable", "option"):
        (folder / f"{name}.toml").write_text(f'data_dir = "{name}"\n{PAIR}', encoding="utf-8")
    env = {"MARKETD_CONFIG": "variable.toml"}
    assert load(None, {}).data_dir.name == "config"
    assert load(None, env).data_dir.name == "variable"
    assert load(Path("option.toml"), env).data_dir.name == "option"


def test_the_environment_overrides_any_key(folder: Path) -> None:
    settings = given_file(
        PAIR + "[engine]\ngather_ms = 1\n",
        {
            "MARKETD__DATA_DIR": "2025-01-01",  # reads as a date, but is a folder
            "MARKETD__ENGINE__GATHER_MS": "9",
            "MARKETD__ENGINE__TIMEFRAMES": '["1m", "1h"]',
            "MARKETD__EXCHANGES__BINANCE__WS_URL": "ws://localhost:1",
            "MARKETD__REDIS__URL": "redis://:secret@host",
            "MARKETD__LOG__LEVEL": '"debug"',
            "MARKETD__PAIRS": '[{exchange = "binance", market = "spot", symbols = ["SOLUSDT"]}]',
            "MARKETD_CONFIGURATION": "something else",
        },
    )
    assert settings.data_dir == folder / "2025-01-01"
    assert (settings.engine.gather_ms, settings.engine.timeframes) == (9, ("1m", "1h"))
    assert addresses(settings.pair_specs()[0]) == ("ws://localhost:1", "https://api.binance.com")
    assert settings.pairs[0].pair == Pair("binance", "spot", "SOLUSDT")
    assert settings.log.level == "debug"
    assert settings.redis.url == "redis://:secret@host"
    assert "secret" not in repr(settings)


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


def test_systemd_hands_secrets_over_as_files(folder: Path) -> None:
    (folder / "credentials").mkdir()
    (folder / "credentials" / "MARKETD__REDIS__URL").write_text("redis://:secret@host\n", encoding="utf-8")
    settings = given_file(PAIR, {"CREDENTIALS_DIRECTORY": str(folder / "credentials")})
    assert settings.redis.url == "redis://:secret@host"


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_text(text, encoding="utf-8", errors="replace")
    with pytest.raises(UsageError):
        load(path, {})
    path.write_text(PAIR, encoding="utf-8")
    with suppress(UsageError):
        load(path, {"MARKETD__DATA_DIR": text, "MARKETD__REDIS__URL": text, "MARKETD__RAY__ADDRESS": text})


def test_each_market_of_a_venue_may_be_elsewhere(tmp_path: Path) -> None:
    text = (
        PAIR
        + '[[pairs]]\nexchange = "binance"\nmarket = "futures"\nsymbols = ["BTCUSDT"]\n'
        + '[exchanges.binance]\nws_url = "ws://everywhere"\n[exchanges.binance.futures]\nws_url = "ws://there"\n'
    )
    path = tmp_path / "config.toml"
    path.write_text(text)
    spot, futures = load(path, {}).pair_specs()
    assert addresses(spot) == ("ws://everywhere", "https://api.binance.com")
    assert addresses(futures) == ("ws://there", "https://fapi.binance.com")


def test_every_venue_that_is_spoken_has_an_address_and_says_whether_its_ids_count() -> None:
    assert settings_of.VENUES.keys() == VENUES.keys()
    numberless = {key for key, venue in VENUES.items() if not venue.rules.contiguous}
    assert numberless == settings_of.NUMBERLESS
