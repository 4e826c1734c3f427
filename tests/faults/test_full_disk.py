"""The disk is full: it says so, nothing that was there is damaged, and the run does not pass."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from services.sqlite import place_database

from faults.cells import Losses, fault
from faults.place import SOME_ROUNDS, Place, Work
from faults.rounds import check_beginning, check_rounds
from faults.small_disk import SmallDisk, small_disk
from faults.started import Started, module
from steps.tracking.snapshot_store import KEY_TAG, load_snapshot, snapshot_of

LEFT = 64 * 1024
"""Bytes; enough to open a run, not to store a snapshot."""
LEFT_FOR_A_JOURNAL = 256 * 1024


@fault("the disk is full")
def test_full_disk(
    place: Place, work: Work, in_empty_folder: Path, migrated_database: Path, losses: Losses
) -> None:
    with small_disk(in_empty_folder / "disk", megabytes=16) as disk:
        if place.backend.server is None:
            fill_the_store(place, work, disk, migrated_database)
        else:
            fill_the_machine(place, work, disk, losses)


def fill_the_store(place: Place, work: Work, disk: SmallDisk, migrated: Path) -> None:
    """Store snapshots on the disk, which is full for the second."""
    if place.backend.name == "sqlite":
        database = place_database(migrated, work.folder)
        shutil.move(database / "mlflow.db", disk.inside)
        uri = f"sqlite:///{disk.folder}/mlflow.db"
    else:
        uri = (disk.folder / "mlruns").as_uri()

    def featurize(horizon: int) -> Started:
        typed = module("steps.featurize", prices=place.prices, horizon=horizon)
        return work.begin(disk.see(typed), {"MLFLOW_TRACKING_URI": uri})

    featurize(1).succeed()
    disk.fill(but=LEFT)
    failed = featurize(5)
    assert failed.end() == 1
    assert "No space left on device" in failed.said[-1]
    assert str(disk.folder) in failed.said[-1]
    disk.make_room()
    featurize(5).succeed()

    disk.take_out()
    if place.backend.name == "sqlite":
        with closing(sqlite3.connect(disk.folder / "mlflow.db")) as opened:
            assert opened.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    client = type(place.client)(uri)
    experiments = [each.experiment_id for each in client.search_experiments()]
    runs = client.search_runs(experiments, order_by=["attributes.start_time"])
    assert [run.info.status for run in runs] == ["FINISHED", "FAILED", "FINISHED"]
    for run in (runs[0], runs[2]):
        stored = snapshot_of(run.info.run_id, run.info.artifact_uri, run.data.tags)
        assert load_snapshot(stored).snapshot_id == run.data.tags["feature_snapshot_id"]
    assert KEY_TAG not in runs[1].data.tags


def fill_the_machine(place: Place, work: Work, disk: SmallDisk, losses: Losses) -> None:
    """Keep the journal on the disk, which is full after some rounds."""
    assert place.undisturbed
    disk.fill(but=LEFT_FOR_A_JOURNAL)
    here = {"CANDLEWICK_STATE": str(disk.folder)}
    snapshot_id = place.features.snapshot_id
    python, _, *rest = module("steps.train", feature_snapshot_id=snapshot_id, **SOME_ROUNDS)
    training = work.begin(disk.see([python, "-m", "faults.held", *rest]), here)
    assert training.end() == 1
    assert "database or disk is full" in training.said[-1]
    assert str(disk.folder) in training.said[-1]
    disk.make_room()
    work.begin(disk.see(module("steps.sync")), here).succeed()
    run = work.run_of("train")
    assert run.info.status == "FAILED"
    check_rounds(place, run, losses, work.told())
    check_beginning(work, run, losses)
    assert list(disk.inside.glob("journal/*.journal")) == []
