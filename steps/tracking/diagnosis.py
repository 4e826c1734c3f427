"""What is well and what is not in the place where runs go, and what to do about it."""

from __future__ import annotations

import os
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Final, Literal

import mlflow
from dotenv import dotenv_values
from mlflow.entities import Experiment, LifecycleStage

from steps.tracking.artifact_probe import ProbeError, probe_artifacts
from steps.tracking.dead_runs import end_dead_runs, find_dead_runs
from steps.tracking.journal import pending
from steps.tracking.reachable import (
    call_server,
    find_artifact_trouble,
    find_trouble,
    local_folder,
    postgres_connection,
    read_json,
)
from steps.tracking.schema import schema_state, schema_trouble, sqlite_file
from steps.tracking.settings import Settings, load_settings, redact
from steps.tracking.stores import absolute_uri, decided_uri, first_line, in_words

Status = Literal["well", "warning", "bad"]

NOT_LOOKED_AT: Final = "not looked at"

_SKEW: Final = 30.0  # seconds between two clocks that mix up the order of runs
_REFUSED_SKEW: Final = 600.0  # signatures are refused after 15 minutes


@dataclass(frozen=True)
class Finding:
    """What a check has found.

    Attributes
    ----------
    what : str
        The thing looked at.
    status : {"well", "warning", "bad"}
    found : str
    remedy : str
        What to do; empty where nothing is to be done.
    """

    what: str
    status: Status
    found: str
    remedy: str = ""


def look_at_settings() -> Finding:
    """Look for settings that contradict one another, or that nobody reads."""
    settings = load_settings()
    in_file = {name for name, value in dotenv_values(".env").items() if value}
    known = set(Settings.model_fields)
    conflicts = [
        *(
            (f"{name} is in .env and in the environment, which counts", f"unset {name}")
            for name in sorted(in_file & known)
            if os.environ.get(name) and os.environ[name] != dotenv_values(".env")[name]
        ),
        *(
            (f"{name} is in .env, where nobody reads it", "export it")
            for name in sorted(in_file - known)
            if name.startswith(("MLFLOW_", "AWS_", "GOOGLE_")) and not os.environ.get(name)
        ),
        *(
            (f"{name} is in .env alone, which `mlflow run` does not read", "export it")
            for name in ("MLFLOW_TRACKING_URI", "MLFLOW_BACKEND")
            if name in in_file and not os.environ.get(name)
        ),
        *_contradictions(settings),
    ]
    if conflicts:
        found, remedies = zip(*conflicts, strict=True)
        return Finding("settings", "warning", "; ".join(found), "; ".join(dict.fromkeys(remedies)))
    given = {name for name in known if os.environ.get(name)}
    read = [
        *([f".env ({len(in_file & known)})"] if in_file & known else []),
        *([f"the environment ({len(given)})"] if given else []),
    ]
    return Finding("settings", "well", " and ".join(read) if read else "the defaults")


def _contradictions(settings: Settings) -> list[tuple[str, str]]:
    """Return pairs of what does not fit together, and what to do."""
    postgres, bucket = settings.MLFLOW_POSTGRES_URI, settings.MLFLOW_S3_BUCKET
    bucket = bucket or settings.MLFLOW_GCS_BUCKET
    if settings.MLFLOW_BACKEND == "local":
        if postgres or bucket:
            return [
                (
                    "a database or bucket is set, and MLFLOW_BACKEND=local leaves it unused",
                    "set MLFLOW_BACKEND=remote",
                )
            ]
        return []
    found = []
    if settings.MLFLOW_TRACKING_URI and postgres:
        found.append(
            (
                "MLFLOW_TRACKING_URI counts, so that MLFLOW_POSTGRES_URI is unused",
                "unset one of the two",
            )
        )
    if not bucket and not settings.MLFLOW_TRACKING_URI:
        found.append(
            (
                "MLFLOW_BACKEND=remote without a bucket: artifacts stay in ./mlruns, on this "
                "machine",
                "set MLFLOW_S3_BUCKET or MLFLOW_GCS_BUCKET",
            )
        )
    return found


