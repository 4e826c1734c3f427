"""What `compare_snapshots` finds, against differences planted by hand."""

import numpy as np
import pandas as pd
import pytest

from steps.market.comparison import compare_snapshots
from steps.market.snapshot import FeatureSnapshot, make_snapshot


def snapshot(table: pd.DataFrame, horizon: int = 1) -> FeatureSnapshot:
    label = {"name": "direction", "definition": "up", "horizon": horizon}
    return make_snapshot(table, feature_set="tiny", version="1", label=label)


@pytest.fixture
def table() -> pd.DataFrame:
    dates = pd.date_range("2024-01-01", periods=4, unit="s")
    one = pd.DataFrame(
        {
            "date": dates,
            "symbol": "AAA",
            "rsi": np.array([10, 20, 30, 40], dtype=np.float32),
            "gap": np.array([0.1, 0.2, 0.3, 0.4], dtype=np.float32),
            "direction": pd.array([1, 0, 1, pd.NA], dtype="Int8"),
            "label_known_at": [*dates[1:], pd.NaT],
        }
    )
    return pd.concat([one, one.assign(symbol="BBB")], ignore_index=True)


def test_equal_snapshots_do_not_differ(table: pd.DataFrame) -> None:
    found = compare_snapshots(snapshot(table), snapshot(table.copy()))
    assert found.changes.empty
    assert found.manifest == {}
    assert found.common_rows == 8
    assert not len(found.rows_added)
    assert not len(found.rows_removed)


def test_a_changed_value_is_named_with_its_size_and_place(table: pd.DataFrame) -> None:
    changed = table.copy()
    changed.loc[1, "rsi"] = np.float32(20.5)
    changed.loc[6, "rsi"] = np.float32(28.0)
    found = compare_snapshots(snapshot(table), snapshot(changed))
    assert found.common_features_changed == ["rsi"]
    row = found.changes.loc["rsi"]
    assert (row["changed"], row["symbols"], row["largest"]) == (2, 2, 2.0)
    assert str(row["first_date"]) == "2024-01-02"
    assert str(row["last_date"]) == "2024-01-03"


def test_features_come_and_go(table: pd.DataFrame) -> None:
    other = table.rename(columns={"gap": "atr"})
    found = compare_snapshots(snapshot(table), snapshot(other))
    assert (found.features_added, found.features_removed) == (["atr"], ["gap"])
    assert found.changes.empty  # rsi is in both, and equal


def test_symbols_and_rows_come_and_go(table: pd.DataFrame) -> None:
    earlier = table[table["symbol"] == "AAA"].reset_index(drop=True)
    later = table.iloc[1:].reset_index(drop=True)
    found = compare_snapshots(snapshot(earlier), snapshot(later))
    assert (found.symbols_added, found.symbols_removed) == (["BBB"], [])
    assert found.rows_added["symbol"].tolist() == ["BBB"] * 4
    assert found.rows_removed[["symbol", "date"]].to_numpy().tolist() == [
        ["AAA", pd.Timestamp("2024-01-01")]
    ]
    assert found.common_rows == 3
    assert found.manifest["row_count"] == (4, 7)


def test_labels_that_became_known_are_seen(table: pd.DataFrame) -> None:
    later = table.copy()
    later.loc[3, "direction"] = 1
    later.loc[3, "label_known_at"] = pd.Timestamp("2024-01-05")
    found = compare_snapshots(snapshot(table), snapshot(later, horizon=1))
    assert list(found.changes.index) == ["direction", "label_known_at"]
    assert found.common_features_changed == []
    assert found.changes["changed"].tolist() == [1, 1]
    assert np.isnan(found.changes.loc["direction", "largest"])


def test_another_horizon_is_another_label(table: pd.DataFrame) -> None:
    found = compare_snapshots(snapshot(table), snapshot(table, horizon=5))
    was, now = found.manifest["label"]
    assert (was["horizon"], now["horizon"]) == (1, 5)
