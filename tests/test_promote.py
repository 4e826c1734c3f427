"""promote and rollback: who becomes champion, what is written down, and the way back."""

import json
import re
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
from recorded_models import (
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

from steps.entry_point import ParameterError, open_step, parse_params
from steps.promote import PromoteParams, PromotionRefusedError
from steps.rollback import RollbackError, RollbackParams
from steps.tracking.project import read_run
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
def test_a_better_model_takes_over(
    recorded: Recorded, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    first, _ = run_promote(name, recorded.judge("weak"))
    assert capsys.readouterr().out == f"{name} version 1 is now champion (there was none)\n"
    assert first.comparison.describe()["possible"] is False
    assert recorded.aliases(name) == {"champion": 1}
    assert recorded.tags(name, 1)["replaces"] == "none"

    evaluate_run_id = recorded.judge("strong")
    _, run = run_promote(name, "latest")
    said = capsys.readouterr().out
    figures = r"log-loss gain 0\.\d{4}, 95 % interval 0\.\d{4} to 0\.\d{4}, p (< )?0\.\d+"
    assert re.fullmatch(
        rf"{name} version 2 is now champion \(was version 1\): {figures}, "
        r"342 rows of 114 dates\n",
        said,
    )
    assert recorded.aliases(name) == {"champion": 2}

    # The figures, once more by scikit-learn, on the rows the evaluate run had.
    y = recorded.table.loc[TEST_ROWS, "direction"].to_numpy(int)
    losses = {kind: log_loss(y, recorded.probabilities(kind)) for kind in ("weak", "strong")}
    assert run.metrics["champion_log_loss"] == pytest.approx(losses["weak"])
    assert run.metrics["challenger_log_loss"] == pytest.approx(losses["strong"])
    gain = losses["weak"] - losses["strong"]
    assert run.metrics["log_loss_gain"] == pytest.approx(gain)
    assert run.metrics["log_loss_gain_low"] < gain < run.metrics["log_loss_gain_high"]

    # What is written down, where one would look for it.
    trained = recorded.train("strong")
    tags = recorded.tags(name, 2)
    expected = {
        "feature_snapshot_id": recorded.snapshot.snapshot_id,
        "gate": "APPROVED",
        "gate_failed": "none",
        "leak_alarm": "none",
        "verdict": "so so",
        "forced": "false",
        "evaluate_run_id": evaluate_run_id,
        "replaces": "1",
    }
    assert expected.items() <= tags.items()
    assert expected.items() <= run.tags.items()
    assert tags["promote_run_id"] == run.run_id
    assert run.params["model_name"] == name
    comparison = json.loads(tags["comparison"])
    assert comparison == run.read_json("comparison.json") == json.loads(run.tags["comparison"])
    assert (comparison["champion_version"], comparison["challenger_version"]) == (1, 2)
    assert (comparison["first_date"], comparison["rows_left_out"]) == (iso(N_TRAIN + 5), 0)
    assert comparison["gain"]["value"] == pytest.approx(gain)
    assert comparison["sentence"] == tags["comparison_sentence"] == run.tags["comparison_sentence"]
    version = recorded.client.get_model_version(name, "2")
    assert version.source == trained.tags["model_uri"]
    assert version.run_id == trained.run_id
    assert said.strip() in version.description
    for run_id in (trained.run_id, evaluate_run_id, run.run_id):
        assert f"/runs/{run_id})" in version.description
    assert f"#/models/{name}/versions/2)" in run.tags["mlflow.note.content"]


@pytest.mark.slow
def test_an_equal_model_challenges_and_the_same_one_changes_nothing(
    recorded: Recorded, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run_promote(name, recorded.judge("strong"))
    run_promote(name, recorded.judge("copy"))
    assert recorded.aliases(name) == {"champion": 1, "challenger": 2}
    assert recorded.tags(name, 2)["replaces"] == "none"
    said = capsys.readouterr().out
    assert f"{name} version 2 is now challenger (champion is still version 1): log-loss" in said

    before = recorded.client.get_model_version(name, "1")
    again, run = run_promote(name, recorded.judge("strong"))
    assert again.is_champion_already
    assert capsys.readouterr().out == f"{name} version 1 is champion already: nothing to do\n"
    assert (run.status, run.tags["model_version"], run.tags["replaces"]) == (
        "FINISHED",
        "1",
        "none",
    )
    after = recorded.client.get_model_version(name, "1")
    assert (after.tags, after.description) == (before.tags, before.description)
    versions = recorded.client.search_model_versions(f"name = '{name}'")
    assert sorted(int(version.version) for version in versions) == [1, 2]


@pytest.mark.slow
def test_a_rejected_model_needs_force_which_is_recorded(
    recorded: Recorded, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rejected = recorded.judge("weak", gate="REJECTED")
    refusal = (
        rf"^the gate says REJECTED of evaluate run {rejected} \(auc_above_half; beats_base_rate\): "
        r"-P force=true promotes the model all the same, and records that$"
    )
    with pytest.raises(PromotionRefusedError, match=refusal):
        run_promote(name, rejected)
    with pytest.raises(mlflow.MlflowException, match="not found"):
        recorded.client.get_registered_model(name)

    _, run = run_promote(name, rejected, force=True)
    assert capsys.readouterr().out.splitlines() == [
        "the gate says REJECTED (auc_above_half; beats_base_rate): promoting the model by force",
        f"{name} version 1 is now champion by force (there was none)",
    ]
    for tags in (recorded.tags(name, 1), run.tags):
        assert (tags["forced"], tags["gate"]) == ("true", "REJECTED")
        assert tags["gate_failed"] == "auc_above_half; beats_base_rate"


@pytest.mark.slow
def test_force_crowns_a_worse_model_and_says_by_how_much(
    recorded: Recorded, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run_promote(name, recorded.judge("strong"))
    weak = recorded.judge("weak")
    run_promote(name, weak)
    assert recorded.aliases(name) == {"champion": 1, "challenger": 2}
    _, run = run_promote(name, weak, force=True)
    assert recorded.aliases(name) == {"champion": 2}  # and challenger no more
    assert run.metrics["log_loss_gain_high"] < 0
    assert "is now champion by force (was version 1): log-loss gain -0." in capsys.readouterr().out
    assert recorded.tags(name, 2)["replaces"] == "1"


@pytest.mark.slow
def test_rolling_back_leads_further_back_each_time(
    recorded: Recorded, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for kind in ("weak", "strong", "copy"):
        run_promote(name, recorded.judge(kind), force=True)
    run_promote(name, recorded.judge("strong"), force=True)  # once more: 1, 2, 3, 2
    assert recorded.tags(name, 2)["replaces"] == "3"
    capsys.readouterr()
    for was, back in ((2, 3), (3, 2), (2, 1)):
        run = run_rollback(name)
        assert recorded.aliases(name) == {"champion": back}
        said = f"{name} version {back} is champion again (was version {was})"
        assert capsys.readouterr().out == f"{said}\n"
        assert (run.tags["rollback"], run.tags["rolled_back_version"]) == (said, str(was))
        taken_down = recorded.tags(name, was)
        assert taken_down["rolled_back_by"] == run.run_id
        assert pd.Timestamp(taken_down["rolled_back_at"]).tzinfo is not None
        assert "rolled_back_by" not in recorded.tags(name, back)
    with pytest.raises(RollbackError, match="version 1 is champion and replaced no other"):
        run_rollback(name)
    assert recorded.aliases(name) == {"champion": 1}


@pytest.mark.slow
def test_rolling_back_to_a_version_that_is_named(recorded: Recorded, name: str) -> None:
    for kind in ("weak", "copy", "strong"):
        run_promote(name, recorded.judge(kind), force=True)
    run_promote(name, recorded.judge("informed"))
    assert recorded.aliases(name) == {"champion": 3, "challenger": 4}
    with pytest.raises(RollbackError, match="version 4 has never been champion: `mlflow run"):
        run_rollback(name, to_version=4)
    with pytest.raises(RollbackError, match="version 3 is champion already"):
        run_rollback(name, to_version=3)
    with pytest.raises(TrackingError, match=r"has no version 7: .* there are: 1, 2, 3, 4"):
        run_rollback(name, to_version=7)
    run_rollback(name, to_version=1)
    assert recorded.aliases(name) == {"champion": 1, "challenger": 4}
    with pytest.raises(RollbackError, match="replaced no other"):
        run_rollback(name)
    run_rollback(name, to_version=3)  # forward again
    recorded.client.delete_model_version(name, "2")
    with pytest.raises(RollbackError, match=r"version 2, which .* version 3 replaced, was deleted"):
        run_rollback(name)
    recorded.client.delete_model_version(name, "3")
    with pytest.raises(RollbackError, match="has no champion"):
        run_rollback(name)
    run_rollback(name, to_version=1)
    assert recorded.aliases(name) == {"champion": 1, "challenger": 4}


@pytest.mark.slow
def test_rolling_back_to_a_model_whose_files_are_gone(recorded: Recorded, name: str) -> None:
    lost = recorded.record_training(fit(recorded.table, "noise"), feature="noise")
    judged = recorded.judge("weak", model_uri=lost.tags["model_uri"], train_run_id=lost.run_id)
    run_promote(name, judged)
    run_promote(name, recorded.judge("strong"))
    remove_model(recorded, lost.tags["model_uri"])
    for to_version in (0, 1):
        with pytest.raises(RollbackError, match=r"no alias was moved: model .* cannot be loaded"):
            run_rollback(name, to_version=to_version)
    assert recorded.aliases(name) == {"champion": 2}
    assert "rolled_back_by" not in recorded.tags(name, 2)


@pytest.mark.slow
def test_a_champion_that_was_deleted_leaves_the_way_back(
    recorded: Recorded, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for kind in ("weak", "copy", "strong"):
        run_promote(name, recorded.judge(kind), force=True)
    recorded.client.delete_model_version(name, "3")
    capsys.readouterr()
    _, run = run_promote(name, recorded.judge("informed"))
    said = f"{name} version 4 is now champion (the one before was deleted)\n"
    assert capsys.readouterr().out == said
    assert recorded.tags(name, 4)["replaces"] == run.tags["replaces"] == "2"
    for back in (2, 1):
        run_rollback(name)
        assert recorded.aliases(name) == {"champion": back}

    # Those that stepped down are not gone back to; one whose alias was removed replaces no other.
    recorded.client.delete_registered_model_alias(name, "champion")
    run_promote(name, recorded.judge("weak"))
    assert recorded.aliases(name) == {"champion": 1}
    assert recorded.tags(name, 1)["replaces"] == "none"
    recorded.client.delete_model_version(name, "1")
    capsys.readouterr()
    run_promote(name, recorded.judge("strong"))
    assert "is now champion (the one before was deleted)" in capsys.readouterr().out
    with pytest.raises(RollbackError, match="replaced no other"):
        run_rollback(name)


@pytest.mark.slow
def test_promoting_once_more_ends_what_was_interrupted(recorded: Recorded, name: str) -> None:
    judged = recorded.judge("weak")
    run_promote(name, judged)
    recorded.client.delete_model_version_tag(name, "1", "champion_since")
    recorded.client.set_registered_model_alias(name, "challenger", "1")
    run_promote(name, judged)
    assert recorded.aliases(name) == {"champion": 1}
    assert "champion_since" in recorded.tags(name, 1)


@pytest.mark.slow
def test_runs_of_several_experiments_and_snapshots_are_told_apart(
    recorded: Recorded, name: str
) -> None:
    judged = recorded.judge("weak", experiment="elsewhere", trained_on_snapshot_id="another")
    _, run = run_promote(name, judged)
    elsewhere, here = (
        recorded.client.get_experiment_by_name(each).experiment_id
        for each in ("elsewhere", "stock_prediction")
    )
    note = recorded.client.get_model_version(name, "1").description
    assert f"[evaluate](#/experiments/{elsewhere}/runs/{judged})" in note
    assert f"[promote](#/experiments/{here}/runs/{run.run_id})" in note
    for tags in (recorded.tags(name, 1), run.tags):
        assert tags["trained_on_snapshot_id"] == "another"
        assert tags["feature_snapshot_id"] == recorded.snapshot.snapshot_id


def test_rolling_back_a_model_that_is_not_there(recorded: Recorded, name: str) -> None:
    with pytest.raises(TrackingError, match=rf"there is no registered model '{name}' in this"):
        run_rollback(name)


@pytest.mark.parametrize(
    "given", ["", " ", "a/b", "models:/a", "a:b", "../a", "a' OR '1'='1", "a\n", ".", "x" * 201]
)
@pytest.mark.parametrize("params", [PromoteParams, RollbackParams])
def test_names_the_registry_would_not_keep(given: str, params: Any) -> None:
    with pytest.raises(ParameterError) as caught:
        parse_params(params, [f"--model_name={given}"])
    assert str(caught.value) == (
        f"model_name={given!r}: expected letters, digits and _, with spaces, dots and hyphens "
        "between them, 200 characters at most"
    )
    assert parse_params(params, ["--model_name=Größe 2.1-b_c"]).model_name == "Größe 2.1-b_c"


def test_versions_are_counted_from_one() -> None:
    with pytest.raises(ParameterError, match="to_version='-1': input should be greater than or"):
        parse_params(RollbackParams, ["--to_version=-1"])


@pytest.mark.slow
def test_runs_that_cannot_be_promoted(recorded: Recorded, name: str) -> None:
    other = recorded.train("weak").run_id
    with pytest.raises(TrackingError, match=f"run {other} is a FINISHED train run, expected a"):
        run_promote(name, other)
    with pytest.raises(TrackingError, match="there is no run 'nobody'"):
        run_promote(name, "nobody")

    with recorded.step("evaluate", train_run_id=other, model_uri="models:/m-0") as logger:
        pass
    lacking = "has no gate, feature_snapshot_id tag"
    again = f"{lacking}.*evaluate it again .* -e evaluate -P train_run_id={other}`$"
    with pytest.raises(TrackingError, match=again):
        run_promote(name, logger.run_id)
    judged = recorded.judge("weak")
    recorded.client.delete_tag(judged, "feature_snapshot_id")
    with pytest.raises(TrackingError, match=f"run {judged} has no feature_snapshot_id tag"):
        run_promote(name, judged)
    recorded.client.delete_run(logger.run_id)
    with pytest.raises(TrackingError, match=rf"{logger.run_id} was deleted: restore it with"):
        run_promote(name, logger.run_id)

    with pytest.raises(mlflow.MlflowException, match="not found"):
        recorded.client.get_registered_model(name)


@pytest.mark.thorough
def test_promotions_at_once_take_turns(
    recorded: Recorded, name: str, run_python: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    """Each is compared with the champion it finds, whatever the order; no champion is lost."""
    kinds = ("weak", "strong", "copy", "informed")
    judged = [recorded.judge(kind) for kind in kinds]
    command = ("-m", "steps.promote", f"--model_name={name}")

    def promote_one(run_id: str) -> subprocess.CompletedProcess[str]:
        return run_python(*command, f"--evaluate_run_id={run_id}", MLFLOW_TRACKING_URI=recorded.uri)

    with ThreadPoolExecutor(5) as pool:
        done = list(pool.map(promote_one, [*judged, judged[1]]))  # one of them twice
    assert [each.returncode for each in done] == [0] * 5, [each.stderr for each in done]

    model = recorded.client.get_registered_model(name)
    assert model.tags == {}  # nobody queues any longer
    found = recorded.client.search_model_versions(f"name = '{name}'")
    tags = {int(version.version): version.tags for version in found}
    assert sorted(tags) == [1, 2, 3, 4]
    # Back from the champion, each one beat the one before in a comparison with that very one.
    champion = recorded.aliases(name)["champion"]
    assert tags[champion]["train_run_id"] in {
        recorded.train(kind).run_id for kind in ("strong", "copy")
    }
    line = [champion]
    while (replaced := tags[line[-1]]["replaces"]) != "none":
        compared = json.loads(tags[line[-1]]["comparison"])
        assert compared["champion_version"] == int(replaced)
        assert compared["winner"] == "challenger"
        line.append(int(replaced))
    crowned = {number for number, each in tags.items() if "champion_since" in each}
    assert set(line) == crowned
    # Those that stayed challengers were compared with one that was champion at the time.
    for number in tags.keys() - crowned:
        compared = json.loads(tags[number]["comparison"])
        assert compared["champion_version"] in crowned
        assert compared["winner"] != "challenger"


@pytest.mark.slow
def test_what_the_steps_leave_can_be_promoted(database: Path) -> None:
    from steps.evaluate import EvaluateParams, evaluate
    from steps.featurize import FeaturizeParams, featurize
    from steps.market.prices import load_prices
    from steps.train import TrainParams, train

    table = load_prices("sample").table
    some = table[table["symbol"].isin(["IBM", "MSFT", "GOOG"])]
    some.groupby("symbol").tail(400).to_parquet("prices.parquet", index=False)
    params: Any = FeaturizeParams(prices="prices.parquet")
    with open_step("featurize", params) as logger:
        featurize(params, logger)
    for depth in (2, 3):
        params = TrainParams(n_estimators=8, early_stopping_rounds=3, max_depth=depth)
        with open_step("train", params) as logger:
            train(params, logger)
        with open_step("evaluate", EvaluateParams()) as logger:
            evaluate(EvaluateParams(), logger)
        promotion, run = run_promote("real", "latest", force=True)
    assert promotion.sentence.startswith("real version 2 is now champion")
    rows = promotion.comparison.describe()
    assert rows["possible"]
    split = read_run(logger.client, run.tags["train_run_id"]).read_json("split.json")
    assert rows["champion_has_learnt_until"].isoformat() < split["test"]["first_date"]
    assert (rows["rows_left_out"], rows["rows"]) == (0, split["test"]["rows"])
