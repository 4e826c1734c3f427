"""The benchmarks measure what they say: their peers compute our features, and no row is lost."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from bench import __main__ as bench
from bench.measure import PROGRAMS, FailedError, Row, Workplace, at_most, faster
from bench.prices import write_prices

from steps.market.build import build_table
from steps.market.features import get_feature_set
from steps.market.prices import load_prices

pytestmark = pytest.mark.slow

SETTLED = 700
"""Rows after which it no longer shows how a recursive mean was begun."""
# What others make of the same name: `ta` adds a day's volume where the close did not move, and
# between typical prices that differ by rounding only, pandas and all of them see a move.
DIFFERS = {
    "talib": set(),
    "pandas": {"money_flow_14"},
    "pandas-ta-classic": {"money_flow_14"},
    "ta": {"money_flow_14", "obv_slope_20"},
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    folder = tmp_path_factory.mktemp("place")
    return Workplace(folder, folder)


@pytest.fixture(scope="module")
def prices(place: Workplace) -> Path:
    return write_prices(place.folder / "prices.parquet", symbols=3, days=1_000)


def by_day(table: pd.DataFrame) -> pd.DataFrame:
    """Return settled features by symbol and day."""
    names = list(get_feature_set("core").names)
    keys = [table["symbol"].astype(str), pd.to_datetime(table["date"]).rename("date")]
    settled = table.groupby("symbol", observed=True).cumcount() >= SETTLED
    return table.set_index(keys)[names].astype(float)[settled.to_numpy()]


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("talib", ["talib_loop.py"]),
        ("pandas", ["pandas_groupby.py"]),
        *((name, ["indicator_package.py", name]) for name in ("pandas-ta-classic", "ta")),
    ],
)
def test_a_peer_computes_our_features(
    place: Workplace, prices: Path, name: str, command: list[str]
) -> None:
    ours = by_day(build_table(load_prices(prices).table, get_feature_set("core"), 1))
    told = place.told(command[0], *command[1:], prices, place.folder)
    theirs = by_day(pd.read_parquet(place.folder / f"{name}.parquet"))
    ours = ours.loc[theirs.index]
    assert len(theirs) == 3 * (1_000 - 33 - 1 - SETTLED)
    assert told["rows"] == 3 * (1_000 - 33 - 1)
    gap = (ours - theirs).abs() / (ours.abs() + ours.abs().mean())
    different = {str(column) for column in gap if not (gap[column] < 1e-4).all()}
    assert different <= DIFFERS[name]


def test_ours_tells_what_it_took(place: Workplace, prices: Path) -> None:
    (place.folder / "steps").symlink_to(bench.ROOT / "steps")
    told = place.told("ours_featurize.py", prices)
    assert told["cpu"] > 0
    assert told["making"] > 0
    assert told["finding"] > 0
    told = place.told("boosting.py", "3", "1")
    assert told["same"]


def test_memory_and_time_are_those_of_the_command(place: Workplace) -> None:
    idle = place.python("-c", "import time; time.sleep(0.5)")
    large = place.python("-c", "held = b'x' * (300 * 2**20); sum(range(10**7))")
    assert idle.wall > 0.5 > idle.cpu
    assert 290 < large.peak - idle.peak < 400
    assert large.cpu > 0.05
    with pytest.raises(FailedError, match=r"left with 1: .*no such thing"):
        place.python("-c", "raise SystemExit('no such thing')")


def test_a_part_that_fails_costs_its_own_rows_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def fails(place: Workplace, *, quick: bool) -> Iterator[Row]:
        del place, quick
        yield at_most("first", "other", 1.5, 2.0)
        raise FailedError("it broke")

    def works(place: Workplace, *, quick: bool) -> Iterator[Row]:
        place.python("-c", "import steps.entry_point")
        yield faster("second", "other", 30.0 if quick else 1.0, 20)

    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- bench -->\nold\n<!-- /bench -->\nafter\n")
    monkeypatch.setattr(bench, "README", readme)
    monkeypatch.setattr(bench, "PARTS", {"fails": fails, "works": works})
    assert bench.main(["--quick", "--write"]) == 1
    said = capsys.readouterr().out
    written = readme.read_text()
    for text in (said, written):
        assert "| first | other | 1.50x | ≤ 2x | yes |" in text
        assert "| fails |  | failed: it broke |  |  |" in text
        assert "| second | other | 30x faster | ≥ 20x | yes |" in text
    assert written.startswith("before\n<!-- bench -->\n")
    assert written.endswith("<!-- /bench -->\nafter\n")
    assert "old" not in written
    assert bench.main(["--quick", "works"]) == 0
    with pytest.raises(SystemExit):
        bench.main(["unheard"])


def test_readme_has_a_place_for_the_table() -> None:
    assert len(bench.BETWEEN.findall(bench.README.read_text())) == 1


def test_every_step_is_among_the_imports() -> None:
    from bench.imports import STEPS

    commands = {
        path.stem
        for path in (bench.ROOT / "steps").glob("*.py")
        if 'if __name__ == "__main__":' in path.read_text()
    }
    assert commands - {"move", "snapshot"} == set(STEPS)


def test_every_program_is_used() -> None:
    code = "".join(path.read_text() for path in PROGRAMS.parent.glob("*.py"))
    shared = {"plain_features.py"}
    for path in PROGRAMS.glob("*.py"):
        assert path.name in code or path.name in shared
    assert all((PROGRAMS / name / "MLproject").is_file() for name in ("door", "chain"))
