"""Every model type: fitted, asked, explained; the same again on the same data."""

import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xgboost
from sklearn.metrics import log_loss, roc_auc_score
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from steps.learning.boosting import Batched
from steps.learning.models import (
    MODEL_TYPES,
    USED_BY,
    FittedModel,
    build_classifier,
    feature_importance,
    fit_booster,
    fit_classifier,
)
from steps.learning.proba import predict_proba_up

NAMES = ["signal", "echo", "noise_a", "noise_b"]
SETTINGS = {
    "learning_rate": 0.3,
    "max_depth": 3,
    "n_estimators": 40,
    "subsample": 0.8,
    "colsample_bytree": 0.75,
    "min_child_weight": 1.0,
    "gamma": 0.0,
    "reg_alpha": 0.0,
    "reg_lambda": 1.0,
    "early_stopping_rounds": 5,
    "random_state": 0,
    "n_jobs": 1,
    "device": "cpu",
}


def market(seed: int, n_rows: int = 1000) -> tuple[pd.DataFrame, np.ndarray]:
    """A direction that `signal` knows something of."""
    random = np.random.default_rng(seed)
    X = pd.DataFrame(random.normal(size=(n_rows, 4)).astype(np.float32), columns=NAMES)
    y = (X["signal"] + 0.2 * X["echo"] + random.normal(size=n_rows) > 0).astype(np.int8)
    return X, y.to_numpy()


