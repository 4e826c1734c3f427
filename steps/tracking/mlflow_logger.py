"""The one door to MLflow: a run that is opened, filled and closed by one object."""

from __future__ import annotations

import atexit
import logging
import os
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path, PurePath, PurePosixPath
from types import TracebackType
from typing import Any, Final, Literal, Self, SupportsFloat, cast
from uuid import uuid4

import mlflow
from mlflow.entities import DatasetInput, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking.fluent import _active_run_stack

from steps.market.snapshot import manifest_id
from steps.tracking import model_store, price_model_store
from steps.tracking.contact import Contact, contact_with, patient
from steps.tracking.heartbeat import (
    has_been_asleep,
    signs_of_life,
    start_beating,
    stop_beating,
    was_taken,
)
from steps.tracking.messages import (
    of_artifacts,
    of_end,
    of_input,
    of_metrics,
    of_model,
    of_params,
    of_tags,
    promise,
)
from steps.tracking.metric_steps import MetricSteps
from steps.tracking.outbox import METRICS_PER_REQUEST, Outbox
from steps.tracking.sealed_models import log_sealed, save_sealed
from steps.tracking.settings import load_settings, redact
from steps.tracking.stores import (
    TrackingError,
    absolute_uri,
    check_alive,
    decided_uri,
    find_or_create_experiment,
    first_line,
    open_store,
    use_tracking_uri,
)
from steps.tracking.values import (
    checked_name,
    checked_path,
    flatten,
    json_text,
    param_text,
    plain,
    same_param,
)

RunStatus = Literal["FINISHED", "FAILED", "KILLED"]

