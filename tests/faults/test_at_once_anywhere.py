"""Eight start together where nobody has ever recorded anything."""

import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from services.backends import Backend
from services.postgres import Postgres

from faults.cells import Losses, fault
from faults.content import content
from faults.place import Place, Work
from steps.tracking.schema import schema_state
from steps.tracking.snapshot_store import (
    KEY_TAG,
    SnapshotNotFoundError,
    StoredSnapshot,
    load_snapshot,
    resolve_snapshot,
    snapshot_of,
)
from steps.tracking.stores import open_store, use_tracking_uri

EIGHT = 8
PAUSE = 0.2  # seconds between two looks, for the eight want to get on


def new_store(place: Place, folder: Path) -> Place:
    """Return a place of the same kind where nothing is: no table, no experiment, no folder."""
    backend = place.backend
    if backend.name == "sqlite":
        uri = f"sqlite:///{folder}/new.db"
    elif isinstance(backend.server, Postgres):
        uri = backend.server.create_database(migrated=False)
    else:
        return place  # a server's database is made before it answers anybody
    environment = {
        name: text.replace(backend.uri, uri) for name, text in backend.environment.items()
    }
    new = replace(backend, uri=uri, environment=environment)
    return Place(new, place.project, place.folder, place.started)


def is_ready(backend: Backend) -> bool:
    """Whether there is a store to look at: who looks before would be the ninth to make it."""
    is_database = backend.uri.startswith(("sqlite:", "postgresql:"))
    return not is_database or schema_state(backend.uri) == "current"


class Watcher:
    """Somebody who looks for snapshots all the time, and must never see one by half."""

    def __init__(self, new: Place, experiment: str) -> None:
        self._new = new
        self._experiment = experiment
        self.seen: set[str] = set()

    def look(self) -> None:
        """Load every snapshot as soon as it can be found.

        While its run is going on it is nobody's to find. But what is published is whole.
        """
        client = open_store(self._new.backend.uri)  # waits while others make it, as everybody does
        experiment = client.get_experiment_by_name(self._experiment)
        if experiment is None:
            return
        with suppress(SnapshotNotFoundError):
            self._load(resolve_snapshot(client, experiment.experiment_id))
        for run in client.search_runs([experiment.experiment_id], f"tags.{KEY_TAG} LIKE '%'"):
            self._load(snapshot_of(run.info.run_id, run.info.artifact_uri, run.data.tags))

    def _load(self, stored: StoredSnapshot) -> None:
        if stored.run_id not in self.seen:
            load_snapshot(stored)
            self.seen.add(stored.run_id)


@fault("eight pipelines at once in a new store", ["sqlite", "server", "postgres+s3"])
def test_eight_at_once(place: Place, in_empty_folder: Path, losses: Losses) -> None:
    new = new_store(place, in_empty_folder)
    eight = Work(new, "eight at once", "", in_empty_folder)
    few = {"prices": place.prices, "n_estimators": 5, "n_resamples": 100, "n_jobs": 1}
    started = [eight.start("steps.pipeline", **few) for _ in range(EIGHT)]
    watcher = Watcher(new, eight.experiment)
    with use_tracking_uri(new.backend.uri):
        while any(each.process.poll() is None for each in started):
            if is_ready(new.backend):
                watcher.look()
            time.sleep(PAUSE)
        assert watcher.seen
        watcher.look()
    assert [each.end() for each in started] == [0] * EIGHT, [each.text for each in started]

    found = new.client.get_experiment_by_name(eight.experiment)
    assert found
    eight.experiment_id = found.experiment_id
    assert {run.info.status for run in eight.runs()} == {"FINISHED"}
    assert {run.data.tags["feature_snapshot_id"] for run in eight.runs()} == {
        place.features.snapshot_id
    }
    counts = {step: len(eight.runs_of(step)) for step in ("main", "train", "evaluate")}
    assert counts == {"main": EIGHT, "train": EIGHT, "evaluate": EIGHT}
    assert watcher.seen == {run.info.run_id for run in eight.runs_of("featurize")}
    first, *others = [content(new.client, run, place.table) for run in eight.runs_of("train")]
    for other in others:
        losses.check(first, other)
