"""Where tests of faults record: a backend, with features that were made once and for all."""

import secrets
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import mlflow
from end_to_end.recipe import ROOT
from mlflow.entities import Run
from services.backends import Backend

from faults.content import content
from faults.started import Started, module, undecided
from steps.market.snapshot import FeatureSnapshot
from steps.tracking.snapshot_store import StoredSnapshot, load_snapshot, resolve_snapshot

ROUNDS = 400
"""Of a training that ends by itself; its metrics are sent after 250 of them, and at the end."""
SOME_ROUNDS = {"n_estimators": ROUNDS, "early_stopping_rounds": 0, "n_jobs": 1}
ENDLESS = {"n_estimators": 100_000, "early_stopping_rounds": 0, "n_jobs": 1}


@dataclass
class Place:
    """A backend.

    Attributes
    ----------
    backend : Backend
    project : Path
        A copy of the working tree, with prices in it that are few.
    folder : Path
        Where commands are given that are of no test in particular.
    """

    backend: Backend
    project: Path
    folder: Path
    started: list[Started] = field(default_factory=list)

    @property
    def variables(self) -> dict[str, str]:
        """What a process needs that knows MLflow alone, and none of our settings."""
        more = {"MLFLOW_ALLOW_FILE_STORE": "true"} if self.backend.name == "file" else {}
        return {"MLFLOW_TRACKING_URI": self.backend.uri, **self.backend.environment, **more}

    @cached_property
    def client(self) -> mlflow.MlflowClient:
        return self.backend.client()

    @property
    def prices(self) -> Path:
        return self.project / "few.csv"

    def new_experiment(self, folder: Path) -> "Work":
        """Make an experiment, and return what it takes to work in it from a folder."""
        name = f"work-{secrets.token_hex(4)}"
        location = None
        if self.backend.name == "sqlite":
            location = str(Path(self.backend.uri.removeprefix("sqlite:///")).with_name(name))
        elif self.backend.name.startswith("postgres+"):
            scheme = "s3" if self.backend.name.endswith("s3") else "gs"
            assert self.backend.artifacts
            location = f"{scheme}://{self.backend.artifacts.name}/{name}"
        identity = self.client.create_experiment(name, location)
        return Work(self, name, identity, folder)

    @cached_property
    def features(self) -> StoredSnapshot:
        """The snapshot of features that all trainings here learn from."""
        work = self.new_experiment(self.folder)
        work.start("steps.featurize", prices=self.prices).succeed()
        return resolve_snapshot(self.client, work.experiment_id)

    @cached_property
    def table(self) -> FeatureSnapshot:
        return load_snapshot(self.features)

    @cached_property
    def trained(self) -> Run:
        """The run of a training that nothing happened to."""
        work = self.new_experiment(self.folder)
        work.train().succeed()
        return work.run_of("train")

    @cached_property
    def undisturbed(self) -> dict[str, Any]:
        """What such a run holds."""
        return content(self.client, self.trained, self.table)

    def ensure_running(self) -> None:
        """Let everything be there again, whatever a test did."""
        for server in (
            self.backend.server,
            self.backend.artifacts and self.backend.artifacts.server,
        ):
            if server is not None:
                server.ensure_running()


@dataclass
class Work:
    """An experiment, and a folder from which somebody works in it.

    Attributes
    ----------
    place : Place
    experiment, experiment_id : str
    folder : Path
    """

    place: Place
    experiment: str
    experiment_id: str
    folder: Path

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def variables(self) -> dict[str, str]:
        return {
            **undecided(),
            **self.place.backend.environment,
            "MLFLOW_EXPERIMENT_NAME": self.experiment,
            "CANDLEWICK_STATE": str(self.state),
            "CANDLEWICK_CACHE_SIZE": "0",  # a copy here would hide what happens to the stored one
            "PYTHONPATH": f"{self.place.project}:{ROOT / 'tests'}",
            "FAULTS_FOLDER": str(self.folder),
        }

    def start(self, name: str, changes: dict[str, str] | None = None, **typed: object) -> Started:
        """Start an entry point, ``python -m NAME``, with changes to the environment."""
        return self.begin(module(name, **typed), changes)

    def begin(self, command: list[str], changes: dict[str, str] | None = None) -> Started:
        """Start any command."""
        self.place.started.append(
            Started(command, self.folder, {**self.variables, **(changes or {})})
        )
        return self.place.started[-1]

    def held(self, name: str, changes: dict[str, str] | None = None, **typed: object) -> Started:
        """Start an entry point that may be held: see :mod:`faults.held`."""
        python, _, *rest = module(name, **typed)
        return self.begin([python, "-m", "faults.held", *rest], changes)

    def train(self, changes: dict[str, str] | None = None, **typed: object) -> Started:
        """Start a training on the features there are; by default one that ends by itself."""
        snapshot_id = self.place.features.snapshot_id
        given = {**SOME_ROUNDS, "feature_snapshot_id": snapshot_id, **typed}
        return self.held("steps.train", changes, **given)

    def pipeline(self, changes: dict[str, str] | None = None, **typed: object) -> Started:
        """Start the whole recipe."""
        given = {**SOME_ROUNDS, "prices": self.place.prices, "n_resamples": 100, **typed}
        return self.held("steps.pipeline", changes, **given)

    def runs(self, condition: str = "") -> list[Run]:
        """Return the runs of the experiment, the oldest first."""
        return list(
            self.place.client.search_runs(
                [self.experiment_id], condition, order_by=["attributes.start_time"]
            )
        )

    def runs_of(self, step: str) -> list[Run]:
        return self.runs(f"tags.`candlewick.step` = '{step}'")

    def run_of(self, step: str) -> Run:
        """Return the one run of a step."""
        (run,) = self.runs_of(step)
        return run

    def told(self) -> list[int]:
        """Return the rounds whose metrics the logger has taken."""
        file = self.folder / "told"
        return [int(line) for line in file.read_text().split("\n")[:-1]] if file.exists() else []

    def is_held(self, name: object) -> bool:
        return (self.folder / f"held-{name}").exists()

    def go(self, name: object) -> None:
        """Let a step go on that is held."""
        (self.folder / f"go-{name}").touch()

    def journals(self) -> list[Path]:
        """Return what waits on this machine."""
        return list(self.state.glob("journal/*.journal"))


def few_prices(target: Path) -> None:
    """Write prices that are enough for everything, and quickly worked through."""
    from steps.market.prices import load_prices

    table = load_prices("sample").table
    some = table[table["symbol"].isin(["AAPL", "IBM"])].groupby("symbol").tail(600)
    some.to_csv(target, index=False)
