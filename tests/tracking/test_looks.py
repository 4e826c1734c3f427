"""Looks at a test window: what counts as one, and what does not."""

import numpy as np
import pandas as pd
import pytest

from steps.tracking.looks import Looks, record_look
from steps.tracking.mlflow_logger import MLflowLogger

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def recorded_here(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)


@pytest.fixture
def experiment(request: pytest.FixtureRequest) -> str:
    return str(request.node.name)


def forecasts(seed: int, first: str = "2024-01-01", days: int = 20) -> pd.DataFrame:
    dates = pd.bdate_range(first, periods=days).as_unit("s")
    proba = np.random.default_rng(seed).random(days)
    return pd.DataFrame({"date": dates, "symbol": "IBM", "probability": proba})


def look(
    experiment: str, predictions: pd.DataFrame, sharpe: float = 0.1, status: str = "FINISHED"
) -> tuple[Looks, MLflowLogger]:
    logger = MLflowLogger(experiment_name=experiment)
    found = record_look(logger, predictions, sharpe)
    logger.end_run(status)  # type: ignore[arg-type]
    return found, logger


def test_every_new_set_of_forecasts_counts(experiment: str) -> None:
    assert look(experiment, forecasts(0), 0.1)[0] == Looks(1, (0.1,))
    found, _ = look(experiment, forecasts(1), 0.2)
    assert found.count == 2
    assert sorted(found.sharpes) == [0.1, 0.2]
    assert found.sharpes[-1] == 0.2
    assert look(experiment, forecasts(2), 0.3)[0].count == 3


def test_the_same_forecasts_again_are_no_new_look(experiment: str) -> None:
    look(experiment, forecasts(0), 0.1)
    assert look(experiment, forecasts(0), 0.1)[0] == Looks(1, (0.1,))
    look(experiment, forecasts(1), 0.2)
    again, _ = look(experiment, forecasts(0), 0.1)
    assert again.count == 2
    assert again.sharpes == (0.2, 0.1)


def test_another_way_to_trade_them_is_a_try_but_no_look(experiment: str) -> None:
    look(experiment, forecasts(0), 0.1)
    found, _ = look(experiment, forecasts(0), -0.3)
    assert found == Looks(1, (0.1, -0.3))
    again, _ = look(experiment, forecasts(0), 0.1)
    assert again == Looks(1, (-0.3, 0.1))


def test_dates_that_overlap_count_and_others_do_not(experiment: str) -> None:
    look(experiment, forecasts(0, "2024-01-01", days=20))  # to 2024-01-26
    assert look(experiment, forecasts(1, "2024-01-26"))[0].count == 2
    assert look(experiment, forecasts(2, "2024-03-01"))[0].count == 1
    assert look(experiment, forecasts(3, "2023-12-01", days=200))[0].count == 4


def test_another_experiment_does_not_count(experiment: str) -> None:
    look(experiment, forecasts(0))
    assert look(f"{experiment} 2", forecasts(1))[0].count == 1


def test_neither_failing_nor_deleting_a_run_undoes_a_look(experiment: str) -> None:
    look(experiment, forecasts(0), status="FAILED")
    _, logger = look(experiment, forecasts(1))
    logger.client.delete_run(logger.run_id)
    assert look(experiment, forecasts(2))[0].count == 3


def test_a_look_without_a_backtest_counts_but_has_no_sharpe(experiment: str) -> None:
    look(experiment, forecasts(0), float("nan"))
    found, logger = look(experiment, forecasts(1), 0.2)
    assert found.count == 2
    assert found.sharpes == pytest.approx((float("nan"), 0.2), nan_ok=True)
    run = logger.client.get_run(logger.run_id)
    assert run.data.tags["test_window"] == "2024-01-01 to 2024-01-26"
    assert run.data.metrics["sharpe_per_day"] == 0.2


def test_more_looks_than_fit_one_page(experiment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("steps.tracking.looks._RUNS_PER_REQUEST", 2)
    for seed in range(5):
        look(experiment, forecasts(seed), seed / 10)
    found, _ = look(experiment, forecasts(5), 0.5)
    assert found.count == 6
    assert sorted(found.sharpes) == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]
