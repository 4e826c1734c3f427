"""promote and rollback: who becomes champion, what is written down, and the way back."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import mlflow
import numpy as np
import pandas as pd
import pytest
import xgboost
from sklearn.metrics import log_loss

from steps.entry_point import ParameterError, open_step, parse_params
from steps.market.snapshot import make_snapshot
from steps.promote import PromoteParams, Promotion, PromotionRefusedError, promote
from steps.rollback import RollbackError, RollbackParams, rollback
from steps.tracking.mlflow_logger import MLflowLogger
from steps.tracking.project import STEP_TAG, StepRun, read_run
from steps.tracking.snapshot_store import save_snapshot
from steps.tracking.stores import TrackingError

DAYS = pd.bdate_range("2023-01-02", periods=240).as_unit("s")
N_TRAIN = 120  # dates
TEST_START = DAYS[N_TRAIN + 5]
MIDDLE = N_TRAIN + 60


def make_table() -> pd.DataFrame:
    """Three symbols whose next day is foretold by `signal`, roughly, and not by `noise`."""
    random = np.random.default_rng(0)
    parts = []
    for symbol in ("AAA", "BBB", "CCC"):
        signal, noise = random.normal(size=(2, len(DAYS))).astype(np.float32)
        direction = pd.array(signal + random.normal(size=len(DAYS)) > 0, dtype="Int8")
        direction[-1] = pd.NA
        part = {"date": DAYS, "symbol": symbol, "signal": signal, "noise": noise}
        part |= {"direction": direction, "label_known_at": DAYS.to_series().shift(-1).to_numpy()}
        parts.append(pd.DataFrame(part).astype({"symbol": "str"}))
    return pd.concat(parts, ignore_index=True)


TEST_ROWS = make_table()["direction"].notna() & (make_table()["date"] >= TEST_START)


class Recorded:
    """A store with a snapshot, and models trained on it, as the steps leave them.

    `strong` has learnt the signal and `weak` the noise; `copy` is `strong` once more. `informed` is
    a weak one that has seen the first half of the test window, and `omniscient` has seen it all;
    `foreign` asks for a feature that the snapshot does not have, and `patient` was trained to look
    five days ahead.
    """

    KINDS: ClassVar[dict[str, dict[str, Any]]] = {
        "weak": {"feature": "noise"},
        "strong": {"feature": "signal"},
        "copy": {"feature": "signal"},
        "informed": {"feature": "noise", "last": MIDDLE, "known": MIDDLE + 3},
        "informed_of_old": {"feature": "noise", "last": MIDDLE, "known": None},
        "omniscient": {"feature": "noise", "last": len(DAYS) - 2, "known": len(DAYS) - 1},
        "foreign": {"feature": "other"},
        "patient": {"feature": "noise", "horizon": 5},
    }

    def __init__(self, home: Path) -> None:
        self.uri = f"sqlite:///{home}/mlflow.db"
        self.client = mlflow.MlflowClient(self.uri)
        self.client.create_experiment("stock_prediction", str(home / "artifacts"))
        self.snapshot = make_snapshot(
            make_table(),
            feature_set="planted",
            version="1",
            label={"name": "direction", "horizon": 1},
        )
        with self.step("featurize") as logger:
            save_snapshot(logger, self.snapshot, {}, "abc")
        self.trained: dict[str, StepRun] = {}

    def step(self, step: str, **tags: str) -> MLflowLogger:
        return MLflowLogger(
            "stock_prediction", step, tracking_uri=self.uri, tags={STEP_TAG: step, **tags}
        )

    @property
    def table(self) -> pd.DataFrame:
        """The snapshot's, and a feature it does not have."""
        table = self.snapshot.table
        return table.assign(other=table["noise"])

    def train(self, kind: str) -> StepRun:
        """Return the train run of a kind of model; the first time, record it."""
        if kind not in self.trained:
            booster = fit(self.table, self.KINDS[kind]["feature"])
            self.trained[kind] = self.record_training(booster, **self.KINDS[kind])
        return self.trained[kind]

    def record_training(
        self,
        booster: xgboost.Booster,
        *,
        feature: str,
        last: int = N_TRAIN - 2,
        known: int | None = N_TRAIN - 1,
        horizon: int = 1,
    ) -> StepRun:
        """Record a run whose validation ends on day `last`, its last label known on day `known`."""
        ends = {"train": (0, last - 40), "validation": (last - 19, last)}
        windows = {}
        for name, (first, end) in ends.items():
            windows[name] = {"first_date": iso(first), "last_date": iso(end)}
            if known is not None:
                windows[name]["last_label_known_at"] = iso(end + known - last)
        with self.step("train") as logger:
            logger.log_model(booster, metadata={"horizon": horizon})
            logger.log_dict_artifact(windows, "split.json")
        return read_run(self.client, logger.run_id)

    def judge(self, kind: str, gate: str = "APPROVED", **tags: str) -> str:
        """Record an evaluate run of a kind of model and return its run ID."""
        trained = self.train(kind)
        failed = "none" if gate == "APPROVED" else "auc_above_half; beats_base_rate"
        said = {"gate": gate, "gate_failed": failed, "leak_alarm": "none", "verdict": "so so"}
        made_of = {
            "model_uri": trained.tags["model_uri"],
            "train_run_id": trained.run_id,
            "feature_snapshot_id": self.snapshot.snapshot_id,
        }
        rows = self.table.loc[TEST_ROWS, ["date", "symbol", "direction"]]
        rows = rows.assign(probability=self.probabilities(kind))
        rows.to_parquet("predictions.parquet", index=False)
        with self.step("evaluate", **{**said, **made_of, **tags}) as logger:
            logger.log_artifact_file("predictions.parquet")
        return logger.run_id

    def probabilities(self, kind: str) -> Any:
        booster = mlflow.xgboost.load_model(self.train(kind).tags["model_uri"])
        return booster.predict(xgboost.DMatrix(self.table.loc[TEST_ROWS, booster.feature_names]))

    def tags(self, name: str, number: int) -> dict[str, str]:
        return dict(self.client.get_model_version(name, str(number)).tags)

    def aliases(self, name: str) -> dict[str, int]:
        found = self.client.get_registered_model(name).aliases
        return {alias: int(number) for alias, number in found.items()}


