"""Opening the place where runs are recorded: a database, a folder or a server."""

from __future__ import annotations

import os
import sqlite3
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote

import mlflow
from mlflow.entities import Experiment, LifecycleStage
from mlflow.exceptions import MlflowException

from steps.tracking.reachable import (
    Trouble,
    find_artifact_trouble,
    find_trouble,
    give_a_second_chance,
    is_local,
)
from steps.tracking.schema import make_schema, schema_trouble, sqlite_file, turn_to_open
from steps.tracking.settings import Settings, load_settings, redact

_known: set[str] = set()
"""Stores that were found in order: to look again would cost each run of a step time."""


class TrackingError(RuntimeError):
    """MLflow cannot be reached, or refuses what was asked of it."""


class ArtifactsRefusedError(TrackingError):
    """Nothing can be stored where a run's artifacts go."""


def absolute_uri(uri: str) -> str:
    """Tie a relative SQLite or file URI to the working directory.

    A child process that starts in another folder would open another store otherwise.
    """
    if uri.startswith("sqlite:///") and uri != "sqlite:///:memory:":
        return f"sqlite:///{Path(uri.removeprefix('sqlite:///')).absolute()}"
    if uri.startswith("file:"):
        path = uri.removeprefix("file:").removeprefix("//")
        return Path(urllib.request.url2pathname(path)).absolute().as_uri()
    return uri


def decided_uri(settings: Settings) -> str:
    """Return the tracking URI that MLflow, the environment, ``.env`` or the defaults decided."""
    if mlflow.tracking.is_tracking_uri_set() or mlflow.active_run():
        return str(mlflow.get_tracking_uri())
    return settings.tracking_uri


@contextmanager
def use_tracking_uri(uri: str) -> Iterator[None]:
    """Point MLflow at a store, and back at the former one afterwards."""
    if uri == mlflow.get_tracking_uri():
        yield
        return
    former = mlflow.get_tracking_uri() if mlflow.tracking.is_tracking_uri_set() else None
    mlflow.set_tracking_uri(uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(former)


def open_store(uri: str) -> mlflow.MlflowClient:
    """Open the store behind a tracking URI, making a new database first where there is none.

    It is asked whether it is there, which takes less than three seconds unless it is there and
    busy: MLflow itself would try for minutes. MLflow's own migrations fail when several processes
    start on a fresh database at once, so they pass here one after the other.

    Parameters
    ----------
    uri : str
        Any MLflow tracking URI. ``file:`` is MLflow's retired folder store: asking for it by name
        is taken as consent.

    Returns
    -------
    MlflowClient

    Raises
    ------
    TrackingError
        If the store does not open or does not answer; the message says what to do.
    """
    if uri.startswith("file:"):
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    if trouble := give_a_second_chance(lambda: find_trouble(uri), None, uri):
        told = f"{describe_store(uri)} {in_words(trouble, uri)}"
        raise TrackingError(f"{told}: {trouble.remedy}")
    try:
        is_sqlite = uri.startswith("sqlite:///")
        if uri in _known and not (is_sqlite and not sqlite_file(uri).exists()):
            return mlflow.MlflowClient(uri)
        if is_sqlite:
            _look_into(sqlite_file(uri))
        with turn_to_open(uri):
            if uri.startswith(("sqlite:///", "postgresql")):
                _check_schema(uri)
            if is_sqlite:
                make_schema(uri)
            client = _first_contact(uri)
    except TrackingError:
        raise
    except Exception as error:  # databases have their own, and a missing driver is an ImportError
        raise TrackingError(
            f"{describe_store(uri)} cannot be opened: {first_line(error)}. Check that "
            "it exists and may be written, or set MLFLOW_TRACKING_URI to another one"
        ) from error
    _known.add(uri)
    return client


def describe_store(uri: str) -> str:
    """Name a store in a sentence, without its password."""
    kind = "server" if uri.startswith(("http://", "https://")) else "store"
    return f"the tracking {kind} {redact(uri)}"


def in_words(trouble: Trouble, uri: str) -> str:
    """Say of a store what is the matter with it."""
    does = "does not answer" if trouble.away else "refuses"
    if is_local(uri):
        does = "cannot be opened"
    return f"{does} ({trouble.reason})"


def _first_contact(uri: str) -> mlflow.MlflowClient:
    client = mlflow.MlflowClient(uri)
    client.search_experiments(max_results=1)
    return client


def _look_into(database: Path) -> None:
    """Open a SQLite file, once: where it cannot be made, the lock beside it would wait for ever."""
    database.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(database, timeout=60)) as connection:
        connection.execute("PRAGMA schema_version")


