"""The whole job without MLflow: prices, features, a model, its scores, four pictures."""

import json
import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import xgboost
from plain_features import features_of_all
from sklearn.calibration import calibration_curve
from sklearn.metrics import accuracy_score, brier_score_loss, log_loss, roc_auc_score, roc_curve

mpl.use("agg")
import matplotlib.pyplot as plt

PARAMS = {
    "n_estimators": 300,
    "learning_rate": 0.05,
    "max_depth": 4,
    "subsample": 0.8,
    "colsample_bytree": 0.8,
    "early_stopping_rounds": 30,
    "eval_metric": ["auc", "logloss"],
    "random_state": 42,
    "n_jobs": 0,
}


def split(table: pd.DataFrame) -> list[pd.DataFrame]:
    """Return the windows for training, validation and test, five dates free between them."""
    dates = np.sort(table["date"].unique())
    first, second = (dates[int(len(dates) * share)] for share in (0.65, 0.8))
    gap = np.timedelta64(7, "D")
    return [
        table[table["date"] < first - gap],
        table[(table["date"] >= first) & (table["date"] < second - gap)],
        table[table["date"] >= second],
    ]


def names_of(table: pd.DataFrame) -> list[str]:
    """Return the features' names."""
    return [name for name in table if name not in ("date", "symbol", "direction")]


def score(y: pd.Series, proba: np.ndarray) -> dict[str, float]:
    """Score forecast probabilities of a rise."""
    return {
        "auc_roc": roc_auc_score(y, proba),
        "log_loss": log_loss(y, proba),
        "brier": brier_score_loss(y, proba),
        "accuracy": accuracy_score(y, proba > 0.5),
    }


def draw(model: xgboost.XGBClassifier, test: pd.DataFrame, proba: np.ndarray, out: Path) -> None:
    """Draw what everybody draws."""
    y = test["direction"]
    figure, axes = plt.subplots()
    axes.plot(*roc_curve(y, proba)[:2])
    axes.plot([0, 1], [0, 1], linestyle="--")
    axes.set(title="ROC", xlabel="false positives", ylabel="true positives")
    figure.savefig(out / "roc_curve.png")

    figure, axes = plt.subplots()
    happened, said = calibration_curve(y, proba, n_bins=10, strategy="quantile")
    axes.plot(said, happened, marker="o")
    axes.set(title="Calibration", xlabel="said", ylabel="happened")
    figure.savefig(out / "calibration.png")

    figure, axes = plt.subplots()
    importance = pd.Series(model.feature_importances_, index=model.feature_names_in_)
    importance.sort_values().plot.barh(ax=axes, title="Importance")
    figure.savefig(out / "importance.png")

    figure, axes = plt.subplots()
    daily = (test["return_1d"] * (proba > 0.5)).groupby(test["date"]).mean()
    (1 + daily).cumprod().plot(ax=axes, title="Equity")
    figure.savefig(out / "equity.png")


def main(prices: str, out: Path) -> None:
    """Do the job; write the features, the model, the scores and the pictures into a folder."""
    table = features_of_all(pd.read_parquet(prices).sort_values(["symbol", "date"]))
    table.to_parquet(out / "features.parquet")
    train, validation, test = split(table)
    names = names_of(table)
    model = xgboost.XGBClassifier(**PARAMS)
    watched = [(part[names], part["direction"]) for part in (train, validation)]
    model.fit(train[names], train["direction"], eval_set=watched, verbose=False)
    proba = model.predict_proba(test[names])[:, 1]
    model.save_model(out / "model.ubj")
    (out / "scores.json").write_text(json.dumps(score(test["direction"], proba)))
    draw(model, test, proba, out)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
