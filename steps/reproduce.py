"""reproduce: train a recorded model once more, and say whether the copy is bit-identical."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

from pydantic import Field, ValidationError

from steps.bit_comparison import Comparison, Results, compare
from steps.command import say
from steps.entry_point import ParameterError, StepParams, describe, open_step, run_step
from steps.learning.proba import predict_proba_up
from steps.market.snapshot import FeatureSnapshot, SnapshotError
from steps.provenance import (
    CommitNotFoundError,
    changes,
    code_at,
    code_of,
    code_sha256,
    git_remotes,
)
from steps.tracking.mlflow_logger import SNAPSHOT_TAG, MLflowLogger
from steps.tracking.model_store import load_model
from steps.tracking.project import (
    COPY_TAG,
    PROJECT,
    STEP_TAG,
    StepFailedError,
    StepNotStartedError,
    StepRun,
    find_step_run,
    launch_step,
    metric_histories,
    read_run,
    source_tags,
)
from steps.tracking.settings import redact
from steps.tracking.snapshot_store import load_snapshot, resolve_snapshot, snapshot_dataset
from steps.tracking.stores import TrackingError
from steps.tracking.values import same_param
from steps.train import WORKERS_TAG, TrainParams, train

CODE_TAG: Final = "code_sha256"
_COMMIT_TAG: Final = "mlflow.source.git.commit"
_FILES: Final = ("split.json", "feature_importance.json")


class ReproduceParams(StepParams):
    """Train a recorded model once more and compare the two, bit by bit."""

    run_id: str = Field("latest", description="'latest', or a train, evaluate or main run's ID")


class NotReproducedError(RuntimeError):
    """The copy is not the original; the message says in what, and what else differs."""


class Trained(NamedTuple):
    """A copy, where its code is from, and what that code would lack if it is not the same."""

    run_id: str
    code_from: str
    shortfall: str


def reproduce(params: ReproduceParams, logger: MLflowLogger) -> Comparison:
    """Train as a recorded run did, in a child run, and compare what came of both.

    Raises
    ------
    NotReproducedError
        If anything differs, or if the data is gone or damaged. All is recorded before.
    StepFailedError
        If the copy cannot be trained.
    """
    original = find_original(logger, params.run_id)
    logger.set_tags(reproduced="false", reproduced_run_id=original.run_id)  # until it is shown
    snapshot = _load_data(original, logger)
    results = _results(original, snapshot, logger)  # before the work: it may be gone
    try:
        trained = _train_again(original, logger)
    except Exception as error:
        raise StepFailedError(f"train: {error}") from error
    copy = read_run(logger.client, trained.run_id)
    comparison = compare(results, _results(copy, snapshot, logger))
    differences = [
        *_changed_parameters(original, copy),
        *_changed_code(original, copy, trained.shortfall),
        *_changed_environment(original, copy),
        *_changed_workers(original, copy),
    ]
    sentence = _sentence(comparison, results, differences)
    logger.log_dict_artifact(
        {
            "reproduced": comparison.identical,
            "sentence": sentence,
            "differences": differences,
            "original": _describe(original),
            "copy": {**_describe(copy), "code_from": trained.code_from},
            "compared": vars(comparison),
        },
        "reproduction.json",
    )
    logger.set_tags(
        reproduced=str(comparison.identical).lower(),
        copy_run_id=copy.run_id,
        differences="; ".join(differences) or "none",
        **{"mlflow.note.content": sentence},
    )
    say(f"original  {original.run_id}\ncopy      {copy.run_id}")
    if not comparison.identical:
        raise NotReproducedError(sentence)
    say(sentence)
    return comparison


def find_original(logger: MLflowLogger, run_id: str) -> StepRun:
    """Return a training run: the newest, one by its ID, or that of an evaluate or main run.

    Raises
    ------
    TrackingError
        If there is none.
    """
    if run_id != "latest":
        named = read_run(logger.client, run_id)
        if named.tags.get(STEP_TAG) in ("evaluate", "main"):
            run_id = named.tags.get("train_run_id", run_id)
    return find_step_run(logger.client, logger.experiment_id, "train", run_id)


def _load_data(original: StepRun, logger: MLflowLogger) -> FeatureSnapshot:
    """Load the very snapshot the run was trained on; hashing it again is part of loading."""
    snapshot_id = _required(original, SNAPSHOT_TAG)
    try:
        stored = resolve_snapshot(logger.client, logger.experiment_id, snapshot_id)
        snapshot = load_snapshot(stored)
    except (SnapshotError, TrackingError) as error:
        sentence = f"NOT reproduced: the data is what differs: {error}"
        logger.set_tags(differences="snapshot", **{"mlflow.note.content": sentence})
        logger.log_dict_artifact(
            {
                "reproduced": False,
                "sentence": sentence,
                "differences": ["snapshot"],
                "original": _describe(original),
            },
            "reproduction.json",
        )
        raise NotReproducedError(sentence) from error
    logger.set_tags(**{SNAPSHOT_TAG: snapshot_id})
    logger.log_dataset(snapshot_dataset(stored, snapshot.manifest))
    return snapshot


def _results(run: StepRun, snapshot: FeatureSnapshot, logger: MLflowLogger) -> Results:
    model, _ = load_model(_required(run, "model_uri"))
    if hasattr(model, "n_jobs"):
        # A forest's threads add up its trees in the order they finish, which decides last bits.
        model.set_params(n_jobs=1)
    labelled = snapshot.table["direction"].notna().to_numpy(bool)
    return Results(
        metrics=metric_histories(logger.client, run),
        predictions=predict_proba_up(model, snapshot.features[labelled]),
        files={name: run.read_json(name) for name in _FILES},
    )


def _required(run: StepRun, tag: str) -> str:
    if tag not in run.tags:
        raise TrackingError(f"run {run.run_id} has lost its tag {tag}: train again")
    return run.tags[tag]


# -- the copy ------------------------------------------------------------------------------------


def _train_again(original: StepRun, logger: MLflowLogger) -> Trained:
    """Train with the code that ran then or, where it is not to be had, with the current code."""
    parameters = {name: _as_given(value) for name, value in original.params.items()}
    parameters[SNAPSHOT_TAG] = original.tags[SNAPSHOT_TAG]
    if original.tags.get(CODE_TAG) == code_sha256():
        return Trained(
            _train_here(parameters, original), "the current code", "it changed meanwhile"
        )
    try:
        run_id = _train_at_commit(parameters, original, logger)
    except (CommitNotFoundError, StepNotStartedError) as error:
        say(f"the code that ran then is not to be had ({error}): training with the current code")
        run_id = _train_here(parameters, original)
        return Trained(run_id, "the current code", f"that of then is not to be had: {error}")
    commit = f"commit {_commit(original)[:7]}"
    return Trained(run_id, commit, f"{commit} is not all that ran: changes were not committed")


def _as_given(recorded: str) -> str:
    """Undo the quotes of the shell command that ``mlflow run`` records a parameter from."""
    try:
        words = shlex.split(recorded)
    except ValueError:
        return recorded
    return words[0] if len(words) == 1 else recorded


def _train_here(parameters: Mapping[str, str], original: StepRun) -> str:
    known = {n: value for n, value in parameters.items() if n in TrainParams.model_fields}
    try:
        params = TrainParams.model_validate(known)
    except ValidationError as error:
        raise ParameterError(describe(error)) from None
    with open_step("train", params) as child:
        child.set_tags(**{COPY_TAG: original.run_id})
        train(params, child)
    return child.run_id


def _train_at_commit(parameters: Mapping[str, str], original: StepRun, logger: MLflowLogger) -> str:
    """Run the recorded commit's own `train`: of this repository, or of the one it was run from."""
    tags = {**source_tags(original), COPY_TAG: original.run_id}
    with _code_of_then(original, logger) as folder:
        return launch_step(logger, "train", parameters, uri=str(folder), tags=tags)


