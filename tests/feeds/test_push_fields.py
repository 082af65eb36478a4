from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feeds.frames import MAX_AHEAD_NS, Trade
from feeds.push_fields import MAX_BEHIND_DAYS, Entry, Told, read
from market.inputs import Quote
from market.times import DAY_NS, NS_PER_MS

NOW_NS = 1_700_000_000_000_000_000
TRADE = {"id": "a-1", "price": "100.5", "size": "0.25", "side": "buy", "ts_ns": str(NOW_NS)}
QUOTE = {"bid": "1", "bid_size": "2", "ask": "3", "ask_size": "4", "ts_ns": str(NOW_NS)}


def entry(**fields: str) -> Entry:
    return b"1700-0", {name.encode(): value.encode() for name, value in fields.items()}


def told(*entries: Entry, counted: bool = False) -> Told:
    return read(entries, NOW_NS, counted=counted)


def refusal(**fields: str) -> str:
    return refused(told(entry(**fields)))


def refused(found: Told) -> str:
    assert (found.trades, found.quote, found.clock_ns) == ([], None, 0)
    (one,) = found.rejected
    assert one.received_ns == NOW_NS
    return one.reason


@pytest.mark.parametrize(
    ("side", "sign"), [("buy", 1), ("BUY", 1), ("b", 1), ("Sell", -1), (" S ", -1), ("", 0), (" ", 0)]
)
def test_a_trade_and_its_side(side: str, sign: int) -> None:
    assert told(entry(**TRADE | {"side": side})).trades == [Trade("a-1", NOW_NS, 100.5, 0.25, sign)]


def test_a_trade_without_a_side_and_with_what_is_the_collectors_own() -> None:
    fields = {name: value for name, value in TRADE.items() if name != "side"} | {"pool": "0xabc", "fee": ""}
    assert told(entry(**fields)).trades == [Trade("a-1", NOW_NS, 100.5, 0.25, 0)]


def test_ids_are_text_or_count() -> None:
    assert told(entry(**TRADE | {"id": "007"})).trades[0].id == "007"
    assert told(entry(**TRADE | {"id": "7"}), counted=True).trades[0].id == 7
    assert told(entry(**TRADE | {"id": "x" * 128})).trades[0].id == "x" * 128


