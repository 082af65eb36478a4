"""Every question in docs/queries.md is asked of recorded trades, and answered as the page says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from actors.spec import EngineSpec
from market.inputs import Instrument, TickBatch
from storage import views
from storage.reads import begin, export
from tests.actors.pair_support import ROOT, ByHand
from tests.recordings import HERE, trades

PAGE = (ROOT / "docs/queries.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```sql\n(.*?)```\n(?:\n```\n(.*?)```\n)?", PAGE, re.DOTALL)
RECORDED = HERE / "binance_spot_btcusdt_20240808-09.csv.gz"


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ByHand]:
    pair = ByHand(
        tmp_path_factory.mktemp("pair") / "binance/spot/BTCUSDT", EngineSpec(timeframes_s=(5, 60, 300, 900))
    )
    pair.take(Instrument(0.01))
    ticks = trades(RECORDED)
    for at in range(0, len(ticks), 4_096):
        pair.take(TickBatch(ticks[at : at + 4_096]))
    pair.flush()
    yield pair
    pair.close()


@pytest.mark.parametrize(("sql", "answer"), EXAMPLES, ids=[sql.split("\n")[0] for sql, _ in EXAMPLES])
def test_an_example_of_the_page(pair: ByHand, tmp_path: Path, sql: str, answer: str) -> None:
    with closing(begin(pair.files.hot.connection)) as cursor:
        export(cursor, pair.files.core.open_rows(), sql, "table", tmp_path / "out")
    assert (tmp_path / "out").read_text("utf-8") == answer


def test_the_page_shows_each_macro() -> None:
    shown = " ".join(sql for sql, _ in EXAMPLES)
    assert [macro.name for macro in views.MACROS if f"{macro.name}(" not in shown] == []