def iso(day: int) -> str:
    return str(DAYS[day].date())


def fit(table: pd.DataFrame, feature: str) -> xgboost.Booster:
    rows = table["direction"].notna() & (table["date"] < DAYS[N_TRAIN])
    settings = {"objective": "binary:logistic", "nthread": 1, "max_depth": 2, "eta": 0.1}
    labels = table["direction"][rows].to_numpy(np.int8)
    return xgboost.train(settings, xgboost.DMatrix(table.loc[rows, [feature]], labels), 20)


@pytest.fixture(scope="module")
def store(migrated_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    home = tmp_path_factory.mktemp("registry")
    shutil.copy(migrated_database, home / "mlflow.db")
    return Recorded(home)


@pytest.fixture
def recorded(store: Recorded, monkeypatch: pytest.MonkeyPatch) -> Recorded:
    """The store, decided on. Each test has a registered model of its own in it."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.uri)
    mlflow.set_tracking_uri(store.uri)
    return store


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    return re.sub(r"\W+", "-", request.node.name).strip("-")


def run_promote(name: str, evaluate_run_id: str, **given: Any) -> tuple[Promotion, StepRun]:
    params = PromoteParams(model_name=name, evaluate_run_id=evaluate_run_id, **given)
    with open_step("promote", params) as logger:
        promotion = promote(params, logger)
    return promotion, read_run(logger.client, logger.run_id)


def run_rollback(name: str, to_version: int = 0) -> StepRun:
    params = RollbackParams(model_name=name, to_version=to_version)
    with open_step("rollback", params) as logger:
        rollback(params, logger)
    return read_run(logger.client, logger.run_id)


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
@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("omniscient", rf"has learnt from prices until {DAYS[-1].date()}, and the evaluation has"),
        ("foreign", r"cannot score snapshot \w+: The model was trained on features .*'other'"),
        ("patient", r"version 1 looks 5 days ahead, the evaluation 1"),
    ],
    ids=["omniscient", "foreign", "patient"],
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


def crown_by_hand(recorded: Recorded, name: str, model_uri: str) -> None:
    mlflow.register_model(model_uri, name)
    recorded.client.set_registered_model_alias(name, "champion", "1")


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


def remove_model(recorded: Recorded, uri: str) -> None:
    model = recorded.client.get_logged_model(uri.removeprefix("models:/"))
    shutil.rmtree(model.artifact_location.removeprefix("file://"))


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


def test_rolling_back_a_model_that_is_not_there(recorded: Recorded, name: str) -> None:
    with pytest.raises(TrackingError, match=rf"there is no registered model '{name}' in this"):
        run_rollback(name)


@pytest.mark.parametrize(
    "given", ["", " ", "a/b", "models:/a", "a:b", "../a", "a' OR '1'='1", "a\n", ".", "x" * 201]
)
@pytest.mark.parametrize("params", [PromoteParams, RollbackParams])
def test_names_the_registry_would_not_keep(given: str, params: Any) -> None:
    with pytest.raises(ParameterError, match=r"^model_name=.*: string should ") as caught:
        parse_params(params, [f"--model_name={given}"])
    assert "\n" not in str(caught.value)
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
    again = f"has no gate tag.*evaluate it again .* -e evaluate -P train_run_id={other}`$"
    with pytest.raises(TrackingError, match=again):
        run_promote(name, logger.run_id)
    recorded.client.delete_run(logger.run_id)
    with pytest.raises(TrackingError, match=rf"{logger.run_id} was deleted: restore it with"):
        run_promote(name, logger.run_id)

    with pytest.raises(mlflow.MlflowException, match="not found"):
        recorded.client.get_registered_model(name)


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


@pytest.mark.slow
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
