"""Steps as runs: the tags that tell one from another, finding one, launching one by itself."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import mlflow
import pandas as pd
import pyarrow as pa
from mlflow.artifacts import download_artifacts
from mlflow.entities import LifecycleStage, Run, ViewType
from mlflow.exceptions import ExecutionException, MlflowException

from steps.tracking.contact import contact_with
from steps.tracking.heartbeat import signs_of_life
from steps.tracking.mlflow_logger import FAILURE_TAG, SNAPSHOT_TAG, MLflowLogger
from steps.tracking.registry import GONE
from steps.tracking.stores import TrackingError, first_line

PROJECT: Final = Path(__file__).resolve().parents[2]
STEP_TAG: Final = "candlewick.step"
COPY_TAG: Final = "copy_of"
"""Marks a run that reproduces another one, so that `latest` never means it."""
_NO_SUCH_RUN: Final = (GONE, "INVALID_PARAMETER_VALUE")  # the latter: no run can have such an ID
_SOURCE_TAGS: Final = (
    "mlflow.source.name",
    "mlflow.source.type",
    "mlflow.source.git.commit",
    "mlflow.source.git.repoURL",
    "mlflow.source.git.branch",
)
_PROJECT_TAGS: Final = (*_SOURCE_TAGS, "mlflow.project.backend", "mlflow.project.env")

Point = tuple[int, float]
"""A metric's step and its value there."""


class NotRecordedError(TrackingError):
    """A run, or a file of one, is not there, or not any longer."""


@dataclass(frozen=True)
class StepRun:
    """What is recorded of a step's run.

    Attributes
    ----------
    run_id, experiment_id, status, artifact_uri : str
    tags, params : mapping of str to str
    metrics : mapping of str to float
        The last value of each.
    """

    run_id: str
    experiment_id: str
    status: str
    artifact_uri: str
    tags: Mapping[str, str]
    params: Mapping[str, str]
    metrics: Mapping[str, float]

    def read_json(self, file_name: str) -> dict[str, Any]:
        """Return a JSON artifact.

        Raises
        ------
        NotRecordedError
            If it is gone or unreadable.
        """
        try:
            return dict(mlflow.artifacts.load_dict(f"{self.artifact_uri}/{file_name}"))
        except (MlflowException, OSError, ValueError) as error:
            raise self._has_lost(file_name) from error

    def read_table(self, file_name: str) -> pd.DataFrame:
        """Return a Parquet artifact.

        Raises
        ------
        NotRecordedError
            If it is gone or unreadable.
        """
        uri = f"{self.artifact_uri}/{file_name}"
        with tempfile.TemporaryDirectory(prefix="candlewick-") as folder:
            try:
                return pd.read_parquet(Path(download_artifacts(artifact_uri=uri, dst_path=folder)))
            except (MlflowException, OSError, ValueError, pa.ArrowException) as error:
                raise self._has_lost(file_name) from error

    def _has_lost(self, file_name: str) -> NotRecordedError:
        return NotRecordedError(f"run {self.run_id} has lost its {file_name}: run the step again")


class StepFailedError(RuntimeError):
    """A step that ran by itself failed; the message is its reason."""


class StepNotStartedError(StepFailedError):
    """A step's project does not have it, so nothing of it ran."""


def step_tags(step: str, *, entry_point: str | None = None) -> dict[str, str]:
    """Return the tags of a step's run.

    Under a parent they include the parent's project tags, so that ``mlflow run`` can run the step
    again alone.

    Parameters
    ----------
    step : str
    entry_point : str, optional
        What to run to get the like again; default: the step itself.
    """
    parent = mlflow.active_run()
    inherited: Mapping[str, str] = {}
    if parent:
        contact = contact_with(mlflow.get_tracking_uri())
        inherited = contact.patiently(lambda: mlflow.get_run(parent.info.run_id)).data.tags
    return {
        **{name: inherited[name] for name in _PROJECT_TAGS if name in inherited},
        "mlflow.project.entryPoint": entry_point or step,
        STEP_TAG: step,
    }


