"""A snapshot in its file is the snapshot in memory."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from steps.market.build import build_snapshot
from steps.market.features import get_feature_set
from steps.market.prices import load_prices
from steps.market.snapshot import FeatureSnapshot, SnapshotError
from steps.tracking import snapshot_file
from steps.tracking.snapshot_file import SnapshotFile
from steps.tracking.snapshot_table import TableWriter, to_arrow


@pytest.fixture(scope="module")
def snapshot() -> FeatureSnapshot:
    return build_snapshot(load_prices("sample").table, get_feature_set("core"), horizon=5)


def write(snapshot: FeatureSnapshot, path: Path, cuts: list[int]) -> None:
    """Write the table in as many parts, anywhere cut."""
    writer = TableWriter(path)
    places = [0, *sorted(cuts), len(snapshot.table)]
    for start, stop in pairwise(places):
        if start < stop:
            writer.write(snapshot.table.iloc[start:stop])
    writer.close()


def assert_same(found: pd.DataFrame, snapshot: FeatureSnapshot, rows: NDArray[np.intp]) -> None:
    expected = snapshot.features.iloc[rows]
    assert found.to_numpy().tobytes() == expected.to_numpy().tobytes()
    assert list(found.columns) == list(expected.columns)
    assert list(found.index) == list(expected.index)
    assert set(found.dtypes) == {np.dtype(np.float32)}


@pytest.mark.slow
@given(data=st.data())
def test_any_rows_of_any_row_groups(
    data: st.DataObject, snapshot: FeatureSnapshot, tmp_path_factory: pytest.TempPathFactory
) -> None:
    n = len(snapshot.table)
    path = tmp_path_factory.mktemp("file") / "features.parquet"
    write(snapshot, path, data.draw(st.lists(st.integers(1, n - 1), max_size=4)))
    found = SnapshotFile(path, snapshot.manifest)
    seed, share = data.draw(st.integers(0, 99)), data.draw(st.sampled_from([0.0, 0.001, 0.5, 1.0]))
    rows = np.flatnonzero(np.random.default_rng(seed).random(n) < share)
    batches = list(found.batches(rows))
    assert sum(map(len, batches)) == len(rows)
    assert_same(found.features_of(rows), snapshot, rows)
    labels = snapshot.labels_of(rows)
    pd.testing.assert_series_equal(found.labels_of(rows), labels, check_exact=True)


def test_the_rest_of_the_table_is_in_memory(
    snapshot: FeatureSnapshot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot_file, "_PART_ROWS", 1000)
    write(snapshot, tmp_path / "a", [])
    found = SnapshotFile(tmp_path / "a", snapshot.manifest)
    expected = snapshot.table[["date", "symbol", "direction", "label_known_at"]]
    pd.testing.assert_frame_equal(found.table.astype({"symbol": "str"}), expected, check_exact=True)
    assert found.table["symbol"].dtype == "category"
    assert (found.snapshot_id, found.horizon) == (snapshot.snapshot_id, 5)


def test_one_changed_bit_anywhere_is_found(
    snapshot: FeatureSnapshot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot_file, "_PART_ROWS", 1000)
    for row in (0, 5_000, len(snapshot.table) - 1):
        table = snapshot.table.copy()
        value = table["rsi_14"].to_numpy().copy()
        value[row] = np.nextafter(value[row], np.float32(0))
        table["rsi_14"] = value
        pq.write_table(to_arrow(table), tmp_path / "a")
        with pytest.raises(SnapshotError, match="values_sha256 differ"):
            SnapshotFile(tmp_path / "a", snapshot.manifest)


def test_other_columns_or_rows_are_refused(snapshot: FeatureSnapshot, tmp_path: Path) -> None:
    arrow = to_arrow(snapshot.table)
    for table, reason in (
        (arrow.slice(1), "rows, the manifest"),
        (arrow.drop_columns(["month"]), "columns are not those of the manifest: 'month'"),
        (arrow.append_column("x", pa.nulls(len(arrow))), "not those of the manifest: 'x'"),
    ):
        pq.write_table(table, tmp_path / "a")
        with pytest.raises(ValueError, match=reason):
            SnapshotFile(tmp_path / "a", snapshot.manifest)
