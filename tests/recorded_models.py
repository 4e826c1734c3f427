"""A store as the steps leave it, with models good and bad to promote."""

import contextlib
import shutil
from pathlib import Path
from typing import Any, ClassVar

import mlflow
import numpy as np
import pandas as pd
import xgboost

from steps.entry_point import open_step
from steps.market.snapshot import make_snapshot
from steps.promote import PromoteParams, Promotion, promote
from steps.rollback import RollbackParams, rollback
from steps.tracking.mlflow_logger import MLflowLogger
from steps.tracking.project import STEP_TAG, StepRun, read_run
from steps.tracking.snapshot_store import save_snapshot

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
    `foreign` asks for a feature that the snapshot does not have, `patient` was trained to look
    five days ahead, `reworked` on features of another version, and `raw` gives log-odds.
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
        "reworked": {"feature": "noise", "feature_set_version": "2"},
        "raw": {"feature": "noise", "objective": "binary:logitraw"},
    }

    def __init__(self, migrated_database: Path, home: Path) -> None:
        shutil.copy(migrated_database, home / "mlflow.db")
        self.uri = f"sqlite:///{home}/mlflow.db"
        with contextlib.chdir(home):  # where MLflow keeps the artifacts of other experiments
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

    def step(self, step: str, *, experiment: str = "stock_prediction", **tags: str) -> MLflowLogger:
        return MLflowLogger(experiment, step, tracking_uri=self.uri, tags={STEP_TAG: step, **tags})

    @property
    def table(self) -> pd.DataFrame:
        """The snapshot's, and a feature it does not have."""
        table = self.snapshot.table
        return table.assign(other=table["noise"])

    def train(self, kind: str) -> StepRun:
        """Return the train run of a kind of model; the first time, record it."""
        if kind not in self.trained:
            given = dict(self.KINDS[kind])
            objective = given.pop("objective", "binary:logistic")
            booster = fit(self.table, given["feature"], objective)
            self.trained[kind] = self.record_training(booster, **given)
        return self.trained[kind]

    def record_training(
        self,
        booster: xgboost.Booster,
        *,
        feature: str,
        last: int = N_TRAIN - 2,
        known: int | None = N_TRAIN - 1,
        horizon: int = 1,
        feature_set_version: str = "1",
    ) -> StepRun:
        """Record a run whose validation ends on day `last`, its last label known on day `known`."""
        ends = {"train": (0, last - 40), "validation": (last - 19, last)}
        windows = {}
        for name, (first, end) in ends.items():
            windows[name] = {"first_date": iso(first), "last_date": iso(end)}
            if known is not None:
                windows[name]["last_label_known_at"] = iso(end + known - last)
        with self.step("train") as logger:
            logger.log_model(
                booster,
                metadata={
                    "horizon": horizon,
                    "feature_set": "planted",
                    "feature_set_version": feature_set_version,
                },
            )
            logger.log_dict_artifact(windows, "split.json")
        return read_run(self.client, logger.run_id)

    def judge(
        self,
        kind: str,
        gate: str = "APPROVED",
        *,
        looks: int | None = None,
        experiment: str = "stock_prediction",
        **tags: str,
    ) -> str:
        """Record an evaluate run of a kind of model and return its run ID.

        Runs of old did not count their looks.
        """
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
        found = {**said, **made_of, **tags}
        with self.step("evaluate", experiment=experiment, **found) as logger:
            logger.log_artifact_file("predictions.parquet")
            if looks is not None:
                logger.log_metrics(looks=looks)
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


def fit(table: pd.DataFrame, feature: str, objective: str = "binary:logistic") -> xgboost.Booster:
    rows = table["direction"].notna() & (table["date"] < DAYS[N_TRAIN])
    settings = {"objective": objective, "nthread": 1, "max_depth": 2, "eta": 0.1}
    labels = table["direction"][rows].to_numpy(np.int8)
    return xgboost.train(settings, xgboost.DMatrix(table.loc[rows, [feature]], labels), 20)


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


def remove_model(recorded: Recorded, uri: str) -> None:
    model = recorded.client.get_logged_model(uri.removeprefix("models:/"))
    shutil.rmtree(model.artifact_location.removeprefix("file://"))
