"""rollback: the champion steps down for the version it replaced."""

from __future__ import annotations

from pydantic import Field

from steps.command import say
from steps.entry_point import StepParams, run_step
from steps.tracking.mlflow_logger import MLflowLogger
from steps.tracking.model_store import load_model
from steps.tracking.registry import CROWNED, ModelName, ModelVersion, RegisteredModel, now
from steps.tracking.stores import TrackingError
from steps.tracking.turns import take_turn


class RollbackParams(StepParams):
    """Make an earlier version champion again."""

    model_name: ModelName = Field("stock_direction", description="name in the model registry")
    to_version: int = Field(
        0, ge=0, description="0: the one the champion replaced; or a version's number"
    )


class RollbackError(ValueError):
    """There is nothing to go back to; the message says why."""


def rollback(params: RollbackParams, logger: MLflowLogger) -> ModelVersion:
    """Move the alias ``champion`` back, and record who did. Return the version it is at now."""
    model = RegisteredModel(logger.client, params.model_name)
    model.require()
    with take_turn(model, logger.run_id, tell=say) as check_turn:
        champion = model.champion()
        target = _target(model, champion, params.to_version)
        _check_loads(target)
        check_turn(champion)
        model.crown(target, _former_champions(target, champion))
        if champion is not None:
            model.describe(champion.number, rolled_back_by=logger.run_id, rolled_back_at=now())
    former = f"was version {champion.number}" if champion else "there was none"
    sentence = f"{model.name} version {target.number} is champion again ({former})"
    logger.set_tags(
        model_version=target.number,
        rolled_back_version=champion.number if champion else "none",
        rollback=sentence,
        **{"mlflow.note.content": f"{sentence}\n\n{target.link}"},
    )
    say(sentence)
    return target


def _check_loads(target: ModelVersion) -> None:
    """Make sure that there is more left of a version than its entry in the registry."""
    try:
        load_model(target.uri)
    except TrackingError as error:
        raise RollbackError(
            f"no alias was moved: {error}, or name another -P to_version"
        ) from error


def _target(model: RegisteredModel, champion: ModelVersion | None, to_version: int) -> ModelVersion:
    if to_version:
        return _named(model, champion, to_version)
    if champion is None:
        raise RollbackError(
            f"{model.name} has no champion, so there is nothing to go back from: "
            "-P to_version=... makes a version champion again that was it before"
        )
    if not champion.former_champions:
        raise RollbackError(
            f"{model.name} version {champion.number} is champion and replaced no other: there is "
            "nothing to go back to"
        )
    wanted, known = champion.former_champions[-1], model.versions()
    if wanted not in known:
        left = [str(number) for number in champion.former_champions if number in known]
        raise RollbackError(
            f"version {wanted}, which {model.name} version {champion.number} replaced, was "
            f"deleted; champions before it that are left: {', '.join(left) or 'none'} "
            "(-P to_version=...)"
        )
    return model.version(wanted)


def _named(model: RegisteredModel, champion: ModelVersion | None, to_version: int) -> ModelVersion:
    target = model.version(to_version)
    if champion and champion.number == to_version:
        raise RollbackError(f"{model.name} version {to_version} is champion already")
    been_champion = CROWNED in target.tags or (
        champion is not None and to_version in champion.former_champions
    )
    if not been_champion:
        raise RollbackError(
            f"{model.name} version {to_version} has never been champion: `mlflow run . -e promote` "
            "compares it with the champion first"
        )
    return target


def _former_champions(target: ModelVersion, champion: ModelVersion | None) -> list[int]:
    """Return whom to go back to from the target, so that the next rollback leads further back."""
    line = champion.former_champions if champion else []
    if target.number not in line:
        return target.former_champions
    last = len(line) - 1 - line[::-1].index(target.number)
    return line[:last]


if __name__ == "__main__":
    run_step("rollback", rollback, RollbackParams)
