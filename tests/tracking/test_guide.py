"""The MLflow setup guide: its steps as a user runs them, and what MLflow holds afterwards."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.entities import Run
from sklearn.metrics import accuracy_score

from steps.tracking.mlflow_logger import MLflowLogger
from steps.tracking.model_store import load_model
from steps.tracking.stores import absolute_uri

GUIDE = Path(__file__).parent / "guide"


@pytest.fixture
def run_step(
    database: Path, run_python: Callable[..., CompletedProcess[str]]
) -> Callable[[str, str], tuple[mlflow.MlflowClient, Run, str]]:
    """Run a step as a script, and return its only run and what it printed."""

    def run(step: str, experiment: str) -> tuple[mlflow.MlflowClient, Run, str]:
        result = run_python(str(GUIDE / f"{step}.py"), OMP_WAIT_POLICY="PASSIVE")
        assert result.returncode == 0, result.stderr
        mlflow.set_tracking_uri(absolute_uri("sqlite:///mlflow.db"))
        client = mlflow.MlflowClient()
        found = client.get_experiment_by_name(experiment)
        assert found
        (run,) = client.search_runs([found.experiment_id])
        return client, run, result.stdout

    return run


def read_json(run: Run, name: str) -> Any:
    return mlflow.artifacts.load_dict(f"{run.info.artifact_uri}/{name}")


def guide_md5(features: dict[str, Any]) -> str:
    return hashlib.md5(json.dumps(features, sort_keys=True).encode()).hexdigest()


def histories(client: mlflow.MlflowClient, run: Run, name: str) -> list[tuple[int, float]]:
    return [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, name)]


def artifacts(client: mlflow.MlflowClient, run: Run) -> list[str]:
    return sorted(artifact.path for artifact in client.list_artifacts(run.info.run_id))


@pytest.mark.slow
def test_step_3_basic_usage(
    run_step: Callable[[str, str], tuple[mlflow.MlflowClient, Run, str]],
) -> None:
    client, run, _ = run_step("step_3", "stock_prediction_xgboost")
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "xgboost_v1_2026-02-18"
    assert run.data.params == {
        "feature_snapshot_id": "abc123def456...",
        "learning_rate": "0.1",
        "max_depth": "6",
        "n_estimators": "100",
        "subsample": "0.8",
    }
    assert run.data.metrics == {
        "accuracy": 0.92,
        "precision": 0.89,
        "recall": 0.85,
        "f1": 0.87,
        "auc_roc": 0.95,
        "dataset/train_size": 1000,
        "dataset/val_size": 200,
        "dataset/test_size": 200,
        "dataset/feature_count": 23,
        "dataset/target_mean": 0.52,
    }
    features = read_json(run, "feature_snapshot.json")
    assert features["engineer_date"] == "2026-02-18"
    tags = run.data.tags
    assert tags["feature_snapshot_id"] == guide_md5(features)
    assert tags["model_name"] == tags["model_type"] == "xgboost"
    assert artifacts(client, run) == ["accuracy.png", "dataset_stats.json", "feature_snapshot.json"]
    model, metadata = load_model(tags["model_uri"])
    assert metadata["model_type"] == "xgboost"
    assert client.get_logged_model(tags["model_uri"].removeprefix("models:/")).name == "xgboost"
    assert set(model.predict(np.eye(3) * 5)) <= {0, 1}


@pytest.mark.slow
def test_step_5_each_component(
    run_step: Callable[[str, str], tuple[mlflow.MlflowClient, Run, str]],
) -> None:
    client, run, printed = run_step("step_5", "stock_prediction")
    assert run.info.status == "FINISHED"  # though the guide does not end it
    features = read_json(run, "feature_snapshot.json")
    assert features == {
        "feature_count": 23,
        "feature_names": ["price", "volume", "rsi", "macd"],
        "version": "1.0",
    }
    assert run.data.tags["feature_snapshot_id"] == printed.strip() == guide_md5(features)
    assert run.data.params["colsample_bytree"] == "0.8"
    assert len(run.data.params) == 5
    assert run.data.metrics["auc_roc"] == 0.95
    expected = [(epoch, 1 / (1 + epoch)) for epoch in range(100)]
    assert histories(client, run, "train_loss") == expected
    assert histories(client, run, "val_accuracy") == [(epoch, 0.5) for epoch in range(100)]
    assert read_json(run, "results.json") == {
        "best_threshold": 0.5,
        "backtest_sharpe": 1.23,
        "max_drawdown": -0.15,
    }
    assert artifacts(client, run) == [
        "accuracy.png",
        "confusion_matrix.png",
        "feature_importance.png",
        "feature_snapshot.json",
        "model_config.yaml",
        "results.json",
    ]
    searched = client.search_runs([run.info.experiment_id], "params.learning_rate = '0.1'")
    assert [found.info.run_id for found in searched] == [run.info.run_id]
    model, _ = load_model(run.data.tags["model_uri"])
    assert set(model.predict(np.eye(3) * 5)) <= {0, 1}


@pytest.mark.slow
def test_step_6_real_training_example(
    run_step: Callable[[str, str], tuple[mlflow.MlflowClient, Run, str]],
) -> None:
    client, run, printed = run_step("step_6", "stock_prediction_xgboost")
    assert f"Run ID: {run.info.run_id}\n" in printed
    assert run.info.status == "FINISHED"
    features = read_json(run, "feature_snapshot.json")
    assert features["feature_count"] == len(features["feature_names"]) == 23
    assert set(features["feature_types"].values()) == {"float32"}
    snapshot_id = guide_md5(features)
    assert run.data.tags["feature_snapshot_id"] == snapshot_id
    assert run.data.params == {
        "feature_snapshot_id": snapshot_id,
        "learning_rate": "0.1",
        "max_depth": "6",
        "n_estimators": "100",
        "subsample": "0.8",
        "colsample_bytree": "0.8",
        "random_state": "42",
    }
    metrics = run.data.metrics
    assert metrics["dataset/feature_count"] == 23
    assert metrics["dataset/train_size"] > 4 * metrics["dataset/test_size"] - 5 > 8_000
    assert metrics["dataset/target_mean"] == metrics["dataset/class_balance_bullish"]
    for name in ("accuracy", "precision", "recall", "f1"):
        curve = histories(client, run, name)
        assert [step for step, _ in curve] == [*range(10), 10]  # the last one is the final value
        assert curve[-1] == (10, metrics[name])
    expected = ["confusion_matrix.png", "dataset_stats.json", "feature_snapshot.json"]
    assert artifacts(client, run) == expected

    test_set = pd.read_parquet("test_set.parquet")
    X_test = test_set[features["feature_names"]]
    model, _ = load_model(run.data.tags["model_uri"])
    np.testing.assert_array_equal(model.predict(X_test), test_set["y_pred"])
    assert accuracy_score(test_set["y_test"], model.predict(X_test)) == metrics["accuracy"]
    served = mlflow.pyfunc.load_model(run.data.tags["model_uri"])
    np.testing.assert_array_equal(served.predict(X_test), test_set["y_pred"])


# -- steps 4 and 7 -----------------------------------------------------------------------------


def test_step_4_option_a_in_a_folder_and_step_7_reads_it(in_empty_folder: Path) -> None:
    logger = MLflowLogger(experiment_name="stock_prediction", tracking_uri="file:./mlruns")
    logger.log_params(learning_rate=0.1)
    logger.log_metrics(accuracy=0.92)
    logger.log_dict_artifact({"best_threshold": 0.5}, "results.json")
    logger.end_run()
    run = Path("mlruns") / logger.experiment_id / logger.run_id
    assert (run / "params" / "learning_rate").read_text() == "0.1"
    timestamp, value, step = (run / "metrics" / "accuracy").read_text().split()
    assert (timestamp.isdigit(), value, step) == (True, "0.92", "0")
    assert json.loads((run / "artifacts" / "results.json").read_text()) == {"best_threshold": 0.5}
    assert not Path("mlflow.db").exists()


def test_step_4_option_a_by_default(database: Path) -> None:
    logger = MLflowLogger(experiment_name="stock_prediction", tracking_uri=None)
    assert logger.tracking_uri == "sqlite:///mlflow.db"
    logger.log_params(learning_rate=0.1)
    logger.log_dict_artifact({}, "results.json")
    logger.end_run()
    stored = mlflow.MlflowClient(f"sqlite:///{database}").get_run(logger.run_id)
    assert stored.data.params == {"learning_rate": "0.1"}
    assert list(Path("mlruns").rglob("results.json"))


@pytest.mark.slow
def test_step_4_option_b_on_a_server_with_tags(server: str, in_empty_folder: Path) -> None:
    logger = MLflowLogger(
        experiment_name="stock_prediction",
        tracking_uri=server,
        tags={"environment": "production", "team": "ml-platform"},
    )
    logger.log_params(learning_rate=0.1)
    logger.log_metrics(accuracy=0.92)
    logger.log_dict_artifact({"best_threshold": 0.5}, "results.json")
    logger.end_run(status="FINISHED")
    run = mlflow.MlflowClient(server).get_run(logger.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params == {"learning_rate": "0.1"}
    assert run.data.metrics == {"accuracy": 0.92}
    assert run.data.tags["environment"] == "production"
    assert run.data.tags["team"] == "ml-platform"
    path = mlflow.MlflowClient(server).download_artifacts(logger.run_id, "results.json", ".")
    assert json.loads(Path(path).read_text()) == {"best_threshold": 0.5}
    assert not list(in_empty_folder.glob("mlruns*"))