def _check_schema(uri: str) -> None:
    """Refuse a database of another MLflow: this one would change some of them without a word."""
    if trouble := schema_trouble(uri):
        raise TrackingError(f"{describe_store(uri)} has {trouble.reason}: {trouble.remedy}")


def check_artifacts(artifact_uri: str, tracking_uri: str) -> None:
    """Ask the place where artifacts go if it takes them: in less than three seconds, unless busy.

    Parameters
    ----------
    artifact_uri : str
        Of a run or an experiment.
    tracking_uri : str
        The store it is recorded in.

    Raises
    ------
    ArtifactsRefusedError
        If it does not answer, or refuses; the message says what to do.
    """
    trouble = give_a_second_chance(
        lambda: find_artifact_trouble(artifact_uri, tracking_uri), artifact_uri, tracking_uri
    )
    if trouble:
        raise ArtifactsRefusedError(
            f"artifacts cannot be stored in {redact(artifact_uri)} ({trouble.reason}): "
            f"{trouble.remedy}"
        )


def find_or_create_experiment(client: mlflow.MlflowClient, name: str, settings: Settings) -> str:
    """Return the ID of an experiment, creating it where there is none.

    Raises
    ------
    TrackingError
        If the experiment was deleted.
    """
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        root = settings.artifact_root
        location = root and f"{root}/{quote(name, safe=' ')}"
        try:
            return str(client.create_experiment(name, artifact_location=location))
        except MlflowException:  # another process was faster
            experiment = client.get_experiment_by_name(name)
            if experiment is None:
                raise
    return check_alive(experiment)


def look_up(experiment_name: str | None = None) -> tuple[mlflow.MlflowClient, str | None]:
    """Open the store that is decided on, to read, and find an experiment in it.

    Parameters
    ----------
    experiment_name : str, optional
        Default: no experiment in particular.

    Returns
    -------
    tuple of MlflowClient and str or None
        The experiment's ID.

    Raises
    ------
    TrackingError
        If the store does not open, or has no such experiment; the message names those there are.
    """
    store = absolute_uri(decided_uri(load_settings()))
    client = open_store(store)
    mlflow.set_tracking_uri(store)
    if experiment_name is None:
        return client, None
    experiment = client.get_experiment_by_name(experiment_name)
    if experiment is None:
        names = ", ".join(sorted(known.name for known in client.search_experiments()))
        raise TrackingError(
            f"{redact(store)} has no experiment {experiment_name!r}; there are: {names}"
        )
    return client, check_alive(experiment)


def check_alive(experiment: Experiment) -> str:
    """Return an experiment's ID unless it was deleted."""
    if experiment.lifecycle_stage != LifecycleStage.ACTIVE:
        raise TrackingError(
            f"experiment {experiment.name!r} was deleted: restore it with `mlflow experiments "
            f"restore --experiment-id {experiment.experiment_id}`, or name another one"
        )
    return str(experiment.experiment_id)


def first_line(error: object) -> str:
    r"""Return the first line of an error's message, without passwords.

    Where it only announces the next one, that follows.

    Examples
    --------
    >>> first_line("Failed.\nAt length."), first_line("Failed:\nno space.\nAt length.")
    ('Failed', 'Failed: no space')
    """
    lines = [line.strip() for line in redact(str(error)).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    told = 2 if lines[0].endswith(":") else 1
    return " ".join(lines[:told]).rstrip(".")
