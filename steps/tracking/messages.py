"""What a run tells MLflow, as data: so that it can be kept, and told later, by another process.

Telling a message twice does what telling it once does. That is what makes it safe to tell it again
where nobody knows whether the first time succeeded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag

from steps.tracking.heartbeat import was_taken
from steps.tracking.sealed_models import log_saved
from steps.tracking.stores import use_tracking_uri


@dataclass(frozen=True)
class Message:
    """One thing to tell of a run.

    Attributes
    ----------
    kind : str
        ``metrics``, ``params``, ``tags``, ``inputs``, ``artifacts``, ``model`` or ``end``.
    content : dict
        As JSON can hold it.
    files : Path or None
        A file that belongs to it, or a folder.
    """

    kind: str
    content: dict[str, Any]
    files: Path | None = None


def of_metrics(metrics: Sequence[Metric]) -> Message:
    """Tell metrics, a thousand at most; NaN and infinities are kept."""
    rows = [[each.key, each.value, each.timestamp, each.step] for each in metrics]
    return Message("metrics", {"metrics": rows})


def of_params(params: Mapping[str, str]) -> Message:
    """Tell parameters, a hundred at most."""
    return Message("params", {"params": dict(params)})


def of_tags(tags: Mapping[str, str], run_id: str) -> Message:
    """Tell tags of a run, which need not be the one that tells."""
    return Message("tags", {"tags": dict(tags), "run_id": run_id})


def of_input(dataset: DatasetInput) -> Message:
    """Tell of a dataset that was read or written."""
    return Message("inputs", dataset.to_dictionary())


def of_artifacts(files: Path, artifact_path: str | None) -> Message:
    """Tell a file, or the files of a folder."""
    return Message("artifacts", {"artifact_path": artifact_path}, files)


def of_model(name: str, token: str, folder: Path) -> Message:
    """Tell a model: a folder that `save_sealed` wrote.

    Parameters
    ----------
    name : str
    token : str
        By which it is found again where nobody knows whether it was stored.
    folder : Path
    """
    return Message("model", {"name": name, "token": token}, folder)


def promise(run_id: str, name: str) -> str:
    """Return a URI for a model that the store does not have yet: it will be good."""
    return f"runs:/{run_id}/{name}"


def of_end(status: str, end_time: int) -> Message:
    """Tell that the run has ended, and when (milliseconds since 1970)."""
    return Message("end", {"status": status, "end_time": end_time})


def merge(messages: Sequence[Message], limit: int) -> int:
    """Return how many messages of metrics, from the first on, fit into one request."""
    count = total = 0
    for message in messages:
        total += len(message.content.get("metrics", ()))
        if message.kind != "metrics" or (total > limit and count):
            break
        count += 1
    return count


def deliver(
    client: mlflow.MlflowClient,
    run_id: str,
    message: Message,
    *,
    tried: bool = False,
    kept: Mapping[str, str] | None = None,
) -> str | None:
    """Tell a message.

    Parameters
    ----------
    client : MlflowClient
    run_id : str
        The run that tells it.
    message : Message
    tried : bool
        The store may have it already.
    kept : mapping, optional
        What came to be of things that were named before they existed: see `Journal.keep_promise`.

    Returns
    -------
    str or None
        The URI of a model.
    """
    content, known = message.content, kept or {}
    if message.kind == "metrics":
        metrics = [Metric(*each) for each in content["metrics"]]
        client.log_batch(run_id, metrics=_missing(client, run_id, metrics) if tried else metrics)
    elif message.kind == "params":
        params = [Param(*each) for each in content["params"].items()]
        client.log_batch(run_id, params=params)
    elif message.kind == "tags":
        tags = [RunTag(name, known.get(text, text)) for name, text in content["tags"].items()]
        client.log_batch(content["run_id"], tags=tags)
    elif message.kind == "inputs":
        client.log_inputs(run_id, datasets=[_dataset_input(content)])
    elif message.kind == "artifacts" and message.files is not None:
        log = client.log_artifacts if message.files.is_dir() else client.log_artifact
        log(run_id, str(message.files), content["artifact_path"])
    elif message.kind == "model" and message.files is not None:
        with use_tracking_uri(client.tracking_uri):
            return log_saved(
                message.files,
                run_id=run_id,
                name=content["name"],
                token=content["token"],
                tried=True,
            )
    elif message.kind == "end":
        was_taken(client, run_id)  # what a run says of its end counts more than what others saw
        client.set_terminated(run_id, content["status"], content["end_time"])
    else:
        raise ValueError(f"a message of kind {message.kind!r}, of another version of Candlewick")
    return None


def _dataset_input(content: Mapping[str, Any]) -> DatasetInput:
    return DatasetInput(
        Dataset(**content["dataset"]), tags=[InputTag(*each) for each in content["tags"].items()]
    )


def _missing(client: mlflow.MlflowClient, run_id: str, metrics: list[Metric]) -> list[Metric]:
    """Return those that the store does not have: a folder store would keep them twice."""
    stored = {
        (name, point.step, point.timestamp, repr(point.value))
        for name in {each.key for each in metrics}
        for point in client.get_metric_history(run_id, name)
    }
    return [
        each
        for each in metrics
        if (each.key, each.step, each.timestamp, repr(each.value)) not in stored
    ]