SNAPSHOT_TAG: Final = "feature_snapshot_id"
FAILURE_TAG: Final = "failure"
OPENED_TAG: Final = "candlewick.opened"
"""Something that no other run has, by which one is found whose ID got lost on the way."""
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
        self._contact: Contact = contact_with(self._store)
        client = self._contact.patiently(lambda: open_store(self._store))
        self.client: mlflow.MlflowClient = patient(client, self._contact)
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
        self._opening = uuid4().hex
        self._may_be_open = False
        self._thread = threading.get_ident()
        self._metrics = MetricSteps()

        with ExitStack() as opening:
            opening.enter_context(use_tracking_uri(self._store))
            try:
                run = self._contact.patiently(
                    lambda: (
                        self._adopt(given_run)
                        if given_run
                        else self._start(experiment_name, run_name, parent, settings)
                    )
                )
                self.run_id: str = run.info.run_id
                self.experiment_id: str = run.info.experiment_id
                self.git_commit: str | None = run.data.tags.get("mlflow.source.git.commit")
                self._params: dict[str, str] = dict(run.data.params)
                self._outbox = Outbox(
                    client, self.run_id, run.info.artifact_uri, self._contact, redact(self._store)
                )
                start_beating(client, self.run_id)
                _open_loggers.append(self)
            except BaseException as error:
                self._give_up(parent, error)
                if not isinstance(error, MlflowException):
                    raise
                raise TrackingError(
                    f"the run cannot be opened in {redact(self._store)}: {redact(str(error))}"
                ) from error
            self._when_closed = opening.pop_all()
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
        tags = [RunTag(*each) for each in {**signs_of_life(), **self.tags}.items()]
        self.client.log_batch(run_id, tags=tags)
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
        opened = self._find_opened(experiment_id)
        if opened is not None:
            return cast(Run, mlflow.start_run(run_id=opened, nested=True))
        tags = {**signs_of_life(), OPENED_TAG: self._opening, **self.tags}
        self._may_be_open = True
        return cast(
            Run,
            mlflow.start_run(experiment_id=experiment_id, run_name=name, nested=True, tags=tags),
        )

    def _find_opened(self, experiment_id: str) -> str | None:
        """Return the run that was created already, though its ID got lost on the way."""
        if not self._may_be_open:
            return None
        found = self.client.search_runs(
            [experiment_id], f"tags.`{OPENED_TAG}` = '{self._opening}'", max_results=1
        )
        return str(found[0].info.run_id) if found else None

    def _give_up(self, parent: Any, error: BaseException) -> None:
        """End a run that is open, but not for anybody: MLflow would call it FINISHED at the end."""
        run = mlflow.active_run()
        if run is None or (parent is not None and run.info.run_id == parent.info.run_id):
            return
        if self in _open_loggers:
            _open_loggers.remove(self)
        stop_beating(run.info.run_id)
        is_stopped = isinstance(error, KeyboardInterrupt)
        if is_stopped:
            _let_go(error)
        try:
            self.client.set_terminated(run.info.run_id, "KILLED" if is_stopped else "FAILED")
        except Exception as second:
            _log.warning("run %s could not be closed: %s", run.info.run_id, first_line(second))
        finally:
            _active_run_stack.get().pop()

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
        new = {name: text for name, text in texts.items() if name not in self._params}
        names = list(new)
        for start in range(0, len(names), _PARAMS_PER_REQUEST):
            several = names[start : start + _PARAMS_PER_REQUEST]
            self._outbox.send(of_params({name: new[name] for name in several}))
        self._params |= new

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
        placed = self._metrics.place(metrics)
        for start in range(0, len(placed), METRICS_PER_REQUEST):
            self._outbox.send(of_metrics(placed[start : start + METRICS_PER_REQUEST]))

    def log_step_metrics(self, step: int, **metrics: SupportsFloat) -> None:
        """Record metrics of one step, such as a boosting round or an epoch.

        They are sent a thousand to a request, or every few seconds; :meth:`flush` and the run's end
        send the rest. Until then they are in a file: a process that is killed loses none.

        Raises
        ------
        TypeError
            If a value is no number.
        ValueError
            If a name is not one MLflow keeps.
        """
        self._outbox.later(self._metrics.place(metrics, int(step)))
        if self._status:
            self.flush()

    def flush(self) -> None:
        """Send what is waiting, unless the store is away."""
        self._outbox.flush()

    def set_tags(self, **tags: Any) -> None:
        """Set tags of the run; names with dots go in as ``**{"a.b": ...}``."""
        texts = {name: str(plain(value)) for name, value in tags.items()}
        self.set_tags_of(self.run_id, texts)
        self.tags |= texts

    def set_tags_of(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Set tags of any run in this store."""
        if tags:
            named = {checked_name("tag", name): text for name, text in tags.items()}
            self._outbox.send(of_tags(named, run_id))

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
        self._outbox.send(of_input(dataset))

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
        name = PurePath(model_path).stem.replace(".", "-") or "model"
        uri = model_store.save_model(
            model,
            run_id=self.run_id,
            name=name,
            model_type=model_type,
            log=self._log_flavor,
            **details,
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
        uri = price_model_store.save_price_model(
            data, code, run_id=self.run_id, name=model_path, log=self._log_flavor, **details
        )
        self.set_tags(model_uri=uri)
        return uri

    def _log_flavor(self, flavor: Any, **details: Any) -> str:
        """Store a model in one of MLflow's flavors; where the store is away, keep it for later."""
        name, token = details["name"], uuid4().hex

        def log(tried: bool) -> str:
            with use_tracking_uri(self._store):
                return log_sealed(flavor, token=token, tried=tried, **details)

        def keep(tried: bool) -> str:
            with tempfile.TemporaryDirectory(prefix="candlewick-") as folder:
                save_sealed(flavor, Path(folder, "model"), **details)
                message = of_model(name, token, Path(folder, "model"))
                self._outbox.keep(message, tried=tried)
            return promise(self.run_id, name)

        return self._outbox.attempt(log, instead=keep)

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
        self._outbox.send(of_artifacts(Path(folder), _inside(artifact_path)))

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
        self._outbox.send(of_artifacts(Path(path), _inside(artifact_path)))

    def log_dict_artifact(self, values: Mapping[str, Any], file_name: str) -> None:
        """Store a mapping as a JSON file; NaN and infinities become null."""
        self._log_text(json_text(values), file_name)

    def _log_text(self, text: str, file_name: str) -> None:
        path = PurePosixPath(checked_path(file_name))
        with tempfile.TemporaryDirectory(prefix="candlewick-") as folder:
            file = Path(folder, path.name)
            file.write_text(text, encoding="utf-8")
            self._outbox.send(of_artifacts(file, str(path.parent) if path.parent.name else None))

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
                self._tell_end(status)
                self._outbox.close()

    def _tell_end(self, status: RunStatus) -> None:
        """Tell that the run has ended; whatever stands in the way, keep that for the next start."""
        end = of_end(status, time.time_ns() // 1_000_000)
        asleep = has_been_asleep(self.run_id)
        stop_beating(self.run_id)

        def tell(tried: bool) -> None:
            if asleep:
                was_taken(self.client, self.run_id)
            if self._is_active:
                mlflow.end_run(status)
            else:
                self.client.set_terminated(self.run_id, status)

        def keep(tried: bool) -> None:
            self._outbox.keep(end, tried=tried)

        try:
            self._outbox.attempt(tell, instead=keep)
        except Exception:  # the store declines what waits: the end need not wait behind that
            try:
                tell(True)
            except Exception as error:
                _log.warning("run %s has ended, but %s", self.run_id, first_line(error))
                keep(True)
        finally:
            if self._is_active:  # `mlflow.end_run` would ask the store
                _active_run_stack.get().pop()

    @property
    def _is_active(self) -> bool:
        active = mlflow.active_run()
        return bool(active) and active.info.run_id == self.run_id

    def fail(self, error: BaseException) -> None:
        """Close the run as FAILED (KILLED when interrupted) and record why."""
        if self._status is not None:
            return
        reason = redact(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)
        text = "".join(traceback.format_exception(error))
        if isinstance(error, KeyboardInterrupt):
            _let_go(error)
        try:
            self.set_tags(**{FAILURE_TAG: reason[:_FAILURE_LENGTH]})
            self._log_text(redact(text), "failure.txt")
        except Exception as second:  # the first error is the one to be seen
            _log.warning("the failure could not be recorded in run %s: %s", self.run_id, second)
        try:
            self.end_run("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
        except Exception as second:
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


def _let_go(stop: BaseException | None) -> None:
    """Free what calls that were stopped half way hold as long as their traceback is there.

    SQLite's cursor is among it, and with it a transaction that locks the run's own database.
    """
    while stop is not None:
        traceback.clear_frames(stop.__traceback__)
        stop = stop.__context__


def _inside(artifact_path: str | None) -> str | None:
    return None if artifact_path is None else checked_path(artifact_path)


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