@contextmanager
def _code_of_then(original: StepRun, logger: MLflowLogger) -> Iterator[Path]:
    commit = _commit(original)
    with ExitStack() as until_used:
        try:
            folder = until_used.enter_context(code_at(commit, PROJECT))
            where = ""
        except CommitNotFoundError as error:
            remote = _remote(original)
            if remote is None:
                raise
            where = f" of {redact(remote)}"
            if _repository(remote) not in _trusted(logger):
                raise CommitNotFoundError(f"{error}; it was run from {redact(remote)}") from error
            try:
                folder = until_used.enter_context(code_of(commit, remote))
            except CommitNotFoundError as there:
                raise CommitNotFoundError(f"{redact(remote)}: {redact(str(there))}") from there
        say(f"training with the code of commit {commit[:7]}{where}, as recorded")
        yield folder


def _commit(original: StepRun) -> str:
    if _COMMIT_TAG not in original.tags:
        raise CommitNotFoundError("no commit was recorded")
    return original.tags[_COMMIT_TAG]


def _remote(original: StepRun) -> str | None:
    """Return the git server the original's code is from, if it is from one."""
    pattern = r"((https?|ssh|git)://|[\w.-]+@[\w.-]+:)(?!.*\.zip(#|$))"
    return next((a for a in _addresses(original) if re.match(pattern, a)), None)


