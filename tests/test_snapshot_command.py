"""``python -m steps.snapshot``: show one snapshot, compare two."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from conftest import ROOT

from steps.entry_point import open_step
from steps.featurize import FeaturizeParams, featurize
from steps.snapshot import main

SAMPLE = ROOT / "steps" / "market" / "sample" / "prices.parquet"


def make(prices: str, horizon: int = 1) -> str:
    params = FeaturizeParams(prices=prices, horizon=horizon)
    with open_step("featurize", params) as logger:
        return featurize(params, logger).snapshot_id


@pytest.fixture
def two_snapshots(database: Path) -> tuple[str, str]:
    """Snapshots of two price files: the second lacks IBM and has one doubled volume."""
    prices = pd.read_parquet(SAMPLE).groupby("symbol").tail(200)
    prices.to_parquet("first.parquet", index=False)
    changed = prices[prices["symbol"] != "IBM"].copy()
    place = changed.index[(changed["symbol"] == "MSFT")][-1]
    changed.loc[place, "volume"] *= 2
    changed.to_parquet("second.parquet", index=False)
    return make("first.parquet"), make("second.parquet")


def test_show_prints_manifest_and_provenance(
    two_snapshots: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    main(["show", two_snapshots[0]])
    shown = json.loads(capsys.readouterr().out)
    assert shown["feature_snapshot_id"] == two_snapshots[0]
    assert shown["manifest"]["symbols"] == ["AAPL", "FB", "GOOG", "IBM", "MSFT"]
    assert shown["provenance"]["prices"] == "first.parquet"
    assert set(shown["provenance"]["libraries"]) == {"numpy", "pandas", "pyarrow", "TA-Lib"}


def test_show_takes_the_newest(
    two_snapshots: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    main(["show"])
    assert json.loads(capsys.readouterr().out)["feature_snapshot_id"] == two_snapshots[1]


@pytest.mark.slow
def test_compare_names_what_differs(
    two_snapshots: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    main(["compare", *two_snapshots])
    told = capsys.readouterr().out
    assert "symbols only in a: IBM" in told
    assert "rows only in a: 167, IBM 167" in told
    changed = {line.split()[0] for line in told.splitlines() if "2013-03-01" in line}
    # one day's volume changes the features of volume, and nothing else
    assert {"volume_ratio_20", "obv_slope_20", "money_flow_14"} <= changed
    assert not {"return_1d", "rsi_14", "direction"} & changed


@pytest.mark.slow
def test_compare_of_equals_says_so(
    two_snapshots: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    main(["compare", two_snapshots[0], two_snapshots[0]])
    assert "the same snapshot" in capsys.readouterr().out


def test_an_unknown_id_is_one_line(
    two_snapshots: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    near = two_snapshots[0][:-1] + ("0" if two_snapshots[0][-1] != "0" else "1")
    with pytest.raises(SystemExit) as left:
        main(["show", near])
    assert left.value.code == 1
    told = capsys.readouterr().err
    assert f"did you mean {two_snapshots[0]}?" in told
    assert len(told.splitlines()) == 1


def test_an_unknown_experiment_is_one_line(
    database: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["--experiment_name", "elsewhere", "show"])
    assert "no experiment 'elsewhere'; there are: Default" in capsys.readouterr().err


@pytest.mark.slow
def test_a_damaged_snapshot_is_not_shown(
    two_snapshots: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    main(["show", two_snapshots[0]])
    folder = Path(json.loads(capsys.readouterr().out)["artifact_uri"])
    shutil.copy(SAMPLE, folder / "features.parquet")
    with pytest.raises(SystemExit):
        main(["show", two_snapshots[0]])
    assert "Run featurize again" in capsys.readouterr().err


@pytest.mark.slow
def test_the_command_says_how_it_is_used(run_python: Callable) -> None:
    told = run_python("-m", "steps.snapshot", "--help")
    assert told.returncode == 0
    assert "show" in told.stdout
    assert "compare" in told.stdout
