from __future__ import annotations

from pathlib import Path

import pytest

from actors.spec import LiveSource, PairSpec, PushSource
from daemon import settings as settings_of
from daemon.config import load
from feeds.venues import VENUES
from market.pairs import Pair
from storage import embedded_redis
from tests.daemon.config_support import PAIR, given_file

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def addresses(spec: PairSpec) -> tuple[str, str]:
    assert isinstance(spec.source, LiveSource)
    return spec.source.ws_url, spec.source.rest_url


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


def test_systemd_hands_secrets_over_as_files(folder: Path) -> None:
    (folder / "credentials").mkdir()
    (folder / "credentials" / "MARKETD__REDIS__URL").write_text("redis://:secret@host\n", encoding="utf-8")
    settings = given_file(PAIR, {"CREDENTIALS_DIRECTORY": str(folder / "credentials")})
    assert settings.redis.url == "redis://:secret@host"


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
