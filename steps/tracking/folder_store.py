"""MLflow's retired folder store, read into a SQLite database by MLflow's own tool.

That tool (``mlflow migrate-filestore``) stops at a metric that was logged twice, which a folder
keeps as two equal lines and a database as one row, and reads every line end the same. So it gets
a copy of the records, without artifacts, in which neither occurs. Nothing is written to the folder.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import shutil
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, redirect_stdout
from pathlib import Path
from typing import Any, Final

import mlflow
from mlflow.entities import Run, ViewType
from mlflow.store.fs2db import migrate

from steps.tracking.stores import TrackingError, first_line, use_tracking_uri

_RETURN: Final = "\ue00d"  # of the private use area: stands for the character \r meanwhile
_TRASH: Final = ".trash"


def folder_into_database(folder: Path, database: Path) -> None:
    """Read a folder store into a new SQLite database, and compare what MLflow says of both.

    Parameters
    ----------
    folder : Path
        Such as ``mlruns``.
    database : Path
        Does not exist yet.

    Raises
    ------
    TrackingError
        If the folder is no store, or something of it did not arrive.
    """
    if not any((path / "meta.yaml").exists() for path in _experiments(folder)):
        raise TrackingError(f"{folder} is no folder store: there is no experiment in it")
    records = database.parent / "mlruns"
    shutil.copytree(folder, records, ignore=_artifacts_in)
    _keep_returns(records)
    _drop_repetitions(records)
    try:
        with redirect_stdout(io.StringIO()):  # it tells what it did, with advice
            migrate(records, f"sqlite:///{database}", progress=False)
    except Exception as error:  # YAML's, the database's and MLflow's own
        raise TrackingError(
            f"{folder} cannot be read ({type(error).__name__}: {first_line(error)})"
        ) from error
    _compare(records, database)
    _give_back_returns(database)
    shutil.rmtree(records)


def stamp_of(folder: Path) -> str:
    """Return a text that is another one when records were added, removed or changed."""
    digest = hashlib.sha256()
    for path, folders, files in os.walk(folder):
        if _artifacts_in(path, files):
            folders.clear()
            continue
        folders.sort()
        for name in sorted(files):
            state = Path(path, name).stat()
            digest.update(f"{path}/{name} {state.st_size} {state.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def in_trash(folder: Path, place: Path) -> Path:
    """Return where a deleted experiment's folder really is: its records do not say."""
    if place.exists() or not place.is_relative_to(folder):
        return place
    return folder / _TRASH / place.relative_to(folder)


def _experiments(folder: Path) -> list[Path]:
    places = [folder, folder / _TRASH]
    return [path for place in places if place.is_dir() for path in place.iterdir() if path.is_dir()]


def _artifacts_in(path: str, names: list[str]) -> list[str]:
    """Say what of a folder's content is artifacts: they can be large, and the tool needs none."""
    # A parameter may be called artifacts/x: then there is a folder of that name, among parameters.
    place = Path(path)
    is_run = place.name == "artifacts" and (place.parent / "meta.yaml").exists()
    return names if is_run else []


def _records(folder: Path, *kinds: str) -> Iterator[Path]:
    """Yield the files with values of some kinds: what is below a folder of that name."""
    for kind in kinds:
        for place in folder.rglob(kind):
            if (place.parent / "meta.yaml").exists() or (place.parent / "trace_info.yaml").exists():
                yield from (file for file in place.rglob("*") if file.is_file())


def _keep_returns(records: Path) -> None:
    for file in _records(records, "params", "tags", "request_metadata"):
        content = file.read_bytes()
        if b"\r" in content:
            file.write_bytes(content.replace(b"\r", _RETURN.encode()))


def _give_back_returns(database: Path) -> None:
    tables = {
        **dict.fromkeys(("params", "tags", "experiment_tags", "trace_tags"), "value"),
        **dict.fromkeys(("registered_model_tags", "model_version_tags"), "value"),
        "trace_request_metadata": "value",
        "logged_model_params": "param_value",
        "logged_model_tags": "tag_value",
    }
    with closing(sqlite3.connect(database)) as connection, connection:
        for table, column in tables.items():
            connection.execute(
                f"UPDATE {table} SET {column} = replace({column}, ?, ?) "  # noqa: S608
                f"WHERE instr({column}, ?)",
                (_RETURN, "\r", _RETURN),
            )