X_TRAIN, Y_TRAIN = market(0)
X_VALIDATION, Y_VALIDATION = market(1, 600)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Histogram boosting takes every core, and then waits for those that others use."""
    with threadpool_limits(limits=1, user_api="openmp"):
        yield


def fit(model_type: str, **changes: object) -> FittedModel:
    return fit_classifier(
        model_type, SETTINGS | changes, X_TRAIN, Y_TRAIN, X_VALIDATION, Y_VALIDATION
    )


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_every_model_type_learns_and_answers_with_the_probability_of_a_rise(
    model_type: str,
) -> None:
    proba = predict_proba_up(fit(model_type).model, X_VALIDATION)
    assert proba.shape == (600,)
    assert proba.dtype == np.float64
    assert roc_auc_score(Y_VALIDATION, proba) > 0.75
    assert log_loss(Y_VALIDATION, proba) < 0.6


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_columns_go_by_name(model_type: str) -> None:
    model = fit(model_type).model
    jumbled = X_VALIDATION[NAMES[::-1]].assign(symbol="A")
    np.testing.assert_array_equal(
        predict_proba_up(model, jumbled), predict_proba_up(model, X_VALIDATION)
    )
    with pytest.raises(ValueError, match=r"missing here: \['echo'\]"):
        predict_proba_up(model, X_VALIDATION.drop(columns="echo"))


@pytest.mark.slow
@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_the_same_data_and_settings_give_the_same_bits(model_type: str) -> None:
    first, again = (predict_proba_up(fit(model_type).model, X_VALIDATION) for _ in range(2))
    np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize("out_of_core", [False, True])
def test_however_its_rows_are_batched_a_booster_has_the_same_bits(
    tmp_path: Path, out_of_core: bool
) -> None:
    (X, y), (X_validation, y_validation) = market(0), market(1, 600)
    expected = fit_classifier("xgboost", SETTINGS, X, y, X_validation, y_validation)
    on_disk: list[bool] = []
    for cuts in ([], [1], [333, 334, 900]):
        found = fit_booster(
            SETTINGS,
            batched(X, y, cuts),
            batched(X_validation, y_validation, [100]),
            on_round=lambda step, scores: on_disk.append(any(tmp_path.iterdir())),
            cache=tmp_path if out_of_core else None,
        )
        assert found.model.save_raw() == expected.model.save_raw()
        assert (found.best_iteration, found.history) == (expected.best_iteration, expected.history)
    assert on_disk == [out_of_core] * 3 * len(expected.history["train_log_loss"])


def batched(X: pd.DataFrame, y: np.ndarray, cuts: list[int]) -> Batched:
    places = [0, *cuts, len(X)]
    return Batched(
        lambda: (X.iloc[start:stop] for start, stop in pairwise(places)), y.astype(np.int8)
    )


def test_batches_that_cannot_be_learnt_from_are_refused() -> None:
    X, y = market(0)
    good = batched(X, y, [])
    for labels, said in (
        (y[:0], "The train window has no rows"),
        (np.ones(len(y)), "All 1000 train labels are 1"),
        (np.full(len(y), 2), "The train labels must be 0 and 1"),
    ):
        with pytest.raises(ValueError, match=said):
            fit_booster(SETTINGS, batched(X, labels, []), good)


def test_xgboost_has_the_same_bits_on_one_thread_and_two() -> None:
    one, two = (fit("xgboost", n_jobs=threads) for threads in (1, 2))
    assert one.model.save_raw() == two.model.save_raw()
    assert one.history == two.history


@pytest.mark.parametrize("model_type", ["xgboost", "hist_gradient_boosting"])
def test_learning_in_rounds_stops_at_the_lowest_validation_log_loss(model_type: str) -> None:
    heard: list[tuple[int, dict[str, float]]] = []
    fitted = fit_classifier(
        model_type,
        SETTINGS,
        X_TRAIN,
        Y_TRAIN,
        X_VALIDATION,
        Y_VALIDATION,
        on_round=lambda number, scores: heard.append((number, dict(scores))),
    )
    losses = fitted.history["validation_log_loss"]
    best = fitted.best_iteration
    assert best is not None
    assert best == np.argmin(losses)
    assert 0 < best < len(losses) - 1 < 39
    # What was told is what is kept, round by round.
    assert [number for number, _ in heard] == list(range(len(losses)))
    for name, column in fitted.history.items():
        assert [scores[name] for _, scores in heard] == list(column)
    # The model is the one of the best round, by scikit-learn's account.
    for window, X, y in (
        ("train", X_TRAIN, Y_TRAIN),
        ("validation", X_VALIDATION, Y_VALIDATION),
    ):
        proba = predict_proba_up(fitted.model, X)
        assert log_loss(y, proba) == pytest.approx(
            fitted.history[f"{window}_log_loss"][best], abs=1e-6
        )
        assert roc_auc_score(y, proba) == pytest.approx(
            fitted.history[f"{window}_auc_roc"][best], abs=1e-6
        )


@pytest.mark.parametrize("model_type", ["xgboost", "hist_gradient_boosting"])
def test_without_early_stopping_every_round_is_kept(model_type: str) -> None:
    fitted = fit(model_type, early_stopping_rounds=0, n_estimators=12)
    assert fitted.best_iteration is None
    losses = fitted.history["validation_log_loss"]
    assert len(losses) == 12
    proba = predict_proba_up(fitted.model, X_VALIDATION)
    assert log_loss(Y_VALIDATION, proba) == pytest.approx(losses[-1], abs=1e-6)


@pytest.mark.parametrize("model_type", ["logistic_regression", "random_forest"])
def test_models_without_rounds_have_no_history(model_type: str) -> None:
    fitted = fit(model_type)
    assert fitted.history == {}
    assert fitted.best_iteration is None


def test_a_stored_booster_answers_with_the_same_probabilities_by_itself(tmp_path: Path) -> None:
    fitted = fit("xgboost")
    fitted.model.save_model(tmp_path / "model.ubj")
    loaded = xgboost.Booster(model_file=tmp_path / "model.ubj")
    assert loaded.num_boosted_rounds() - 1 == fitted.best_iteration
    assert loaded.feature_names == NAMES
    plain = loaded.predict(xgboost.DMatrix(X_VALIDATION))
    np.testing.assert_array_equal(plain, predict_proba_up(fitted.model, X_VALIDATION))
    np.testing.assert_array_equal(plain, predict_proba_up(loaded, X_VALIDATION))


@pytest.mark.slow
@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_importance_finds_the_signal(model_type: str) -> None:
    model = fit(model_type).model
    found = feature_importance(model, NAMES, X_VALIDATION, Y_VALIDATION, random_state=0)
    assert found.columns.tolist() == ["feature", "importance"]
    assert found["feature"][0] == "signal"
    assert sorted(found["feature"]) == sorted(NAMES)
    assert found["importance"].is_monotonic_decreasing
    assert (found["importance"] >= 0).all()
    assert found["importance"].sum() == pytest.approx(1)


def test_a_model_that_uses_nothing_finds_nothing_important() -> None:
    model = fit("xgboost", gamma=1e9).model
    found = feature_importance(model, NAMES, X_VALIDATION, Y_VALIDATION, random_state=0)
    assert found["importance"].tolist() == [0, 0, 0, 0]


@pytest.mark.slow
def test_each_hyperparameter_reaches_the_model_types_that_say_they_use_it() -> None:
    changed = {
        "learning_rate": 0.05,
        "max_depth": 1,
        "n_estimators": 2,
        "subsample": 0.3,
        "colsample_bytree": 0.25,
        "min_child_weight": 100.0,
        "gamma": 50.0,
        "reg_alpha": 50.0,
        "reg_lambda": 1000.0,
        "early_stopping_rounds": 1,
        "random_state": 9,
    }
    X, y = X_TRAIN[:400], Y_TRAIN[:400]
    overfitting = SETTINGS | {"early_stopping_rounds": 0, "learning_rate": 1.0, "n_estimators": 12}

    def proba_of(model_type: str, **changes: object) -> np.ndarray:
        fitted = fit_classifier(model_type, overfitting | changes, X, y, X_VALIDATION, Y_VALIDATION)
        return predict_proba_up(fitted.model, X_VALIDATION)

    for model_type in MODEL_TYPES:
        base = proba_of(model_type)
        for name, value in changed.items():
            proba = proba_of(model_type, **{name: value})
            # Histogram boosting needs its seed beyond 200,000 rows only, to choose those
            # that the bins are made from.
            if (model_type, name) == ("hist_gradient_boosting", "random_state"):
                continue
            used = name in USED_BY[model_type]
            assert (proba != base).any() == used, f"{model_type} {name}"


def test_zero_lifts_a_limit() -> None:
    forest = build_classifier("random_forest", max_depth=0, n_jobs=0)
    assert forest.max_depth is None
    assert forest.n_jobs == -1
    assert build_classifier("hist_gradient_boosting", max_depth=0).max_depth is None
    assert np.inf == build_classifier("logistic_regression", reg_lambda=0.0)[-1].C
    assert build_classifier("logistic_regression", reg_lambda=4.0)[-1].C == 0.25
    assert build_classifier("xgboost", early_stopping_rounds=0).early_stopping_rounds is None


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ValueError, match=r"Unknown model_type 'svm'; .*'xgboost'"):
        build_classifier("svm")
    with pytest.raises(ValueError, match=r"Unknown hyperparameters \['eta'\]"):
        build_classifier("xgboost", eta=0.1)


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_data_that_cannot_be_learnt_from_is_refused(model_type: str) -> None:
    def refused(X: pd.DataFrame, y: np.ndarray, X_v: pd.DataFrame, y_v: np.ndarray) -> str:
        with pytest.raises(ValueError) as error:
            fit_classifier(model_type, SETTINGS, X, y, X_v, y_v)
        return str(error.value)

    holed = X_TRAIN.copy()
    holed.loc[[7, 9], "echo"] = [np.nan, np.inf]
    message = refused(holed, Y_TRAIN, X_VALIDATION, Y_VALIDATION)
    assert "2 missing or infinite values, the first in row 7, column 'echo'" in message
    message = refused(X_TRAIN, np.ones_like(Y_TRAIN), X_VALIDATION, Y_VALIDATION)
    assert "All 1000 train labels are 1" in message
    message = refused(X_TRAIN, Y_TRAIN, X_VALIDATION, np.zeros_like(Y_VALIDATION))
    assert "All 600 validation labels are 0" in message
    message = refused(X_TRAIN, Y_TRAIN, X_VALIDATION, Y_VALIDATION[1:])
    assert "validation window has 600 rows and 599 labels" in message
    message = refused(X_TRAIN, Y_TRAIN + 1, X_VALIDATION, Y_VALIDATION)
    assert "train labels must be 0 and 1" in message
    message = refused(X_TRAIN, Y_TRAIN, X_VALIDATION[NAMES[::-1]], Y_VALIDATION)
    assert "same columns in the same order" in message


@pytest.mark.slow
def test_a_look_at_the_model_types_imports_no_library() -> None:
    check = (
        "import sys, steps.learning.models, steps.learning.intervals; "
        "print(sorted({'xgboost', 'sklearn', 'scipy', 'matplotlib'} & set(sys.modules)))"
    )
    root = Path(__file__).parents[2]
    shown = subprocess.run(
        [sys.executable, "-c", check], cwd=root, capture_output=True, text=True, check=True
    )
    assert shown.stdout.strip() == "[]"
