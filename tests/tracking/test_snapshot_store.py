"""Snapshots in MLflow: saved whole, found by ID or content, and never believed unchecked."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from faults.small_disk import small_disk

from steps.market.build import build_snapshot
from steps.market.features import get_feature_set
from steps.market.prices import load_prices
from steps.market.snapshot import FeatureSnapshot, SnapshotError, make_snapshot
from steps.tracking.checksums import SUMS
from steps.tracking.mlflow_logger import MLflowLogger
from steps.tracking.snapshot_store import (
    SnapshotNotFoundError,
    StoredSnapshot,
    find_by_key,
    load_provenance,
    load_snapshot,
    resolve_snapshot,
    save_snapshot,
    snapshot_dataset,
)
from steps.tracking.snapshot_table import to_arrow
from steps.tracking.stores import TrackingError


def make(seed: int = 0, days: int = 30) -> FeatureSnapshot:
    """Two symbols, three features, and a label that is not known for the last day."""
    random = np.random.default_rng(seed)
    tables = []
    for symbol in ("AAPL", "BRK.B ü"):
        dates = pd.bdate_range("2012-01-02", periods=days).astype("datetime64[s]")
        table = pd.DataFrame({"date": dates, "symbol": pd.array([symbol] * days, dtype="str")})
        for name in ("rsi_14", "macd", "return 1d"):
            table[name] = random.normal(size=days).astype(np.float32)
        known = random.integers(0, 2, days - 1)
        table["direction"] = pd.array([*known, pd.NA], dtype="Int8")
        table["label_known_at"] = pd.Series(dates).shift(-1).astype("datetime64[s]")
        tables.append(table)
    return make_snapshot(
        pd.concat(tables, ignore_index=True),
        feature_set="core",
        version="1",
        label={"name": "direction", "horizon": 1},
    )


def save(
    snapshot: FeatureSnapshot, experiment: str = "snapshots", key: str = "k1"
) -> tuple[StoredSnapshot, MLflowLogger]:
    with MLflowLogger(experiment) as logger:
        stored = save_snapshot(logger, snapshot, {"made_by": "test"}, key)
    return stored, logger


def assert_equal(found: FeatureSnapshot, expected: FeatureSnapshot) -> None:
    """Nothing differs: values to the last bit, dtypes, order, index, manifest."""
    pd.testing.assert_frame_equal(found.table, expected.table, check_exact=True)
    for name in expected.feature_names:
        assert found.table[name].to_numpy().tobytes() == expected.table[name].to_numpy().tobytes()
    assert found.manifest == expected.manifest
    assert list(found.manifest) == list(expected.manifest)
    assert found.snapshot_id == expected.snapshot_id


# -- there and back ----------------------------------------------------------------------------


def test_a_snapshot_there_and_back(database: Path) -> None:
    snapshot = make()
    stored, logger = save(snapshot)
    assert stored.snapshot_id == snapshot.snapshot_id
    assert stored.run_id == logger.run_id
    assert_equal(load_snapshot(stored), snapshot)
    assert load_provenance(stored) == {"made_by": "test"}
    tags = logger.client.get_run(stored.run_id).data.tags
    assert tags["feature_snapshot_id"] == snapshot.snapshot_id
    assert tags["feature_key"] == "k1"


def test_the_bundled_prices_snapshot_there_and_back(database: Path) -> None:
    prices = load_prices("sample").table
    snapshot = build_snapshot(prices, get_feature_set("core"), horizon=5)
    stored, _ = save(snapshot)
    assert_equal(load_snapshot(stored), snapshot)


def test_extreme_values_survive(database: Path) -> None:
    table = make().table
    limits = np.finfo(np.float32)
    extremes = [limits.max, limits.min, limits.tiny, limits.smallest_subnormal, -0.0, 0.1]
    table.loc[: len(extremes) - 1, "macd"] = np.array(extremes, dtype=np.float32)
    table["direction"] = pd.array([pd.NA] * len(table), dtype="Int8")
    table["label_known_at"] = pd.Series(pd.NaT, index=table.index, dtype="datetime64[s]")
    label = {"name": "direction", "horizon": 99}
    snapshot = make_snapshot(table, feature_set="core", version="1", label=label)
    stored, _ = save(snapshot)
    assert_equal(load_snapshot(stored), snapshot)


def test_the_stored_table_is_for_everybody(database: Path) -> None:
    stored, logger = save(make())
    path = logger.client.download_artifacts(stored.run_id, "snapshot/features.parquet", ".")
    schema = pq.read_schema(path)
    assert schema.metadata is None  # no trace of pandas
    assert [schema.field(name).type for name in ("date", "symbol", "macd", "direction")] == [
        pa.date32(),
        pa.string(),
        pa.float32(),
        pa.int8(),
    ]


@pytest.mark.slow
def test_a_snapshot_through_a_server(server: str, in_empty_folder: Path) -> None:
    snapshot = make()
    with MLflowLogger("snapshots", tracking_uri=server) as logger:
        save_snapshot(logger, snapshot, {}, "k")
    mlflow.set_tracking_uri(server)
    found = resolve_snapshot(logger.client, logger.experiment_id, snapshot.snapshot_id)
    assert found.run_id == logger.run_id
    assert_equal(load_snapshot(found), snapshot)


# -- finding -----------------------------------------------------------------------------------


def test_the_latest_is_the_newest_of_the_experiment(database: Path) -> None:
    first, logger = save(make(0))
    second, _ = save(make(1), key="k2")
    elsewhere, _ = save(make(2), "other experiment", key="k3")
    client, here = logger.client, logger.experiment_id
    assert resolve_snapshot(client, here) == second
    assert resolve_snapshot(client, None) == elsewhere
    assert resolve_snapshot(client, here, first.snapshot_id) == first
    assert resolve_snapshot(client, here, elsewhere.snapshot_id) == elsewhere
    assert resolve_snapshot(client, None, first.snapshot_id) == first
    again, _ = save(make(0))
    assert resolve_snapshot(client, here, first.snapshot_id) == again
    client.delete_run(again.run_id)
    assert resolve_snapshot(client, here, first.snapshot_id) == first


def test_only_finished_featurize_runs_count(database: Path) -> None:
    snapshot = make()
    with MLflowLogger("snapshots") as reader:  # has the tag, as train has, but made none
        reader.set_tags(feature_snapshot_id=snapshot.snapshot_id)
    client, here = reader.client, reader.experiment_id

    def assert_nothing() -> None:
        for wanted in ("latest", snapshot.snapshot_id):
            with pytest.raises(SnapshotNotFoundError):
                resolve_snapshot(client, here, wanted)
        assert find_by_key(client, here, "k1") is None

    assert_nothing()
    with pytest.raises(RuntimeError), MLflowLogger("snapshots") as running:
        save_snapshot(running, snapshot, {}, "k1")
        assert client.get_run(running.run_id).info.status == "RUNNING"
        assert_nothing()
        raise RuntimeError
    assert client.get_run(running.run_id).info.status == "FAILED"
    assert_nothing()
    stored, _ = save(snapshot)
    assert resolve_snapshot(client, here) == stored


def test_an_unknown_id_names_the_nearest(database: Path) -> None:
    stored, logger = save(make(0))
    save(make(1))
    typo = f"{stored.snapshot_id[:20]}0{stored.snapshot_id[21:31]}x"
    with pytest.raises(SnapshotNotFoundError) as caught:
        resolve_snapshot(logger.client, logger.experiment_id, typo)
    message = str(caught.value)
    assert f"no feature snapshot {typo} (2 known)" in message
    assert f"did you mean {stored.snapshot_id}?" in message
    assert "'latest'" in message
    with pytest.raises(SnapshotNotFoundError, match=r"\(2 known\): 'latest' takes"):
        resolve_snapshot(logger.client, logger.experiment_id, "z" * 32)
    for odd in ("", "a'b", "x OR 1=1", "../x"):
        with pytest.raises(SnapshotNotFoundError, match="is no snapshot ID: expected 32 hexade"):
            resolve_snapshot(logger.client, logger.experiment_id, odd)


def test_an_experiment_without_snapshots_says_how_to_make_one(database: Path) -> None:
    with MLflowLogger("empty") as logger:
        pass
    with pytest.raises(SnapshotNotFoundError, match=r"mlflow run \. -e featurize"):
        resolve_snapshot(logger.client, logger.experiment_id)


def test_equal_content_is_found_by_its_key_where_it_still_verifies(database: Path) -> None:
    stored, logger = save(make(0), key="k1")
    client, here = logger.client, logger.experiment_id
    assert find_by_key(client, here, "k1") == stored
    assert find_by_key(client, here, "k2") is None
    assert find_by_key(client, client.create_experiment("other"), "k1") is None
    table = Path(stored.artifact_uri.removeprefix("file://")) / "features.parquet"
    whole = table.read_bytes()
    table.write_bytes(whole[:-100])
    assert find_by_key(client, here, "k1") is None
    pq.write_table(to_arrow(make(1).table), table)
    assert find_by_key(client, here, "k1") is None
    table.write_bytes(whole)
    assert find_by_key(client, here, "k1") == stored
    shutil.rmtree(table.parent)
    assert find_by_key(client, here, "k1") is None


def test_a_snapshot_can_be_searched_as_dataset(database: Path) -> None:
    snapshot = make()
    stored, _ = save(snapshot)
    with MLflowLogger("snapshots", run_name="train") as train:
        train.log_dataset(snapshot_dataset(stored, snapshot.manifest))
    found = train.client.search_runs(
        [train.experiment_id], f"dataset.digest = '{stored.snapshot_id}'"
    )
    assert [run.info.run_id for run in found] == [train.run_id]
    (logged,) = found[0].inputs.dataset_inputs
    assert logged.dataset.name == "feature_snapshot"
    assert json.loads(logged.dataset.source) == {"uri": f"runs:/{stored.run_id}/snapshot"}
    assert json.loads(logged.dataset.profile)["row_count"] == 60
    assert [(tag.key, tag.value) for tag in logged.tags] == [("mlflow.data.context", "features")]


# -- checking ----------------------------------------------------------------------------------


@pytest.fixture
def kept(database: Path) -> tuple[StoredSnapshot, FeatureSnapshot, Path]:
    """A snapshot of before there were checksums, what it should hold, and where it lies."""
    snapshot = make()
    stored, _ = save(snapshot)
    folder = Path(stored.artifact_uri.removeprefix("file://"))
    (folder / SUMS).unlink()
    return replace(stored, seal=None), snapshot, folder


def flipped(whole: bytes, step: int) -> Iterator[bytes]:
    for position in range(0, len(whole), step):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << position % 8
        yield bytes(damaged)


@pytest.mark.slow
@pytest.mark.parametrize(
    "step", [pytest.param(61, id="some"), pytest.param(5, id="many", marks=pytest.mark.slow)]
)
def test_a_flipped_bit_is_noticed_or_changes_nothing(
    kept: tuple[StoredSnapshot, FeatureSnapshot, Path], step: int
) -> None:
    stored, snapshot, folder = kept
    noticed = 0
    for name in ("features.parquet", "manifest.json"):
        whole = (folder / name).read_bytes()
        for damaged in flipped(whole, step):
            (folder / name).write_bytes(damaged)
            try:
                found = load_snapshot(stored)
            except (SnapshotError, TrackingError):
                noticed += 1
            else:
                assert_equal(found, snapshot)
        (folder / name).write_bytes(whole)
    assert noticed > 20
    assert_equal(load_snapshot(stored), snapshot)


def test_values_that_were_changed_are_refused(
    kept: tuple[StoredSnapshot, FeatureSnapshot, Path],
) -> None:
    stored, snapshot, folder = kept

    def bump(table: Any) -> None:
        table.loc[7, "macd"] = np.nextafter(table.loc[7, "macd"], np.float32(9))

    def turn(table: Any) -> None:
        table.loc[3, "direction"] = 1 - table.loc[3, "direction"]

    def guess(table: Any) -> None:
        table.loc[29, "direction"] = 1

    def peek(table: Any) -> None:
        table.loc[3, "label_known_at"] = table.loc[3, "date"]

    def rename(table: Any) -> None:
        table["symbol"] = table["symbol"].replace("AAPL", "AAPM")

    changes: list[Callable[[Any], None]] = [bump, turn, guess, peek, rename]
    for change in changes:
        table = snapshot.table.copy()
        change(table)
        pq.write_table(to_arrow(table), folder / "features.parquet")
        with pytest.raises(SnapshotError, match=r"does not verify: .*values hash to \w{64}, the m"):
            load_snapshot(stored)
    for other in (snapshot.table.iloc[1:], snapshot.table.iloc[::-1], snapshot.table.iloc[:0]):
        pq.write_table(to_arrow(other), folder / "features.parquet")
        with pytest.raises((SnapshotError, TrackingError)):
            load_snapshot(stored)


def test_tables_of_another_kind_are_refused(
    kept: tuple[StoredSnapshot, FeatureSnapshot, Path],
) -> None:
    stored, snapshot, folder = kept
    whole = to_arrow(snapshot.table)
    for table in (
        whole.drop_columns(["direction"]),
        whole.rename_columns([*whole.column_names[:-1], "known"]),
        whole.append_column("extra", whole["macd"]),
        whole.set_column(3, "macd", whole["macd"].cast(pa.float64())),
        whole.set_column(1, "symbol", pa.nulls(len(whole), pa.string())),
        whole.set_column(1, "symbol", pa.array([b"\xff\xfe"] * len(whole)).view(pa.string())),
        pa.table({"a": [1]}),
    ):
        pq.write_table(table, folder / "features.parquet")
        with pytest.raises((SnapshotError, TrackingError)):
            load_snapshot(stored)


def test_a_manifest_that_was_changed_is_refused(
    kept: tuple[StoredSnapshot, FeatureSnapshot, Path],
) -> None:
    stored, snapshot, folder = kept
    changed: list[Any] = [{**snapshot.manifest, "version": "2"}, {}, [], "x", None, 1]
    for manifest in changed:
        (folder / "manifest.json").write_text(json.dumps(manifest))
        with pytest.raises(SnapshotError, match=f"hashes to .*, expected {stored.snapshot_id}"):
            load_snapshot(stored)
    # Written with other spaces and in another order it says the same.
    (folder / "manifest.json").write_text(json.dumps(dict(reversed(snapshot.manifest.items()))))
    assert load_snapshot(stored).snapshot_id == stored.snapshot_id


def test_files_that_are_gone_are_named(
    kept: tuple[StoredSnapshot, FeatureSnapshot, Path],
) -> None:
    stored, _, folder = kept
    for name in ("features.parquet", "manifest.json"):
        (folder / name).rename(folder / "away")
        with pytest.raises(TrackingError, match=f"snapshot {stored.snapshot_id} of run .*gone or"):
            load_snapshot(stored)
        (folder / "away").rename(folder / name)
    load_snapshot(stored)
    shutil.rmtree(folder)
    with pytest.raises(TrackingError, match="run featurize again"):
        load_snapshot(stored)


def test_a_full_disk_is_called_one(
    kept: tuple[StoredSnapshot, FeatureSnapshot, Path], tmp_path: Path
) -> None:
    stored, _, _ = kept
    code = """
import sys
from steps.tracking.snapshot_store import StoredSnapshot, TrackingError, open_snapshot
try:
    with open_snapshot(StoredSnapshot(*sys.argv[1:])):
        pass
except TrackingError as error:
    print(error)
"""
    with small_disk(tmp_path / "disk", megabytes=1) as disk:
        disk.fill(but=4096)  # enough to be taken for a folder to work in
        command = disk.see([sys.executable, "-c", code, *filter(None, vars(stored).values())])
        changes = {"PYTHONPATH": os.pathsep.join(sys.path), "TMPDIR": str(disk.folder)}
        ran = subprocess.run(
            command, env=os.environ | changes, capture_output=True, text=True, check=True
        )
    expected = f"there is no room for snapshot {stored.snapshot_id} in {disk.folder}, where"
    assert ran.stdout.startswith(expected)
