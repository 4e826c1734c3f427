"""Challenger against champion: on which rows, and where they cannot be compared."""

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from recorded_models import (
    DAYS,
    MIDDLE,
    N_TRAIN,
    TEST_ROWS,
    Recorded,
    fit,
    iso,
    remove_model,
    run_promote,
    run_rollback,
)
from sklearn.metrics import log_loss

from steps.learning.bootstrap import Interval
from steps.learning.paired import PairedComparison
from steps.model_comparison import allow_for_looks, compare_models
from steps.tracking.registry import ModelVersion
from steps.tracking.stores import TrackingError


@pytest.fixture(scope="module")
def store(migrated_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    return Recorded(migrated_database, tmp_path_factory.mktemp("registry"))


@pytest.fixture
def recorded(store: Recorded, monkeypatch: pytest.MonkeyPatch) -> Recorded:
    """The store, decided on. Each test has a registered model of its own in it."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.uri)
    mlflow.set_tracking_uri(store.uri)
    return store


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    return re.sub(r"\W+", "-", request.node.name).strip("-")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["informed", "informed_of_old"])
def test_the_champion_is_not_asked_what_it_has_learnt(
    recorded: Recorded, name: str, kind: str
) -> None:
    """Its last label was known three days after its last row; of old, nobody wrote that down."""
    run_promote(name, recorded.judge(kind))
    _, run = run_promote(name, recorded.judge("strong"))
    compared = run.read_json("comparison.json")
    until = MIDDLE + 3 if kind == "informed" else MIDDLE + 1
    assert compared["champion_has_learnt_until"] == iso(until)
    assert compared["first_date"] == iso(until + 1)
    # the days after that, but for the last one, which has no label
    assert compared["dates"] == len(DAYS) - 1 - (until + 1)
    assert compared["rows"] == 3 * compared["dates"]
    assert compared["rows_left_out"] == 342 - compared["rows"]
    late = TEST_ROWS & (recorded.table["date"] > DAYS[until])
    y = recorded.table.loc[late, "direction"].to_numpy(int)
    weak = recorded.probabilities("weak")[late[TEST_ROWS].to_numpy()]
    assert run.metrics["champion_log_loss"] == pytest.approx(log_loss(y, weak))


@pytest.mark.slow
def test_the_challenger_is_not_asked_what_it_has_learnt(recorded: Recorded, name: str) -> None:
    run_promote(name, recorded.judge("weak"))
    _, run = run_promote(name, recorded.judge("informed"))
    compared = run.read_json("comparison.json")
    assert compared["champion_has_learnt_until"] == iso(N_TRAIN - 1)
    assert compared["challenger_has_learnt_until"] == iso(MIDDLE + 3)
    assert compared["first_date"] == iso(MIDDLE + 4)
    kept, _ = run_promote(name, recorded.judge("omniscient"))
    reason = f"version 3 has learnt from prices until {DAYS[-1].date()}, and the evaluation has no"
    assert reason in kept.sentence


@pytest.mark.slow
def test_the_best_of_many_tries_has_to_be_better_by_more(recorded: Recorded, name: str) -> None:
    run_promote(name, recorded.judge("weak"))
    lucky = 10**7
    kept, run = run_promote(name, recorded.judge("strong", looks=lucky))
    assert recorded.aliases(name) == {"champion": 1, "challenger": 2}
    after = rf"95 % interval -0\.\d+ to 0\.\d+, p 1 \(after {lucky} looks\), 342 rows of 114 dates$"
    assert re.search(after, kept.sentence)
    compared = run.read_json("comparison.json")
    assert (compared["looks"], compared["winner"]) == (lucky, "undecided")
    assert compared["sentence"].endswith(f"p = 1 (after {lucky} looks).")
    assert run.metrics["log_loss_gain_low"] < 0 < run.metrics["log_loss_gain"]

    won, run = run_promote(name, recorded.judge("strong", looks=2))
    assert recorded.aliases(name) == {"champion": 2}
    assert "(after 2 looks), 342 rows" in won.sentence
    assert run.metrics["log_loss_gain_low"] > 0


def test_many_looks_raise_the_p_value_and_take_the_victory() -> None:
    """Of many blocks, three looks stretch 95 % by 2.388 / 1.960, from printed tables."""
    gain = Interval(0.01, 0.001, 0.019, 0.95, 10, 1000)
    once = PairedComparison(100, 50, 0.7, 0.69, gain, 0.03, "challenger")
    assert allow_for_looks(once, 1) == replace(once, p_value=pytest.approx(0.03))
    thrice = allow_for_looks(once, 3)
    assert thrice.winner == "undecided"
    assert thrice.gain.low == pytest.approx(0.01 - 0.009 * 2.388 / 1.960, abs=1e-5)
    assert thrice.p_value == pytest.approx(1 - 0.97**3)
    worse = replace(
        once, gain=replace(gain, value=-0.01, low=-0.019, high=-0.005), winner="champion"
    )
    assert allow_for_looks(worse, 3).winner == "champion"
    unknown = replace(gain, low=np.nan, high=np.nan)
    assert allow_for_looks(replace(once, gain=unknown), 3).winner == "undecided"


def test_a_store_that_does_not_answer_decides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    unreachable: Any = SimpleNamespace(client=mlflow.MlflowClient("http://127.0.0.1:1"))
    nothing: Any = SimpleNamespace(
        snapshot=None, judged=SimpleNamespace(tags={"train_run_id": "b" * 32})
    )
    champion = ModelVersion("m", 1, "models:/m-1", "a" * 32, {})
    with pytest.raises(TrackingError, match=r"asked for run a+ and refused"):
        compare_models(champion, replace(champion, number=2), nothing, unreachable)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("omniscient", rf"has learnt from prices until {DAYS[-1].date()}, and the evaluation has"),
        ("foreign", r"cannot score snapshot \w+: The model was trained on features .*'other'"),
        ("patient", r"version 1 looks 5 days ahead, the evaluation 1"),
        ("raw", r"version 1 gives something else than one probability per row: .* from -0\.\d+ to"),
        (
            "reworked",
            "version 1 was trained on feature set planted version 2, the challenger on planted "
            "version 1",
        ),
    ],
    ids=["omniscient", "foreign", "patient", "raw", "reworked"],
)
def test_a_champion_that_cannot_be_compared_stays_unless_forced(
    recorded: Recorded, name: str, kind: str, reason: str
) -> None:
    crown_by_hand(recorded, name, recorded.train(kind).tags["model_uri"])
    strong = recorded.judge("strong")
    kept, run = run_promote(name, strong)
    assert recorded.aliases(name) == {"champion": 1, "challenger": 2}
    assert re.search(rf"still version 1\): comparison not possible: .*{reason}", kept.sentence)
    assert run.tags["comparison_sentence"] in kept.sentence
    assert run.read_json("comparison.json")["possible"] is False
    assert "log_loss_gain" not in run.metrics
    run_promote(name, strong, force=True)
    assert recorded.aliases(name) == {"champion": 2}
    run_rollback(name)
    assert recorded.aliases(name) == {"champion": 1}


@pytest.mark.slow
def test_a_champion_nobody_knows_the_training_of(recorded: Recorded, name: str) -> None:
    with recorded.step("other") as logger:
        uri = logger.log_model(fit(recorded.table, "noise"))
    crown_by_hand(recorded, name, uri)
    kept, _ = run_promote(name, recorded.judge("strong"))
    assert kept.alias == "challenger"
    lost = f"comparison not possible: run {logger.run_id} has lost its split.json"
    assert lost in kept.sentence


@pytest.mark.slow
def test_a_champion_whose_files_are_gone_can_be_replaced_by_force(
    recorded: Recorded, name: str
) -> None:
    lost = recorded.record_training(fit(recorded.table, "noise"), feature="noise")
    crown_by_hand(recorded, name, lost.tags["model_uri"])
    remove_model(recorded, lost.tags["model_uri"])
    strong = recorded.judge("strong")
    kept, _ = run_promote(name, strong)
    assert kept.alias == "challenger"
    assert f"model models:/{name}/1 cannot be loaded" in kept.sentence
    run_promote(name, strong, force=True)
    assert recorded.aliases(name) == {"champion": 2}


def crown_by_hand(recorded: Recorded, name: str, model_uri: str) -> None:
    mlflow.register_model(model_uri, name)
    recorded.client.set_registered_model_alias(name, "champion", "1")


@pytest.mark.slow
def test_predictions_snapshot_and_model_must_belong_together(recorded: Recorded, name: str) -> None:
    uri = recorded.train("strong").tags["model_uri"]
    confused = recorded.judge("weak", model_uri=uri)
    with pytest.raises(TrackingError, match=rf"not of this model .*{uri} gives probabilities up"):
        run_promote(name, confused)

    changes: dict[str, Any] = {
        "has not all of its rows": lambda table: table.assign(date=table["date"] + DAYS.freq * 300),
        "has other labels": lambda table: table.assign(direction=1 - table["direction"]),
        "lacks dates, symbols": lambda table: table.drop(columns="probability"),
        "gives probabilities up to nan": lambda table: table.assign(probability=np.nan),
        r"has not all of its rows\)": lambda table: table.head(0),
    }
    for complaint, change in changes.items():
        judged = recorded.judge("weak")
        change(pd.read_parquet("predictions.parquet")).to_parquet("predictions.parquet")
        recorded.client.log_artifact(judged, "predictions.parquet")
        with pytest.raises(TrackingError, match=complaint):
            run_promote(name, judged)
    Path("predictions.parquet").write_bytes(b"not parquet")
    recorded.client.log_artifact(judged, "predictions.parquet")
    with pytest.raises(TrackingError, match=r"has lost its predictions\.parquet"):
        run_promote(name, judged)

    lost = recorded.record_training(fit(recorded.table, "noise"), feature="noise")
    remove_model(recorded, lost.tags["model_uri"])
    with pytest.raises(TrackingError, match=r"model models:/m-\w+ cannot be loaded .*train again"):
        run_promote(name, recorded.judge("weak", model_uri=lost.tags["model_uri"]))
    with pytest.raises(mlflow.MlflowException, match="not found"):
        recorded.client.get_registered_model(name)