class StoreDiagnosis:
    """The checks of a tracking store, to be asked in this order: each builds on those before.

    Attributes
    ----------
    uri : str
        The tracking URI in use.
    folders : dict of str to Path
        Local folders that runs write to, by what they are for.
    """

    def __init__(self) -> None:
        self._settings = load_settings()
        self.uri = absolute_uri(decided_uri(self._settings))
        self.folders: dict[str, Path] = {}
        if self.uri.startswith("sqlite:///"):
            self.folders["database"] = sqlite_file(self.uri).parent
        elif folder := local_folder(self.uri):
            self.folders["runs"] = folder
        self._is_server = self.uri.startswith(("http://", "https://"))
        self._is_database = self.uri.startswith(("sqlite:///", "postgresql"))
        self._answers = False
        self._is_new = False
        self._client: mlflow.MlflowClient | None = None
        self._experiment: Experiment | None = None

    def store(self) -> Finding:
        """Ask whether the store answers, and of which version it is."""
        what = "tracking store"
        if trouble := find_trouble(self.uri):
            found = f"{redact(self.uri)} {in_words(trouble, self.uri)}"
            return Finding(what, "bad", found, trouble.remedy)
        self._answers = True
        if not self._is_server:
            if self.uri.startswith("file:"):
                os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
            return Finding(what, "well", redact(self.uri))
        answer = call_server(self.uri, "/version")
        version = answer.text.strip() if answer.status_code == 200 else "unknown"
        found = f"{redact(self.uri)}, MLflow {version}"
        ours = mlflow.__version__
        if version.split(".")[:2] == ours.split(".")[:2]:
            return Finding(what, "well", found)
        return Finding(
            what,
            "warning",
            f"{found}, while this environment has {ours}",
            "let the server run the version in requirements.lock",
        )

    def schema(self) -> Finding:
        """Compare a database's schema with this MLflow's; only then can MLflow itself be asked."""
        what = "database schema"
        if not self._answers:
            return _not_looked_at(what)
        folder = None if self._is_server else local_folder(self.uri)
        if folder and not folder.exists():  # asking MLflow would make it
            self._is_new = True
            return Finding(what, "well", "a folder has none")
        if not self._is_database:
            self._client = mlflow.MlflowClient(self.uri)
            found = "the server's own affair" if self._is_server else "a folder has none"
            return Finding(what, "well", found)
        if trouble := schema_trouble(self.uri):
            return Finding(what, "bad", trouble.reason, trouble.remedy)
        if schema_state(self.uri) == "none":
            self._is_new = True
            return Finding(what, "well", "none yet: the first run makes it, which takes seconds")
        self._client = mlflow.MlflowClient(self.uri)
        return Finding(what, "well", f"that of MLflow {mlflow.__version__}")

    def experiment(self) -> Finding:
        """Look for the experiment that runs go to."""
        what = "experiment"
        if self._client is None:
            return self._later(what)
        name = self._settings.MLFLOW_EXPERIMENT_NAME
        if named := os.environ.get("MLFLOW_EXPERIMENT_ID"):
            experiment = self._client.get_experiment(named)
        else:
            experiment = self._client.get_experiment_by_name(name)
        if experiment is None:
            return Finding(what, "well", f"{name} will be made by its first run")
        if experiment.lifecycle_stage != LifecycleStage.ACTIVE:
            remedy = f"`mlflow experiments restore --experiment-id {experiment.experiment_id}`"
            return Finding(
                what,
                "bad",
                f"{experiment.name} was deleted",
                f"{remedy}, or set MLFLOW_EXPERIMENT_NAME to another one",
            )
        self._experiment = experiment
        found = f"{experiment.name}, its artifacts in {redact(experiment.artifact_location)}"
        root = self._settings.artifact_root
        if root and not experiment.artifact_location.startswith(f"{root}/"):
            return Finding(
                what,
                "warning",
                f"{found}, not in {root}: an experiment keeps the place it was made with",
                "set MLFLOW_EXPERIMENT_NAME to a new one",
            )
        return Finding(what, "well", found)

    def permission(self) -> Finding:
        """Ask who the store takes this process for, and whether that one may write."""
        what = "permission"
        if self._client is None:
            return self._later(what)
        who = self._who() if self._is_server else "the store asks nobody by itself"
        experiment = self._experiment
        if experiment is None:
            return Finding(what, "well", f"{who}; writing is tried where the experiment exists")
        tag = f"candlewick.probe.{uuid.uuid4().hex[:8]}"
        try:
            self._client.set_experiment_tag(experiment.experiment_id, tag, "doctor")
            self._client.delete_experiment_tag(experiment.experiment_id, tag)
        except Exception as error:  # each store has its own
            login = "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
            return Finding(
                what,
                "bad",
                f"{who}; may not write to experiment {experiment.name}: {first_line(error)}",
                "ask whoever runs the store for the permission"
                + (f", or set {login} to a user who has it" if self._is_server else ""),
            )
        return Finding(what, "well", f"{who}; experiment {experiment.name} may be written to")

    def _who(self) -> str:
        user = read_json(call_server(self.uri, "/api/2.0/mlflow/users/current")).get("user")
        if isinstance(user, dict) and "username" in user:
            admin = ", an administrator" if user.get("is_admin") else ""
            return f"user {user['username']}{admin}"
        return "the server asks nobody who they are"

    def artifacts(self) -> Finding:
        """Write a file to where artifacts go, read it, and delete it."""
        what = "artifact store"
        uri = self._artifact_uri()
        if uri is None:
            return self._later(what)
        if folder := local_folder(uri):
            self.folders["artifacts"] = folder
        trouble = find_artifact_trouble(uri, self.uri)
        if trouble is None:
            try:
                return Finding(what, "well", f"{redact(uri)}: {probe_artifacts(uri, self.uri)}")
            except ProbeError as error:
                trouble = error.trouble
        return Finding(what, "bad", f"{redact(uri)}: {trouble.reason}", trouble.remedy)

    def _artifact_uri(self) -> str | None:
        """Return where the next run's artifacts go, as far as that is known."""
        if self._experiment:
            return str(self._experiment.artifact_location)
        if root := self._settings.artifact_root:
            return root
        default = self._client and self._client.get_experiment("0")
        return str(default.artifact_location) if default else None

    def registry(self) -> Finding:
        """Ask the model registry for a model."""
        what = "model registry"
        if self._client is None:
            return self._later(what)
        found = self._client.search_registered_models(max_results=1)
        return Finding(what, "well", "answers" if found else "answers; it has no model yet")

    def clock(self) -> Finding:
        """Compare this machine's clock with the store's."""
        what = "clock"
        if not self._answers:
            return _not_looked_at(what)
        before = datetime.now(UTC)
        if self._is_server:
            told = call_server(self.uri, "/version").headers.get("Date")
            if not told:
                return Finding(what, "well", "the server does not tell the time")
            there = parsedate_to_datetime(told)
        elif self.uri.startswith("postgresql"):
            with postgres_connection(self.uri) as connection:
                there = connection.execute("SELECT clock_timestamp()").fetchone()[0]
        else:
            return Finding(what, "well", "no other machine takes part")
        return judge_clock(before, there, datetime.now(UTC))

    def dead_runs(self, *, end: bool) -> Finding:
        """Look for runs that no process owns any longer, and end them."""
        what = "dead runs"
        if self._client is None:
            return self._later(what)
        experiments = _experiment_ids(self._client)
        found: list[str] = []
        if end:
            end_dead_runs(self._client, experiments, tell=found.append)
            remedy = "start them again, if they are missed"
        else:
            dead = find_dead_runs(self._client, experiments)
            found.extend(f"run {each.run_id}: {each.reason}" for each in dead)
            remedy = "end them with `--end_dead_runs=true`"
        if found:
            return Finding(what, "warning", "; ".join(found), remedy)
        return Finding(what, "well", "none")

    def _later(self, what: str) -> Finding:
        if self._is_new:
            return Finding(what, "well", "nothing yet: the first run makes it")
        return _not_looked_at(what)