def _drop_repetitions(records: Path) -> None:
    for file in _records(records, "metrics"):
        lines = file.read_text().splitlines()
        if len(once := dict.fromkeys(lines)) < len(lines):
            file.write_text("".join(f"{line}\n" for line in once))


def _compare(records: Path, database: Path) -> None:
    """Ask MLflow about everything in both: the tool passes over what it cannot read."""
    os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    there, here = (_told_of(uri) for uri in (records.as_uri(), f"sqlite:///{database}"))
    for what in sorted(there.keys() | here.keys()):
        if there.get(what) != here.get(what):
            raise TrackingError(
                f"{what} did not come over from the folder as it was: "
                + ("it is missing" if what not in here else "it has other content")
            )


def _told_of(uri: str) -> dict[str, str]:
    """Return a hash of all that MLflow tells of a store, by what it tells it of."""
    with use_tracking_uri(uri):  # a folder's registry asks the store that counts, not its client's
        told = _ask_all(mlflow.MlflowClient(uri))
    return {
        what: hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()
        for what, content in told.items()
    }


def _ask_all(client: mlflow.MlflowClient) -> dict[str, Any]:
    told: dict[str, Any] = {}
    for experiment in _pages(client.search_experiments, view_type=ViewType.ALL):
        told[f"experiment {experiment.name!r}"] = dict(experiment)
        home = [experiment.experiment_id]
        for run in _pages(client.search_runs, experiment_ids=home, run_view_type=ViewType.ALL):
            told |= _told_of_run(client, run)
        for model in _pages(client.search_logged_models, experiment_ids=home):
            told[f"logged model {model.model_id}"] = {
                **model.to_dictionary(),
                "metrics": sorted(
                    repr([each.key, each.step, each.timestamp, _as_databases_keep(each.value)])
                    for each in model.metrics or ()
                ),
            }
    for registered in _pages(client.search_registered_models):
        aliases = {alias: int(number) for alias, number in registered.aliases.items()}
        told[f"registered model {registered.name!r}"] = {
            **dict(registered),
            "aliases": aliases,
            "latest_versions": None,  # versions are told below
        }
    for version in _pages(client.search_model_versions):
        # A database tells aliases with the model alone, and of the logged model just the URI.
        elsewhere: dict[str, Any] = dict.fromkeys(("aliases", "model_id", "params", "metrics"))
        known = {**elsewhere, "version": int(version.version)}
        told[f"version {version.version} of model {version.name!r}"] = {**dict(version), **known}
    return told


def _told_of_run(client: mlflow.MlflowClient, run: Run) -> dict[str, Any]:
    of = f"of run {run.info.run_id}"
    history = {
        name: sorted(
            (point.step, point.timestamp, _as_databases_keep(point.value))
            for point in client.get_metric_history(run.info.run_id, name)
        )
        for name in run.data.metrics
    }
    return {
        f"what is known {of}": dict(run.info),
        f"a parameter {of}": run.data.params,
        f"a tag {of}": run.data.tags,
        f"a metric {of}": history,
        f"an input {of}": run.inputs and run.inputs.to_dictionary(),
        f"an output {of}": run.outputs and run.outputs.to_dictionary(),
    }


def _as_databases_keep(value: float) -> str:
    """Return a metric's value as MLflow's databases keep it: infinity is the largest number."""
    if math.isinf(value):
        return repr(math.copysign(sys.float_info.max, value))
    return repr(value + 0.0)  # SQLite has no -0.0


def _pages(search: Callable[..., Any], **arguments: Any) -> Iterator[Any]:
    token = None
    while True:
        found = search(**arguments, page_token=token)
        yield from found
        token = found.token
        if not token:
            return
