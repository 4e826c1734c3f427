"""train beside bare XGBoost, and the logger beside MLflow's own ways to tell metrics."""

from collections.abc import Iterator
from statistics import median

from bench.measure import Row, Workplace, at_most, faster
from bench.prices import write_prices


def measure(place: Workplace, *, quick: bool) -> Iterator[Row]:
    """Yield how long they take."""
    symbols, rounds, repeats = (100, 50, 2) if quick else (640, 100, 5)
    prices = write_prices(place.folder / "prices.parquet", symbols)
    place.python("-m", "steps.featurize", f"--prices={prices}")
    told = place.told("boosting.py", str(rounds), str(repeats))
    what = f"training on {told['rows'] / 1e6:.2f} M rows x 23, {rounds} rounds, each recorded"
    against = "bare `xgboost.train`, same data in memory"
    ratio = median(told["ours"]) / median(told["bare"])
    yield at_most(what, against, ratio, 1.05, counts=not quick)
    yield Row(
        "its model",
        against,
        "same bytes" if told["same"] else "differs",
        "same bytes",
        bool(told["same"]),
    )

    steps, one_by_one = 10_000, 500 if quick else 10_000
    told = place.told("step_metrics.py", str(steps), str(one_by_one))
    counted = "" if one_by_one == steps else f" ({one_by_one} of them, per metric)"
    yield faster(
        f"telling {steps:,} step metrics",
        f"`mlflow.log_metric` in a loop{counted}",
        told["singly"] / told["together"],
        20,
    )
    told = place.told("autologged.py", "300", str(2 * repeats))
    yield at_most(
        "training 300 small rounds, each recorded",
        "`mlflow.xgboost.autolog`",
        median(told["ours"][1:]) / median(told["autologged"][1:]),
        1.0,
    )