def _not_looked_at(what: str) -> Finding:
    return Finding(what, "warning", NOT_LOOKED_AT, "see to the tracking store first")


def judge_clock(before: datetime, there: datetime, after: datetime) -> Finding:
    """Judge another machine's clock.

    Parameters
    ----------
    before, after : datetime
        This machine's time when it asked, and when it had the answer.
    there : datetime
        What was answered.
    """
    # HTTP tells whole seconds, and nobody knows when in between it was told: the benefit of doubt.
    behind = (before - timedelta(seconds=1) - there).total_seconds()
    ahead = (there - after).total_seconds()
    apart = max(behind, ahead, 0.0)
    if apart < _SKEW:
        return Finding("clock", "well", "agrees with the store's")
    return Finding(
        "clock",
        "bad" if apart > _REFUSED_SKEW else "warning",
        f"{apart:.0f} s {'behind' if ahead > 0 else 'ahead of'} the store's: runs of several "
        "machines get out of order, and S3 refuses what is signed 15 minutes off",
        "set it, and let both follow a time server (NTP)",
    )


def _experiment_ids(client: mlflow.MlflowClient) -> list[str]:
    found: list[str] = []
    token = None
    while True:
        page = client.search_experiments(page_token=token)
        found.extend(each.experiment_id for each in page)
        token = page.token
        if not token:
            return found


def look_at_journal() -> Finding:
    """Look for what runs have logged that no store has yet."""
    waiting = pending()
    live = [each for each in waiting if each.live]
    left = [each for each in waiting if not each.live]
    if not left:
        busy = f"; {len(live)} runs are at work and deliver by themselves" if live else ""
        return Finding("journal", "well", f"nothing waits{busy}")
    entries = sum(each.entries for each in left)
    stores = ", ".join(sorted({redact(each.store) or "a store unknown" for each in left}))
    return Finding(
        "journal",
        "warning",
        f"{entries} messages of {len(left)} runs wait for {stores}",
        "deliver them with `python -m steps.sync`",
    )
