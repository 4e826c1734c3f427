"""Everything a client is told of a store, in a form in which stores can be compared.

Written without a look at how stores are moved: it asks MLflow's client, and nothing else.
"""

import hashlib
import math
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import mlflow
from mlflow.artifacts import download_artifacts
from mlflow.entities import Metric, Param, Run, RunTag, ViewType
from mlflow.exceptions import MlflowException

LONG = "long " * 1199 + "end"
INSIDE = "a run in a deleted experiment"
UNICODE = "Größe 漢字 🕯 ‮ \u2028 end"
FILES = {
    "a.txt": b"",
    "deep/er/b.bin": bytes(range(256)) * 40,
    "größe/漢 and space.txt": "ü".encode(),
}
NO_URI = {"# and % and ?.txt": b"MLflow's servers take no such name"}


def furnish(client: mlflow.MlflowClient, files: Mapping[str, bytes] = FILES) -> None:
    """Put into a store what is easily lost on the way."""
    ours = client.create_experiment(
        f"odd things, {UNICODE}", tags={"purpose": UNICODE, "empty": ""}
    )
    parent = client.create_run(
        ours, run_name=UNICODE, tags={"mlflow.note.content": "a\r\nb\rc\n\n"}
    )
    of_parent = parent.info.run_id
    child = client.create_run(ours, start_time=5, tags={"mlflow.parentRunId": of_parent})
    odd = [math.nan, math.inf, -math.inf, 0.1 + 0.2, 1e-310, -0.0, 1e300]
    history = [Metric("odd", value, 1000 + step, step) for step, value in enumerate(odd)]
    again = [Metric("twice", 1.5, 1000, 3)] * 2 + [Metric("a/b", 1.0, 7, -1)]
    client.log_batch(
        child.info.run_id,
        metrics=history + again,
        params=[Param("long", LONG), Param("a/b c", UNICODE), Param("number", "1e-05")],
        tags=[RunTag("odd", UNICODE), RunTag("quotes", "'\"\\%s{}; --")],
    )
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            Path(folder, name).parent.mkdir(parents=True, exist_ok=True)
            Path(folder, name).write_bytes(content)
        client.log_artifacts(child.info.run_id, folder, "some")
    client.set_terminated(child.info.run_id, "FAILED", end_time=9)
    client.set_terminated(of_parent, "KILLED")

    deleted = client.create_run(ours, run_name="deleted")
    client.log_text(deleted.info.run_id, "still here", "file.txt")
    client.set_terminated(deleted.info.run_id)
    client.delete_run(deleted.info.run_id)
    gone = client.create_experiment("deleted, with all that is in it")
    inside = client.create_run(gone, run_name=INSIDE)
    client.log_text(inside.info.run_id, "here, too", "file.txt")
    client.set_terminated(inside.info.run_id)
    client.delete_experiment(gone)

    name = "a model, of old"
    client.create_registered_model(name, tags={"tag": UNICODE}, description="of\r\nold")
    for number in (1, 2, 3):
        source = f"runs:/{child.info.run_id}/some"
        client.create_model_version(name, source, child.info.run_id, tags={"number": f"{number}"})
    client.delete_model_version(name, "2")
    client.set_registered_model_alias(name, "best", "3")
    client.set_registered_model_alias(name, "old", "1")


def contents(client: mlflow.MlflowClient) -> dict[str, Any]:
    """Return what a store holds, by what it is; without the places and IDs a move changes."""
    told: dict[str, Any] = {}
    names = {}
    for each in _all(client.search_experiments, view_type=ViewType.ALL):
        names[each.experiment_id] = each.name
        about = {
            k: v for k, v in dict(each).items() if k not in ("artifact_location", "experiment_id")
        }
        told[f"experiment {each.name}"] = about
    for number, name in names.items():
        for run in _all(client.search_runs, experiment_ids=[number], run_view_type=ViewType.ALL):
            told[f"run {run.info.run_id}"] = {"experiment": name, **_run(client, run)}
        for model in _all(client.search_logged_models, experiment_ids=[number]):
            about = model.to_dictionary()
            place = about.pop("artifact_location")
            about["experiment_id"] = names[str(about["experiment_id"])]
            about["metrics"] = sorted(map(repr, about["metrics"] or ()))
            told[f"logged model {model.model_id}"] = {**about, "files": _files(client, place)}
    for model in _all(client.search_registered_models):
        aliases = {alias: int(number) for alias, number in model.aliases.items()}
        about = (model.creation_timestamp, model.last_updated_timestamp, model.description)
        told[f"registered model {model.name}"] = (about, aliases, dict(model.tags))
    for version in _all(client.search_model_versions):
        about = dict(version)
        for known in ("aliases", "model_id", "params", "metrics"):  # databases tell them elsewhere
            about.pop(known)
        place = client.get_model_version_download_uri(version.name, version.version)
        about |= {"version": int(version.version), "files": _files(client, place)}
        told[f"version {version.version} of {version.name}"] = about
    return told


def _run(client: mlflow.MlflowClient, run: Run) -> dict[str, Any]:
    info = {k: v for k, v in dict(run.info).items() if k not in ("artifact_uri", "experiment_id")}
    return {
        "info": info,
        "params": run.data.params,
        "tags": {name: _unlinked(value) for name, value in run.data.tags.items()},
        "latest": {name: _number(value) for name, value in run.data.metrics.items()},
        "history": {
            name: sorted(
                {
                    (point.step, point.timestamp, _number(point.value))
                    for point in client.get_metric_history(run.info.run_id, name)
                }
            )
            for name in run.data.metrics
        },
        "inputs": run.inputs.to_dictionary() if run.inputs else None,
        "outputs": run.outputs.to_dictionary() if run.outputs else None,
        "files": _files(client, run.info.artifact_uri),
    }


def _unlinked(text: str) -> str:
    """Return a text without the number of an experiment in a link to MLflow's pages."""
    before, link, after = text.partition("#/experiments/")
    return before + link + _unlinked(after.lstrip("0123456789")) if link else text


def _number(value: float) -> str:
    """Return a metric's value exactly, but for what MLflow's databases make of ∞ and -0.0."""
    return repr(math.copysign(sys.float_info.max, value) if math.isinf(value) else value + 0.0)


def _files(client: mlflow.MlflowClient, uri: str) -> dict[str, str]:
    """Return the SHA-256 of all files in an artifact folder."""
    folder = _folder(uri)
    with tempfile.TemporaryDirectory() as place:
        if folder is None:  # MLflow refuses a # in a name, where it takes it from a folder
            try:
                got = download_artifacts(uri, dst_path=place, tracking_uri=client.tracking_uri)
            except MlflowException:  # of a run that has none
                return {}
            folder = Path(got)
        return {
            file.relative_to(folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
            for file in folder.rglob("*")
            if file.is_file()
        }


def _folder(uri: str) -> Path | None:
    """Return the folder that a URI or a path means, if it is one."""
    if uri.startswith("file:"):
        return Path(url2pathname(urlsplit(uri).path))
    return None if "://" in uri or uri.startswith("mlflow-artifacts:") else Path(uri)


def _all(search: Callable[..., Any], **arguments: Any) -> Iterator[Any]:
    page = search(**arguments)
    yield from page
    while page.token:
        page = search(**arguments, page_token=page.token)
        yield from page


def state_of(folder: Path) -> dict[str, tuple[int, int]]:
    """Return the sizes and times of all files below a folder: nobody writes without a trace."""
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.rglob("*")}