def find_step_run(
    client: mlflow.MlflowClient, experiment_id: str, step: str, run_id: str
) -> StepRun:
    """Return a finished run of a step.

    Parameters
    ----------
    client : MlflowClient
    experiment_id : str
        Where to look for the newest.
    step : str
    run_id : str
        ``latest``, or a run ID. The newest is never a copy (see `COPY_TAG`).

    Raises
    ------
    TrackingError
        If there is none, or the run is of another step or did not finish.
    """
    if run_id == "latest":
        runs = client.search_runs(
            [experiment_id],
            f"tags.`{STEP_TAG}` = '{step}' AND attributes.status = 'FINISHED' "
            f"AND tags.`{COPY_TAG}` IS NULL",
            run_view_type=ViewType.ACTIVE_ONLY,
            order_by=["attributes.start_time DESC"],
            max_results=1,
        )
        if not runs:
            raise TrackingError(
                f"this experiment has no finished {step} run yet: run `mlflow run . -e {step}` "
                "first, or name a run by its ID"
            )
        return _step_run(runs[0])
    run = read_run(client, run_id)
    found = run.tags.get(STEP_TAG, "other")
    if found != step or run.status != "FINISHED":
        raise TrackingError(
            f"run {run_id} is a {run.status} {found} run, expected a FINISHED {step} run"
        )
    return run


def find_judged_run(client: mlflow.MlflowClient, experiment_id: str, run_id: str) -> StepRun:
    """Return a finished evaluate run that the gate has judged.

    Parameters
    ----------
    client : MlflowClient
    experiment_id : str
        Where to look for the newest.
    run_id : str
        ``latest``, or a run ID.

    Raises
    ------
    TrackingError
        If there is none, or the run is of another step, did not finish, was deleted or was never
        judged.
    """
    run = find_step_run(client, experiment_id, "evaluate", run_id)
    if client.get_run(run.run_id).info.lifecycle_stage != LifecycleStage.ACTIVE:
        raise TrackingError(
            f"evaluate run {run.run_id} was deleted: restore it with `mlflow runs restore "
            f"--run-id {run.run_id}`, or evaluate the model again"
        )
    needed = ("gate", "model_uri", "train_run_id", SNAPSHOT_TAG)
    missing = [name for name in needed if name not in run.tags]
    if missing:
        raise TrackingError(
            f"evaluate run {run.run_id} has no {', '.join(missing)} tag, so nobody knows whether "
            "its model may be promoted: evaluate it again with `mlflow run . -e evaluate "
            f"-P train_run_id={run.tags.get('train_run_id', '...')}`"
        )
    return run


def find_evaluation(
    client: mlflow.MlflowClient, train_run_id: str, snapshot_id: str
) -> StepRun | None:
    """Return the newest finished evaluation of a training run on a snapshot.

    Parameters
    ----------
    client : MlflowClient
    train_run_id : str
    snapshot_id : str
        Of the features it was judged on.

    Returns
    -------
    StepRun or None
        Of any experiment: a model may be evaluated elsewhere than it was trained.
    """
    if not (train_run_id.isalnum() and snapshot_id.isalnum()):
        return None  # they come from tags, which anybody may set: they must not become a filter
    runs = client.search_runs(
        [experiment.experiment_id for experiment in client.search_experiments()],
        f"tags.`{STEP_TAG}` = 'evaluate' AND attributes.status = 'FINISHED' "
        f"AND tags.train_run_id = '{train_run_id}' AND tags.{SNAPSHOT_TAG} = '{snapshot_id}'",
        run_view_type=ViewType.ACTIVE_ONLY,
        order_by=["attributes.start_time DESC"],
        max_results=1,
    )
    return _step_run(runs[0]) if runs else None


