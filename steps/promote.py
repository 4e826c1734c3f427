"""promote: an evaluated model becomes a registered version, and champion where it is better."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from steps.command import say
from steps.entry_point import StepParams, log_resolved, run_step
from steps.model_comparison import ModelComparison, compare_models, score_again
from steps.tracking.mlflow_logger import SNAPSHOT_TAG, MLflowLogger
from steps.tracking.project import NotRecordedError, StepRun, find_judged_run, read_run
from steps.tracking.registry import (
    CHALLENGER,
    CHAMPION,
    ModelName,
    ModelVersion,
    RegisteredModel,
    now,
)
from steps.tracking.turns import take_turn
from steps.tracking.values import json_text


class PromoteParams(StepParams):
    """Register an evaluated model, and make it champion where it beats the champion."""

    evaluate_run_id: str = Field("latest", description="'latest', or the run ID of an evaluate run")
    model_name: ModelName = Field("stock_direction", description="name in the model registry")
    force: bool = Field(
        False, description="make it champion whatever gate and comparison say; recorded"
    )


class PromotionRefusedError(ValueError):
    """The gate rejected the model; the message says why, and how to promote it all the same."""


@dataclass(frozen=True)
class Promotion:
    """What a promotion ended in.

    Attributes
    ----------
    version : ModelVersion
    alias : {"champion", "challenger"}
    champion : ModelVersion or None
        The version that was champion before.
    line : sequence of int
        The versions to go back to from this one, were it champion, the nearest last.
    comparison : ModelComparison
    sentence : str
        For the terminal.
    """

    version: ModelVersion
    alias: str
    champion: ModelVersion | None
    line: Sequence[int]
    comparison: ModelComparison
    sentence: str

    @property
    def is_champion_already(self) -> bool:
        """Whether nothing changes."""
        return self.champion is not None and self.champion.number == self.version.number

    @property
    def replaces(self) -> str:
        """The number of the version to go back to from the new champion, or ``none``."""
        if self.alias != CHAMPION or self.is_champion_already or not self.line:
            return "none"
        return str(self.line[-1])


def promote(params: PromoteParams, logger: MLflowLogger) -> Promotion:
    """Register a model, compare it with the champion, and move the aliases accordingly."""
    judged = find_judged_run(logger.client, logger.experiment_id, params.evaluate_run_id)
    log_resolved(logger, evaluate_run_id=judged.run_id)
    approved = _check_gate(judged, force=params.force)
    rows = score_again(judged, logger)

    model = RegisteredModel(logger.client, params.model_name)
    model.create()
    with take_turn(model, logger.run_id, tell=say) as check_turn:
        version, champion = model.register(judged.tags["model_uri"]), model.champion()
        comparison = compare_models(champion, version, rows, logger)
        line, former = _succession(model, version, champion)
        promotion = decide(
            champion,
            version,
            comparison,
            line=line,
            former=former,
            approved=approved,
            force=params.force,
        )
        facts = _facts(promotion, judged, params)
        note = _note(promotion, judged, logger)
        check_turn(champion)
        if promotion.is_champion_already:
            model.complete(version)
        else:
            model.describe(version.number, note, promote_run_id=logger.run_id, **facts)
            if promotion.alias == CHAMPION:
                model.crown(version, promotion.line)
            else:
                model.challenge(version)
    _log(promotion, facts, note, logger)
    say(promotion.sentence)
    return promotion


def _check_gate(judged: StepRun, *, force: bool) -> bool:
    """Return whether the gate approved the model; one that it rejected needs force."""
    verdict, failed = judged.tags["gate"], judged.tags.get("gate_failed", "no reason given")
    if verdict == "APPROVED":
        return True
    if not force:
        raise PromotionRefusedError(
            f"the gate says {verdict} of evaluate run {judged.run_id} ({failed}): "
            "-P force=true promotes the model all the same, and records that"
        )
    say(f"the gate says {verdict} ({failed}): promoting the model by force")
    return False


def _succession(
    model: RegisteredModel, version: ModelVersion, champion: ModelVersion | None
) -> tuple[list[int], str]:
    """Return the versions to go back to from a new champion, and a word on the one before it.

    A champion that was deleted took the alias along. The line goes on from the latest one that is
    left and did not step down.
    """
    former = f"was version {champion.number}" if champion else "there was none"
    last = champion
    if last is None and (past := model.past_champions()):
        former = "the one before was deleted"
        last = next((each for each in reversed(past) if "rolled_back_by" not in each.tags), None)
    if last is None:
        return [], former
    own = [last.number] if last.number != version.number else []
    return [*last.former_champions, *own], former


def decide(
    champion: ModelVersion | None,
    version: ModelVersion,
    comparison: ModelComparison,
    *,
    line: Sequence[int],
    former: str,
    approved: bool,
    force: bool,
) -> Promotion:
    """Say which alias a version gets, and why."""
    name = f"{version.name} version {version.number}"
    finding = f": {comparison.figures}" if champion else ""
    deserved = approved and (champion is None or comparison.is_won)
    if champion and champion.number == version.number:
        alias, sentence = CHAMPION, f"{name} is champion already: nothing to do"
    elif deserved or force:
        how = "" if deserved else " by force"
        alias, sentence = CHAMPION, f"{name} is now champion{how} ({former}){finding}"
    else:
        kept = f"champion is still version {champion.number}" if champion else "no champion"
        alias, sentence = CHALLENGER, f"{name} is now challenger ({kept}){finding}"
    return Promotion(version, alias, champion, line, comparison, sentence)


def _facts(promotion: Promotion, judged: StepRun, params: PromoteParams) -> dict[str, Any]:
    """Return what both the version and the promote run are tagged with."""
    taken = (SNAPSHOT_TAG, "trained_on_snapshot_id", "gate", "gate_failed", "verdict", "leak_alarm")
    return {
        **{name: judged.tags.get(name, "unknown") for name in taken},
        "evaluate_run_id": judged.run_id,
        "train_run_id": judged.tags["train_run_id"],
        "forced": str(params.force).lower(),
        "comparison": json_text(promotion.comparison.describe()),
        "comparison_sentence": promotion.comparison.sentence,
    }


def _note(promotion: Promotion, judged: StepRun, logger: MLflowLogger) -> str:
    """Describe the promotion for the UI, with links to the runs it goes back to."""
    runs = {
        "train": judged.tags["train_run_id"],
        "evaluate": judged.run_id,
        "promote": logger.run_id,
    }
    links = [_link(step, run_id, logger) for step, run_id in runs.items()]
    links.append(promotion.version.link)
    gate = f"Gate: {judged.tags['gate']} (failed: {judged.tags.get('gate_failed', 'unknown')})."
    sentence, verdict = f"{now()}: {promotion.sentence}", judged.tags.get("verdict", "")
    told = [sentence, gate, verdict, _input(judged.tags["train_run_id"], logger), " → ".join(links)]
    return "\n\n".join(filter(None, told))


def _input(train_run_id: str, logger: MLflowLogger) -> str:
    """Say what a model takes that MLflow has no schema for: see `save_price_model`."""
    try:
        tags = read_run(logger.client, train_run_id).tags
    except NotRecordedError:
        return ""
    if tags.get("feature_model_uri") in (None, tags.get("model_uri")):
        return ""
    return (
        "Takes daily prices in long format: date, symbol, open, high, low, close, volume, and "
        "adj_close where there is one. Its file serving_input_example.json is a request."
    )


def _link(step: str, run_id: str, logger: MLflowLogger) -> str:
    try:
        run = read_run(logger.client, run_id)
    except NotRecordedError:
        return f"{step} (run {run_id}, which is gone)"
    return f"[{step}](#/experiments/{run.experiment_id}/runs/{run_id})"


def _log(promotion: Promotion, facts: Mapping[str, Any], note: str, logger: MLflowLogger) -> None:
    result = promotion.comparison.result
    if result is not None:
        logger.log_metrics(
            log_loss_gain=result.gain.value,
            log_loss_gain_low=result.gain.low,
            log_loss_gain_high=result.gain.high,
            p_value=result.p_value,
            champion_log_loss=result.champion_log_loss,
            challenger_log_loss=result.challenger_log_loss,
        )
    logger.log_dict_artifact(promotion.comparison.describe(), "comparison.json")
    logger.set_tags(
        **facts,
        model_version=promotion.version.number,
        alias=promotion.alias,
        replaces=promotion.replaces,
        promotion=promotion.sentence,
        **{"mlflow.note.content": note},
    )


if __name__ == "__main__":
    run_step("promote", promote, PromoteParams)
