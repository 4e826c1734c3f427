"""What all entry points share: parameters from the command line, a run, and a clean end."""

from __future__ import annotations

import argparse
import difflib
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from steps.command import command, say
from steps.market.price_files import without_secrets
from steps.tracking.left_behind import tidy
from steps.tracking.mlflow_logger import FAILURE_TAG, MLflowLogger
from steps.tracking.processes import stop_with_launcher
from steps.tracking.project import read_run, step_tags
from steps.tracking.stores import TrackingError, check_artifacts
from steps.tracking.values import same_param

PLACEHOLDERS = ("latest", "auto")
"""Values that stand for an ID until a step has found it."""


class StepParams(BaseModel):
    """A step's parameters: the one place where their names, types, defaults and limits stand."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", protected_namespaces=(), allow_inf_nan=False
    )


Params = TypeVar("Params", bound=StepParams)


class ParameterError(ValueError):
    """A parameter is unknown, or its value is not allowed."""


def parse_params(params_type: type[Params], arguments: Sequence[str]) -> Params:
    """Read ``--name value`` or ``--name=value`` arguments.

    Raises
    ------
    ParameterError
        If a name is unknown or a value not allowed; one line that names all of them.
    """
    parser = _Parser(
        prog=f"python -m steps.{Path(sys.argv[0]).stem}",
        description=(params_type.__doc__ or "").partition("\n")[0],
        allow_abbrev=False,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    for name, field in params_type.model_fields.items():
        parser.add_argument(
            f"--{name}", default=field.default, help=(field.description or "").replace("%", "%%")
        )
    known, unknown = parser.parse_known_args(arguments)
    if unknown:
        raise ParameterError(_unknown_parameter(unknown[0], params_type))
    try:
        return params_type.model_validate(vars(known))
    except ValidationError as error:
        raise ParameterError(describe(error)) from None


def as_typed(params: StepParams, **known: Any) -> str:
    """Write parameters that are not the defaults as `mlflow run` takes them.

    Parameters
    ----------
    params : StepParams
    **known
        What a parameter turned out to be, instead of a word such as ``latest``.
    """
    given = public(params.model_copy(update=known).model_dump(exclude_defaults=True))
    return " ".join(f"-P {name}={shlex.quote(str(value))}" for name, value in given.items())


def public(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters as others may read them: without what is secret in a URL of prices."""
    return {
        name: without_secrets(value) if name == "prices" and isinstance(value, str) else value
        for name, value in given.items()
    }


def describe(error: ValidationError) -> str:
    """Put a validation error in one line."""
    complaints: dict[str, list[str]] = {}
    for each in error.errors(include_url=False):
        # What follows the name are the kinds of value that were tried: not the reader's business.
        given = f"{each['loc'][0]}={each['input']!r}" if each["loc"] else "parameters"
        said = each["msg"].removeprefix("Value error, ").lower()
        complaints.setdefault(given, []).append(said)
    return "; ".join(f"{given}: {' or '.join(said)}" for given, said in complaints.items())


def _unknown_parameter(argument: str, params_type: type[StepParams]) -> str:
    name = argument.lstrip("-").partition("=")[0]
    names = list(params_type.model_fields)
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(names)}"
    return f"unknown parameter {name}: {hint}"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ParameterError(message)


@contextmanager
def open_step(step: str, params: StepParams) -> Iterator[MLflowLogger]:
    """Open a step's run, a child where a run is active, with its parameters logged.

    A parameter that only stands for an ID is left for :func:`log_resolved`. Hours of work begin
    only where their results can be stored, and after what dead processes have left is seen to.
    """
    with MLflowLogger(run_name=step, tags=step_tags(step)) as logger:
        given = params.model_dump()
        shown = public(given)
        if shown != given and _typed(logger, given):
            say(
                "warning: mlflow run has recorded prices= as it was typed, with all that is secret "
                "in it, where it cannot be deleted: make that void, and see SECURITY.md for a way "
                "to give it that nobody records"
            )
            del shown["prices"]
        logger.log_params(**{k: v for k, v in shown.items() if v not in PLACEHOLDERS})
        recorded = read_run(logger.client, logger.run_id)
        if "mlflow.parentRunId" not in recorded.tags:  # a child's files go where its parent's go
            _check_artifacts(logger, recorded.artifact_uri)
            tidy(logger.client, [logger.experiment_id], say)
        yield logger


def _check_artifacts(logger: MLflowLogger, artifact_uri: str) -> None:
    """Fail a run whose files could not be stored."""
    try:
        check_artifacts(artifact_uri, logger.tracking_uri)
    except TrackingError as error:
        # Closed here and now: the logger would store a failure.txt first, and try for minutes.
        logger.set_tags(**{FAILURE_TAG: str(error)})
        logger.end_run("FAILED")
        raise


def _typed(logger: MLflowLogger, given: Mapping[str, Any]) -> bool:
    """Whether ``mlflow run`` has recorded the parameter as it was given."""
    recorded = read_run(logger.client, logger.run_id).params.get("prices")
    return recorded is not None and same_param(recorded, given["prices"])


def log_resolved(logger: MLflowLogger, **ids: str) -> None:
    """Record the IDs that ``latest`` or ``auto`` stood for, as parameters and tags.

    Where ``mlflow run`` has recorded the parameter as it was typed, the tag alone tells.
    """
    recorded = read_run(logger.client, logger.run_id).params
    logger.log_params(**{k: v for k, v in ids.items() if recorded.get(k) not in PLACEHOLDERS})
    logger.set_tags(**ids)


def run_step(
    step: str,
    function: Callable[[Any, MLflowLogger], object],
    params_type: type[StepParams],
    *,
    exit_status: Callable[[Any], int] = lambda found: 0,
    error_status: int = 1,
) -> NoReturn:
    """Be the step's command: parse, run, and leave with 0, or with one line and another status.

    Parameters
    ----------
    step : str
        The entry point's name in ``MLproject``.
    function : callable
        Takes the parameters and the logger of its open run.
    params_type : type of StepParams
    exit_status : callable, optional
        From what the function returned to the status to leave with, for a step that answers a
        question. Its run is FINISHED, whatever the answer; but ``mlflow run`` itself calls a run
        FAILED whose command leaves with anything but 0.
    error_status : int, optional
        What to leave with when the step fails.
    """
    with command(step, Exception, status=error_status):
        if "MLFLOW_RUN_ID" in os.environ:  # of `mlflow run`, which should not leave this one behind
            stop_with_launcher()
        try:
            params = parse_params(params_type, sys.argv[1:])
        except ParameterError as error:
            _fail_prepared_run(error)
            raise
        with open_step(step, params) as logger:
            found = function(params, logger)
    sys.exit(exit_status(found))


def _fail_prepared_run(error: Exception) -> None:
    """Tell the run that ``mlflow run`` prepared why it will never start."""
    if "MLFLOW_RUN_ID" in os.environ:
        MLflowLogger().fail(error)