def read_run(client: mlflow.MlflowClient, run_id: str) -> StepRun:
    """Return what is recorded of a run.

    Raises
    ------
    NotRecordedError
        If there is no such run.
    TrackingError
        If the store does not answer.
    """
    try:
        return _step_run(client.get_run(run_id))
    except MlflowException as error:
        if error.error_code not in _NO_SUCH_RUN:
            raise TrackingError(
                f"the tracking store was asked for run {run_id} and refused: {first_line(error)}"
            ) from error
        raise NotRecordedError(
            f"there is no run {run_id!r} in this store: 'latest' takes the newest finished one"
        ) from None


def _step_run(run: Run) -> StepRun:
    return StepRun(
        run_id=run.info.run_id,
        experiment_id=run.info.experiment_id,
        status=run.info.status,
        artifact_uri=run.info.artifact_uri,
        tags=run.data.tags,
        params=run.data.params,
        metrics=run.data.metrics,
    )


def source_tags(run: StepRun) -> dict[str, str]:
    """Return the tags that say where a run's code is from."""
    return {name: run.tags[name] for name in _SOURCE_TAGS if name in run.tags}


def metric_histories(client: mlflow.MlflowClient, run: StepRun) -> dict[str, list[Point]]:
    """Return every value of every metric of a run, by step; of equal steps, the older first.

    What MLflow measures of the machine (``system/...``) is no result and left out.
    """
    histories = {}
    for name in sorted(run.metrics):
        if not name.startswith("system/"):
            points = client.get_metric_history(run.run_id, name)
            points = sorted(points, key=lambda point: (point.step, point.timestamp))
            histories[name] = [(point.step, point.value) for point in points]
    return histories


def launch_step(
    logger: MLflowLogger,
    step: str,
    params: Mapping[str, Any],
    *,
    uri: str = str(PROJECT),
    tags: Mapping[str, str] | None = None,
) -> str:
    """Run a step as an MLflow project run of its own, below the active run.

    The environment manager is not inherited by itself, so it is passed on.

    Parameters
    ----------
    logger : MLflowLogger
        The active run.
    step : str
    params : mapping
    uri : str, optional
        The project. Default: this one.
    tags : mapping, optional
        Tags that the run is to have from its start. Default: the active run's source.

    Returns
    -------
    str
        The run ID.

    Raises
    ------
    StepFailedError
        With the reason the step left in its run.
    StepNotStartedError
        If the project has no such step; the run says so.
    """
    parent = read_run(logger.client, logger.run_id)
    # MLflow would create the run without these tags, and they must not wait until it has finished.
    run = logger.client.create_run(
        logger.experiment_id,
        run_name=step,
        tags={
            **{name: parent.tags[name] for name in ("mlflow.user",) if name in parent.tags},
            "mlflow.parentRunId": parent.run_id,
            "mlflow.project.entryPoint": step,
            STEP_TAG: step,
            **signs_of_life(),  # this process answers for the run until the step's own takes over
            **(source_tags(parent) if tags is None else tags),
        },
    )
    run_id = str(run.info.run_id)
    try:
        mlflow.projects.run(
            uri=uri,
            entry_point=step,
            parameters={name: str(value) for name, value in params.items()},
            experiment_id=logger.experiment_id,
            env_manager=parent.tags.get("mlflow.project.env", "local"),
            run_id=run_id,
        )
    except BaseException as error:
        if contact_with(mlflow.get_tracking_uri()).is_away:  # nobody is to be asked, or told
            raise
        launched = read_run(logger.client, run_id)
        if started := launched.status != "RUNNING":  # MLflow closes what it has started, only
            reason = launched.tags.get(FAILURE_TAG, str(error))
        else:
            reason = first_line(error)
            logger.set_tags_of(run_id, {FAILURE_TAG: reason})
            logger.client.set_terminated(run_id, "FAILED")
        if not isinstance(error, ExecutionException):
            raise
        raise (StepFailedError if started else StepNotStartedError)(reason) from error
    return run_id