def _trusted(logger: MLflowLogger) -> set[str]:
    """Return the addresses that this very code is from.

    Whoever may write into the store could name any other, whose code would run here.
    """
    own = read_run(logger.client, logger.run_id)
    return {_repository(address) for address in (*git_remotes(PROJECT), *_addresses(own))}


def _addresses(run: StepRun) -> list[str]:
    tags = source_tags(run)
    return [tags[n] for n in ("mlflow.source.name", "mlflow.source.git.repoURL") if n in tags]


def _repository(address: str) -> str:
    return address.strip("'\"").partition("#")[0]


# -- what differs --------------------------------------------------------------------------------


def _changed_parameters(original: StepRun, copy: StepRun) -> list[str]:
    then, now = dict(original.params), dict(copy.params)
    for params in (then, now):
        params.pop(SNAPSHOT_TAG, None)  # equal by construction, though one may say `latest`
    equal = {n for n in then.keys() & now.keys() if same_param(then[n], _as_given(now[n]))}
    changed = changes(
        {n: value for n, value in then.items() if n not in equal},
        {n: value for n, value in now.items() if n not in equal},
    )
    return [f"parameter {change}" for change in changed]


def _changed_code(original: StepRun, copy: StepRun, shortfall: str) -> list[str]:
    then, now = original.tags.get(CODE_TAG), copy.tags.get(CODE_TAG)
    if then is None:
        return ["code (its hash was not recorded)"]
    return [f"code ({shortfall})"] if then != now else []


def _changed_environment(original: StepRun, copy: StepRun) -> list[str]:
    then, now = _environment(original), _environment(copy)
    return changes(then, now) if then and now else ["environment (it was not recorded)"]


def _changed_workers(original: StepRun, copy: StepRun) -> list[str]:
    then, now = (
        {name: value for name, value in run.tags.items() if name == WORKERS_TAG}
        for run in (original, copy)
    )
    return changes(then, now)


def _environment(run: StepRun) -> dict[str, Any]:
    try:
        return run.read_json("environment.json")
    except TrackingError:
        return {}


def _sentence(comparison: Comparison, original: Results, differences: Sequence[str]) -> str:
    differs = ", ".join(differences)
    if comparison.identical:
        return f"bit-identical: {_extent(original)}" + (
            f"; what differs: {differs}" if differs else ""
        )
    unknown = "nothing that is recorded, so look at the processors"
    return f"NOT identical: {'; '.join(comparison.findings)}; what differs: {differs or unknown}"


def _extent(results: Results) -> str:
    """Say how much was compared."""
    rounds = len(results.metrics.get("train_log_loss", ()))
    return ", ".join(
        [
            f"{results.files['split.json']['train']['rows']:,} training rows",
            *([f"{rounds:,} rounds"] if rounds > 1 else []),
            f"{len(results.predictions):,} predictions",
            f"{len(results.metrics):,} metrics",
        ]
    )


def _describe(run: StepRun) -> dict[str, Any]:
    return {
        "run_id": run.run_id,
        "model_uri": run.tags.get("model_uri"),
        SNAPSHOT_TAG: run.tags.get(SNAPSHOT_TAG),
        "git_commit": run.tags.get(_COMMIT_TAG),
        CODE_TAG: run.tags.get(CODE_TAG),
        "source": run.tags.get("mlflow.source.name"),
        "params": dict(run.params),
        "environment": _environment(run),
    }


if __name__ == "__main__":
    run_step("reproduce", reproduce, ReproduceParams)
