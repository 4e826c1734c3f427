"""All that a store holds of a run, without what differs between two runs of the same."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
from mlflow.artifacts import download_artifacts
from mlflow.entities import Run

from steps.learning.proba import predict_proba_up
from steps.market.snapshot import FeatureSnapshot
from steps.tracking.model_store import load_model
from steps.tracking.stores import use_tracking_uri

OF_ONE_RUN = ("candlewick.", "mlflow.", "model_uri", "feature_model_uri")
"""Tags that no other run has."""


def content(client: mlflow.MlflowClient, run: Run, features: FeatureSnapshot) -> dict[str, Any]:
    """Return what is recorded of a training run, by kind of thing."""
    with use_tracking_uri(client.tracking_uri):
        return _content(client, run.info.run_id, features)


def _content(client: mlflow.MlflowClient, run_id: str, features: FeatureSnapshot) -> dict[str, Any]:
    run = client.get_run(run_id)
    return {
        "status": run.info.status,
        "params": run.data.params,
        "tags": {k: v for k, v in run.data.tags.items() if not k.startswith(OF_ONE_RUN)},
        **{f"metric {name}": history(client, run_id, name) for name in run.data.metrics},
        "inputs": [without_runs(each.to_dictionary()) for each in run.inputs.dataset_inputs],
        **{f"file {name}": digest for name, digest in files(run).items()},
        **models(client, run, features),
    }


def without_runs(told: Any) -> str:
    """Return something as text, without the IDs of runs in it."""
    return re.sub(r"runs:/\w{32}", "runs:/", json.dumps(told, sort_keys=True))


def history(client: mlflow.MlflowClient, run_id: str, name: str) -> list[tuple[int, str]]:
    """Return all that was ever logged of a metric: a point that is there twice shows."""
    points = client.get_metric_history(run_id, name)
    return sorted((point.step, repr(point.value)) for point in points)


def files(run: Run) -> dict[str, str]:
    """Return the names of a run's files, and what tells their bytes from all others."""
    folder = Path(download_artifacts(artifact_uri=run.info.artifact_uri))
    found = [path for path in folder.rglob("*") if path.is_file()]
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in found
    }


def models(
    client: mlflow.MlflowClient, run: Run, features: FeatureSnapshot
) -> dict[str, tuple[str, str]]:
    """Return the state of a run's models, and what tells their forecasts from all others."""
    known = {}
    for output in run.outputs.model_outputs if run.outputs else ():
        model = client.get_logged_model(output.model_id)
        loaded, metadata = load_model(model.model_uri)
        forecasts = np.asarray(predict_proba_up(loaded, features.features)).tobytes()
        told = json.dumps(dict(metadata), sort_keys=True).encode()
        known[f"model {model.name}"] = (
            str(model.status),
            hashlib.sha256(forecasts + told).hexdigest(),
        )
    # A tag leads to the model that was meant, also where it was named before it was stored.
    for tag in ("model_uri", "feature_model_uri"):
        if tag in run.data.tags:
            named = client.get_logged_model(run.data.tags[tag].removeprefix("models:/"))
            known[f"tag {tag}"] = (named.name, str(named.source_run_id == run.info.run_id))
    assert len(run.outputs.model_outputs if run.outputs else ()) == len(
        [name for name in known if name.startswith("model ")]
    )
    return known
