"""main: featurize, train and evaluate as children of one run, and walk_forward if asked to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeVar

from pydantic import Field

from steps.command import say
from steps.entry_point import ParameterError, StepParams, log_resolved, open_step, public, run_step
from steps.evaluate import EvaluateParams, evaluate
from steps.featurize import FeaturizeParams, featurize, find_reusable
from steps.judge import JudgeParams
from steps.tracking.mlflow_logger import SNAPSHOT_TAG, MLflowLogger
from steps.tracking.project import StepFailedError, launch_step, read_run
from steps.tracking.settings import redact
from steps.tracking.snapshot_store import StoredSnapshot
from steps.train import HoldoutParams, TrainParams, train
from steps.walk_forward import FoldsParams, WalkForwardParams, walk_forward

_FUNCTIONS: dict[str, Callable[[Any, MLflowLogger], object]] = {
    "featurize": featurize,
    "train": train,
    "evaluate": evaluate,
    "walk_forward": walk_forward,
}
_VERDICT_TAGS = ("verdict", "gate", "gate_failed", "leak_alarm")

Child = TypeVar("Child", bound=StepParams)


class MainParams(FoldsParams, JudgeParams, HoldoutParams, FeaturizeParams):
    """Run featurize, train and evaluate, one after the other."""

    walk_forward: bool = Field(False, description="walk forward as well, after evaluate")
    isolation: Literal["inline", "project"] = Field(
        "inline", description="'project': every step as an mlflow project run of its own"
    )
    reuse: Literal["features", "none"] = Field(
        "features", description="'features': skip featurize where nothing changed"
    )

    def of(self, child: type[Child], **ids: str) -> Child:
        """Return the parameters of a child step: those given here, and IDs."""
        given = self.model_dump(include=set(child.model_fields))
        return child(**given, **ids)


def main(params: MainParams, logger: MLflowLogger) -> None:
    """Run the steps as children of this run, and put what came of them on it."""
    features = params.of(FeaturizeParams)
    if params.isolation == "project" and public(params.model_dump()) != params.model_dump():
        raise ParameterError(
            "isolation=project would show and record what is secret in prices, for it goes through "
            "mlflow run: leave isolation out, or see SECURITY.md for another way to give it"
        )
    runs: dict[str, str] = {}
    reused = _find_reusable(features, logger) if params.reuse == "features" else None
    if reused:
        runs["featurize"] = reused.run_id
        say(f"feature snapshot {reused.snapshot_id}: reused, nothing it is made from has changed")
    else:
        runs["featurize"] = _run_child("featurize", features, params, logger)
    snapshot_id = read_run(logger.client, runs["featurize"]).tags[SNAPSHOT_TAG]
    log_resolved(logger, feature_snapshot_id=snapshot_id)
    training = params.of(TrainParams, feature_snapshot_id=snapshot_id)
    runs["train"] = _run_child("train", training, params, logger)
    scoring = params.of(EvaluateParams, train_run_id=runs["train"], feature_snapshot_id=snapshot_id)
    runs["evaluate"] = _run_child("evaluate", scoring, params, logger)
    if params.walk_forward:
        walking = params.of(WalkForwardParams, feature_snapshot_id=snapshot_id)
        runs["walk_forward"] = _run_child("walk_forward", walking, params, logger)

    scored = read_run(logger.client, runs["evaluate"])
    logger.log_metrics(**{k: v for k, v in scored.metrics.items() if "/" not in k})
    verdicts = [scored.tags["verdict"]]
    if params.walk_forward:
        walked = read_run(logger.client, runs["walk_forward"])
        verdicts.append(f"Walk-forward: {walked.tags['verdict']}")
        logger.set_tags(**{f"walk_forward_{tag}": walked.tags[tag] for tag in _VERDICT_TAGS})
    logger.set_tags(
        **{f"{step}_run_id": run_id for step, run_id in runs.items()},
        **{tag: scored.tags[tag] for tag in _VERDICT_TAGS},
        features_reused=reused is not None,
        model_uri=scored.tags["model_uri"],
    )
    logger.set_tags(**{"mlflow.note.content": _note(runs, logger, "\n\n".join(verdicts))})
    say(_summary(runs, logger, snapshot_id, scored.tags["model_uri"]))


def _find_reusable(features: FeaturizeParams, logger: MLflowLogger) -> StoredSnapshot | None:
    """Find a snapshot to reuse; where the prices are bad, leave it to featurize's run to say so."""
    try:
        return find_reusable(features, logger)
    except ValueError:
        return None


def _run_child(
    step: str, child_params: StepParams, params: MainParams, logger: MLflowLogger
) -> str:
    """Run one step below this run and return its run ID."""
    try:
        if params.isolation == "project":
            return launch_step(logger, step, child_params.model_dump())
        with open_step(step, child_params) as child:
            _FUNCTIONS[step](child_params, child)
    except Exception as error:
        logger.set_tags(failed_step=step)
        raise StepFailedError(f"{step}: {error}") from error
    return child.run_id


def _note(runs: dict[str, str], logger: MLflowLogger, verdict: str) -> str:
    """Describe the run for the UI, with links to its children."""
    links = [
        f"[{step}](#/experiments/{logger.experiment_id}/runs/{run_id})"
        for step, run_id in runs.items()
    ]
    return f"{verdict}\n\n{' → '.join(links)}"


def _summary(runs: dict[str, str], logger: MLflowLogger, snapshot_id: str, model_uri: str) -> str:
    rows = {"main": logger.run_id, **runs, "snapshot": snapshot_id, "model": model_uri}
    width = max(9, *map(len, rows))
    store = redact(logger.tracking_uri)
    page = f"#/experiments/{logger.experiment_id}/runs/{logger.run_id}"
    if store.startswith("http"):
        look = f"{store.rstrip('/')}/{page}"
    else:
        look = (
            f"mlflow server --backend-store-uri {store} --port 5000   (here: make ui)\n"
            f"          then open http://127.0.0.1:5000/{page}"
        )
    return "\n".join(
        ["", *(f"{name:<{width}} {value}" for name, value in rows.items()), f"look at  {look}"]
    )


if __name__ == "__main__":
    run_step("main", main, MainParams)
