"""The one door to MLflow: a run that is opened, filled and closed by one object."""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
import traceback
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path, PurePath
from types import TracebackType
from typing import Any, Final, Literal, Self, SupportsFloat, cast

import mlflow
from mlflow.entities import DatasetInput, Param, Run, RunTag
from mlflow.exceptions import MlflowException

from steps.market.snapshot import manifest_id
from steps.tracking import model_store, price_model_store
from steps.tracking.metric_buffer import MetricBuffer
from steps.tracking.settings import load_settings, redact
from steps.tracking.stores import (
    TrackingError,
    absolute_uri,
    check_alive,
    decided_uri,
    find_or_create_experiment,
    open_store,
    use_tracking_uri,
)
from steps.tracking.values import (
    checked_name,
    flatten,
    json_text,
    param_text,
    plain,
    same_param,
)

RunStatus = Literal["FINISHED", "FAILED", "KILLED"]

SNAPSHOT_TAG: Final = "feature_snapshot_id"
FAILURE_TAG: Final = "failure"
_PARAMS_PER_REQUEST: Final = 100  # MLflow's own limit
_FAILURE_LENGTH: Final = 500

_log = logging.getLogger(__name__)
_open_loggers: list[MLflowLogger] = []


class MLflowLogger:
    """A run in MLflow, from its first parameter to its final status.

    The logger finds its run by itself: the one `mlflow run` prepared (``MLFLOW_RUN_ID``), else a
    child of the run that is active, else a new run. As a context manager it ends the run with
    FAILED, and the reason in the tag ``failure``, when an exception passes through.

    Parameters
    ----------
    experiment_name : str, optional
        Experiment of a new run. A run that is given or has a parent stays in its experiment.
    run_name : str, optional
        Name of a new run.
    tracking_uri : str, optional
        Where to record, such as ``file:./mlruns`` or ``http://localhost:5000``. Default: what the
        environment, ``.env`` or :class:`~steps.tracking.settings.Settings` say. Inside
        `mlflow run`, or under an active run, that run's store is used.
    tags : mapping, optional
        Tags of the run.
    model_name, model_type : str, optional
        Recorded as tags.
    feature_snapshot_id : str, optional
        ID of the features used; recorded as a tag and as a parameter.
    run_id : str, optional
        An existing run to go on with.

    Attributes
    ----------
    run_id, experiment_id : str
    git_commit : str or None
        The commit the run's code is from, where it is known.
    tags : dict of str
        The tags this logger set.
    tracking_uri : str
        The store, as it was asked for.
    client : MlflowClient
        For what this class does not offer.

    Raises
    ------
    TrackingError
        If the store, the experiment or the run is not to be had.

    Examples
    --------
    >>> with MLflowLogger(experiment_name="docs") as logger:
    ...     logger.log_params(learning_rate=0.1)
    ...     logger.log_metrics(auc_roc=0.51)
    """

    def __init__(
        self,
        experiment_name: str | None = None,
        run_name: str | None = None,
        tracking_uri: str | None = None,
        tags: Mapping[str, Any] | None = None,
        model_name: str | None = None,
        model_type: str | None = None,
        feature_snapshot_id: str | None = None,
        run_id: str | None = None,
    ) -> None:
        settings = load_settings()
        parent = mlflow.active_run()
        given_run = run_id or os.environ.get("MLFLOW_RUN_ID")
        self.tracking_uri: str = decided_uri(settings)
        if tracking_uri and (parent or given_run != run_id):
            _warn_if_elsewhere(tracking_uri, self.tracking_uri)
        elif tracking_uri:
            self.tracking_uri = tracking_uri
        self._store = absolute_uri(self.tracking_uri)
        self.client: mlflow.MlflowClient = open_store(self._store)
        named = {
            "model_name": model_name,
            "model_type": model_type,
            SNAPSHOT_TAG: feature_snapshot_id,
            **(tags or {}),
        }
        self.tags: dict[str, str] = {
            checked_name("tag", name): str(plain(value))
            for name, value in named.items()
            if value is not None
        }
        self._status: RunStatus | None = None
        self._thread = threading.get_ident()
        self._metrics = MetricBuffer(
            lambda batch: self.client.log_batch(self.run_id, metrics=batch)
        )

        with ExitStack() as opening:
            opening.enter_context(use_tracking_uri(self._store))
            try:
                if given_run:
                    run = self._adopt(given_run)
                else:
                    run = self._start(experiment_name, run_name, parent, settings)
            except MlflowException as error:
                raise TrackingError(
                    f"the run cannot be opened in {redact(self._store)}: {redact(str(error))}"
                ) from error
            self._when_closed = opening.pop_all()
        self.run_id: str = run.info.run_id
        self.experiment_id: str = run.info.experiment_id
        self.git_commit: str | None = run.data.tags.get("mlflow.source.git.commit")
        self._params: dict[str, str] = dict(run.data.params)
        _open_loggers.append(self)
        if feature_snapshot_id is not None:
            try:
                self.log_params(**{SNAPSHOT_TAG: feature_snapshot_id})
            except BaseException as error:  # nobody holds this logger yet: it closes what it opened
                self.fail(error)
                raise

    # -- opening ---------------------------------------------------------------------------------

    def _adopt(self, run_id: str) -> Run:
        """Go on with a run that somebody else created."""
        run = self.client.get_run(run_id)
        check_alive(self.client.get_experiment(run.info.experiment_id))
        if os.environ.get("MLFLOW_RUN_ID") == run_id:
            del os.environ["MLFLOW_RUN_ID"]  # or MLflow would take it for every later run, too
        self.set_tags_of(run_id, self.tags)
        mlflow.start_run(run_id=run_id, nested=True)
        return run

    def _start(self, experiment: str | None, name: str | None, parent: Any, settings: Any) -> Run:
        """Create a run: a child where a run is active."""
        if parent:
            experiment_id = parent.info.experiment_id
        elif not experiment and (named := os.environ.get("MLFLOW_EXPERIMENT_ID")):
            experiment_id = check_alive(self.client.get_experiment(named))
        else:
            experiment_id = find_or_create_experiment(
                self.client, experiment or settings.MLFLOW_EXPERIMENT_NAME, settings
            )
        return cast(
            Run,
            mlflow.start_run(
                experiment_id=experiment_id, run_name=name, nested=True, tags=self.tags
            ),
        )

    # -- filling ---------------------------------------------------------------------------------

    def log_params(self, **params: Any) -> None:
        """Record parameters; nested mappings become dotted names.

        Raises
        ------
        ValueError
            If a name or a value is not one MLflow keeps, or if the run already has another value
            for the parameter.
        """
        texts = {
            checked_name("parameter", name): param_text(name, value)
            for name, value in flatten(params)
        }
        for name, text in texts.items():
            if name in self._params and not same_param(self._params[name], text):
                raise ValueError(
                    f"parameter {name} is {self._params[name]!r} in run {self.run_id} and cannot "
                    f"become {text!r}: a run's parameters are fixed; start another run"
                )
        new = [Param(name, text) for name, text in texts.items() if name not in self._params]
        for start in range(0, len(new), _PARAMS_PER_REQUEST):
            self.client.log_batch(self.run_id, params=new[start : start + _PARAMS_PER_REQUEST])
        self._params |= {param.key: param.value for param in new}

    def log_metrics(self, **metrics: SupportsFloat) -> None:
        """Record final metrics.

        They get step 0, or the step after the last where :meth:`log_step_metrics` logged some of
        the name: MLflow takes the value at the highest step for the run's.

        Raises
        ------
        TypeError
            If a value is no number.
        ValueError
            If a name is not one MLflow keeps.
        """
        self._metrics.add(metrics)
        self.flush()

    def log_step_metrics(self, step: int, **metrics: SupportsFloat) -> None:
        """Record metrics of one step, such as a boosting round or an epoch.

        They are sent a thousand to a request, or every few seconds; :meth:`flush` and the run's end
        send the rest.

        Raises
        ------
        TypeError
            If a value is no number.
        ValueError
            If a name is not one MLflow keeps.
        """
        self._metrics.add(metrics, int(step))
        if self._status or self._metrics.is_stale:
            self.flush()
        else:
            self._metrics.send_full()

    def flush(self) -> None:
        """Send the metrics that are waiting."""
        self._metrics.flush()

    def set_tags(self, **tags: Any) -> None:
        """Set tags of the run; names with dots go in as ``**{"a.b": ...}``."""
        texts = {name: str(plain(value)) for name, value in tags.items()}
        self.set_tags_of(self.run_id, texts)
        self.tags |= texts

    def set_tags_of(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Set tags of any run in this store."""
        if tags:
            named = [RunTag(checked_name("tag", name), text) for name, text in tags.items()]
            self.client.log_batch(run_id, tags=named)

    def log_feature_snapshot(self, features: Mapping[str, Any]) -> str:
        """Record which features were used.

        Parameters
        ----------
        features : mapping
            A manifest: names, types, version and whatever else identifies the features.

        Returns
        -------
        str
            The MD5 of its canonical JSON, also set as tag ``feature_snapshot_id``. The mapping
            itself becomes the artifact ``feature_snapshot.json``.
        """
        manifest = plain(features)
        snapshot_id = manifest_id(manifest)
        declared = self.tags.get(SNAPSHOT_TAG)
        if declared not in (None, snapshot_id):
            _log.warning(
                "the run was opened with feature_snapshot_id %s, but these features hash to %s; "
                "the tag now says the latter",
                declared,
                snapshot_id,
            )
        self.set_tags(**{SNAPSHOT_TAG: snapshot_id})
        self.log_dict_artifact(manifest, "feature_snapshot.json")
        return snapshot_id

    def log_dataset_stats(self, stats: Mapping[str, Any]) -> None:
        """Record facts about the data: numbers as metrics ``dataset/...``, all as one JSON file."""
        numbers = {
            f"dataset/{name}": value
            for name, value in flatten(plain(stats))
            if isinstance(value, int | float)
        }
        self.log_metrics(**numbers)
        self.log_dict_artifact(stats, "dataset_stats.json")

    def log_dataset(self, dataset: DatasetInput) -> None:
        """Record a dataset this run read or wrote."""
        self.client.log_inputs(self.run_id, datasets=[dataset])

    def log_model(
        self,
        model: Any,
        model_path: str = "model",
        model_type: str | None = None,
        **details: Any,
    ) -> str:
        """Store a model in its native format, never as a pickle.

        Parameters
        ----------
        model : xgboost.Booster, xgboost.XGBModel or scikit-learn estimator
        model_path : str
            The model's name is the file name in it without suffix: ``models/xgboost.pkl`` is stored
            as ``xgboost``.
        model_type : str, optional
            ``xgboost`` or a scikit-learn model's kind; found out by itself if it is left out.
        **details
            ``signature``, ``input_example``, ``metadata``, ``pip_requirements``: as in MLflow.

        Returns
        -------
        str
            The model URI.

        Raises
        ------
        TypeError
            If the model is of neither library, or contradicts `model_type`.
        """
        self.flush()
        name = PurePath(model_path).stem.replace(".", "-") or "model"
        with use_tracking_uri(self._store):
            uri = model_store.save_model(
                model, run_id=self.run_id, name=name, model_type=model_type, **details
            )
        self.set_tags(model_uri=uri)
        return uri

    def log_price_model(
        self, data: Path, code: Path, *, model_path: str = "model", **details: Any
    ) -> str:
        """Store a model that takes prices, with the code that makes features of them.

        Parameters
        ----------
        data, code : Path
            What the model is made of, and the package it carries.
        model_path : str
            The model's name.
        **details
            See :func:`steps.tracking.price_model_store.save_price_model`.

        Returns
        -------
        str
            The model URI.
        """
        self.flush()
        with use_tracking_uri(self._store):
            uri = price_model_store.save_price_model(
                data, code, run_id=self.run_id, name=model_path, **details
            )
        self.set_tags(model_uri=uri)
        return uri

    def log_artifacts(
        self, folder: str | os.PathLike[str], artifact_path: str | None = None
    ) -> None:
        """Store all files of a folder.

        Raises
        ------
        NotADirectoryError
            If there is no such folder.
        """
        if not Path(folder).is_dir():
            raise NotADirectoryError(f"log_artifacts expects a folder, found none at {folder}")
        self.client.log_artifacts(self.run_id, str(folder), artifact_path)

    def log_artifact_file(
        self, path: str | os.PathLike[str], artifact_path: str | None = None
    ) -> None:
        """Store one file.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        """
        if not Path(path).is_file():
            raise FileNotFoundError(f"log_artifact_file expects a file, found none at {path}")
        self.client.log_artifact(self.run_id, str(path), artifact_path)

    def log_dict_artifact(self, values: Mapping[str, Any], file_name: str) -> None:
        """Store a mapping as a JSON file; NaN and infinities become null."""
        self.client.log_text(self.run_id, json_text(values), file_name)

    # -- closing ---------------------------------------------------------------------------------

    def end_run(self, status: RunStatus = "FINISHED") -> None:
        """Send what is waiting and close the run. Closing twice does nothing.

        Raises
        ------
        ValueError
            If the status is none of FINISHED, FAILED, KILLED.
        """
        if status not in ("FINISHED", "FAILED", "KILLED"):
            raise ValueError(f"status is {status!r}, expected FINISHED, FAILED or KILLED")
        if self._status is not None:
            return
        opened_later = _open_loggers[_open_loggers.index(self) + 1 :]
        for child in reversed(opened_later):  # children that were left open go with their parent
            if child._thread == self._thread:
                child.end_run(status)
        try:
            self.flush()
        except BaseException:
            status = "FAILED"  # a run that lost metrics is not to be taken for a whole one
            raise
        finally:
            self._status = status
            _open_loggers.remove(self)
            with self._when_closed, use_tracking_uri(self._store):
                active = mlflow.active_run()
                if active and active.info.run_id == self.run_id:
                    mlflow.end_run(status)
                else:
                    self.client.set_terminated(self.run_id, status)

    def fail(self, error: BaseException) -> None:
        """Close the run as FAILED (KILLED when interrupted) and record why."""
        if self._status is not None:
            return
        reason = redact(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)
        text = "".join(traceback.format_exception(error))
        try:
            self.set_tags(**{FAILURE_TAG: reason[:_FAILURE_LENGTH]})
            self.client.log_text(self.run_id, redact(text), "failure.txt")
        except (MlflowException, OSError) as second:  # the first error is the one to be seen
            _log.warning("the failure could not be recorded in run %s: %s", self.run_id, second)
        try:
            self.end_run("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
        except (MlflowException, OSError) as second:
            _log.warning("run %s could not be closed: %s", self.run_id, second)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        if error is None or (isinstance(error, SystemExit) and not error.code):
            self.end_run()
        else:
            self.fail(error)


def get_mlflow_logger(
    experiment_name: str | None = None,
    run_name: str | None = None,
    model_name: str | None = None,
    model_type: str | None = None,
    feature_snapshot_id: str | None = None,
    tracking_uri: str | None = None,
    tags: Mapping[str, Any] | None = None,
) -> MLflowLogger:
    """Open a run and return its logger. See :class:`MLflowLogger`."""
    return MLflowLogger(
        experiment_name=experiment_name,
        run_name=run_name,
        tracking_uri=tracking_uri,
        tags=tags,
        model_name=model_name,
        model_type=model_type,
        feature_snapshot_id=feature_snapshot_id,
    )


def _warn_if_elsewhere(wanted: str, decided: str) -> None:
    if absolute_uri(wanted) != absolute_uri(decided):
        _log.warning(
            "recording in %s, where the surrounding run is, not in %s",
            redact(decided),
            redact(wanted),
        )


@atexit.register
def _close_what_is_open() -> None:
    """End the runs a script forgot, with FAILED where it died of an exception.

    MLflow's own exit handler would call every one of them FINISHED and lose the metrics that wait.
    In a notebook an exception ends a cell, not the run.
    """
    interactive = hasattr(sys, "ps1")
    error = None if interactive else getattr(sys, "last_value", None)
    while _open_loggers:
        logger = _open_loggers[-1]
        try:
            if error is None:
                logger.end_run()
            else:
                logger.fail(error)
        except Exception:
            _log.exception("run %s could not be closed", logger.run_id)
            if logger in _open_loggers:
                _open_loggers.remove(logger)