def test_milliseconds_are_as_good_and_nanoseconds_go_before() -> None:
    ms = {"ts_ms": str(NOW_NS // NS_PER_MS - 5)}
    without = {name: value for name, value in TRADE.items() if name != "ts_ns"}
    assert told(entry(**without, **ms)).trades[0].ts_ns == NOW_NS - 5 * NS_PER_MS
    assert told(entry(**without, **ms, ts_ns="")).trades[0].ts_ns == NOW_NS - 5 * NS_PER_MS
    assert told(entry(**TRADE, **ms)).trades[0].ts_ns == NOW_NS


def test_quotes_clocks_and_a_trade_with_its_quote() -> None:
    quote = Quote(NOW_NS, 1.0, 2.0, 3.0, 4.0, NOW_NS)
    found = told(entry(**QUOTE | {"bid": "0.5"}), entry(**QUOTE))
    assert (found.trades, found.quote, found.clock_ns, found.rejected) == ([], quote, 0, [])
    found = told(entry(ts_ns=str(NOW_NS - 1)), entry(ts_ms=str(NOW_NS // NS_PER_MS - 9)))
    assert (found.trades, found.quote, found.clock_ns, found.rejected) == ([], None, NOW_NS - 1, [])
    found = told(entry(**QUOTE | TRADE))
    assert (len(found.trades), found.quote, found.clock_ns) == (1, quote, 0)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"price": ""}, "no price"),
        ({"price": "dear"}, "price dear"),
        ({"price": "0"}, "price 0"),
        ({"price": "-1"}, "price -1"),
        ({"price": "nan"}, "price nan"),
        ({"price": "inf"}, "price inf"),
        ({"size": "0"}, "size 0"),
        ({"size": " "}, "no size"),
        ({"id": ""}, "no id"),
        ({"id": "x" * 129}, f"id '{'x' * 40}': at most 128 printable characters"),
        ({"id": "a\tb"}, r"id 'a\tb': at most 128 printable characters"),
        ({"side": "up"}, "side up: buy, sell, b, s or nothing"),
        ({"ts_ns": ""}, "no ts_ns"),
        ({"ts_ns": "soon"}, "ts_ns soon"),
        ({"ts_ns": "12"}, "ts_ns 12: time before 2009"),
        (
            {"ts_ns": str(NOW_NS + MAX_AHEAD_NS + 1)},
            f"ts_ns {NOW_NS + MAX_AHEAD_NS + 1}: time in the far future",
        ),
        ({"ts_ns": "", "ts_ms": "1e99"}, "ts_ms 1e99"),
        ({"bid": "1"}, "no bid_size"),
    ],
)
def test_what_is_refused_names_the_field(change: dict[str, str], reason: str) -> None:
    assert refusal(**TRADE | change) == reason


def test_a_trade_long_before_the_newest_in_the_stream_is_told_apart_with_why() -> None:
    limit_ns = NOW_NS - MAX_BEHIND_DAYS * DAY_NS
    just, older = (entry(**TRADE | {"id": f"-{n}", "ts_ns": str(limit_ns - n)}) for n in (0, 1))
    with_quote = entry(**TRADE | QUOTE | {"ts_ns": str(limit_ns - 1)})
    found = told(older, entry(**TRADE), just, older, with_quote)
    assert [trade.id for trade in found.trades] == ["-1", "a-1", "-0"]
    assert (found.quote, found.rejected, found.newest_ns) == (None, [], NOW_NS)
    (trade, why), _ = found.old
    assert trade.id == "-1"
    assert why.reason == f"ts_ns {limit_ns - 1}: more than 30 days before the newest"
    assert why.raw.startswith(b"1700-0 id=-1")
    assert len(read([older], NOW_NS, NOW_NS, counted=False).old) == 1
    assert len(told(entry(ts_ns=str(NOW_NS)), older).old) == 1


def test_a_counted_id_is_an_integer() -> None:
    for name in ("a-1", "-1", "007", "1.5"):
        assert refused(told(entry(**TRADE | {"id": name}), counted=True)) == f"id {name}"


def test_an_entry_with_nothing_to_read_or_not_to_be_read_is_refused() -> None:
    assert refusal(pool="0xabc") == "no ts_ns"
    assert told((b"1-0", {b"price": b"\xff"})).rejected[0].reason == "price is not UTF-8"
    assert told((b"1-0", {b"\xff": b"1"})).rejected[0].reason.endswith(" is not UTF-8")


def test_a_refused_entry_is_shown_and_leaves_its_neighbours_alone() -> None:
    found = told(entry(**TRADE), entry(**TRADE | {"price": "x" * 5_000}), entry(**TRADE | {"id": "b"}))
    assert [trade.id for trade in found.trades] == ["a-1", "b"]
    assert found.rejected[0].raw.startswith(b"1700-0 id=a-1 price=xxx")
    assert len(found.rejected[0].raw) == 1024


@given(
    st.lists(st.dictionaries(st.sampled_from([*TRADE, *QUOTE, "ts_ms", "x"]), st.binary(max_size=12))),
    st.booleans(),
)
def test_whatever_comes_is_told_or_refused(bodies: list[dict[str, bytes]], counted: bool) -> None:  # noqa: FBT001
    for body in bodies:
        fields = {name.encode(): value for name, value in body.items()}
        found = read([(b"1-0", fields)], NOW_NS, counted=counted)
        is_told = bool(found.trades or found.quote or found.clock_ns)
        assert is_told != bool(found.rejected)
