"""What a training that was cut short should have left."""

from mlflow.entities import Run

from faults.cells import Losses
from faults.content import content, history
from faults.place import Place, Work

CURVES = ("train_log_loss", "train_auc_roc", "validation_log_loss", "validation_auc_roc")
BEFORE = ("split.json", "dataset_stats.json", "environment.json")
"""Files that a training writes before its first round."""


def check_rounds(place: Place, run: Run, losses: Losses, told: list[int] | None = None) -> None:
    """Look for the metrics of each round that the logger has taken; they are known from elsewhere.

    Parameters
    ----------
    place : Place
    run : Run
    losses : Losses
    told : list of int, optional
        The rounds. A last one may have been taken, and the process killed before it could say so.
        Default: however many there are.
    """
    expected, found = {}, {}
    for name in CURVES:
        points = history(place.client, run.info.run_id, name)
        if place.backend.name == "file":
            # MLflow itself repeats the points at step 0 there, for each model that it stores.
            points = [point for n, point in enumerate(points) if n == 0 or point[0] > 0]
        rounds = range(len(points)) if told is None else told
        count = len(rounds) + (len(points) == len(rounds) + 1)
        assert count > 0
        known = dict(place.undisturbed[f"metric {name}"])
        found[f"metric {name}"] = points
        expected[f"metric {name}"] = [
            (step, known.get(step, dict(points).get(step))) for step in range(count)
        ]
    losses.check(expected, found)


def check_beginning(work: Work, run: Run, losses: Losses) -> None:
    """Look for all that a training records before its first round."""
    place = work.place
    names = ("params", "inputs", *(f"file {name}" for name in BEFORE))
    whole = content(place.client, run, place.table)
    found = {name: whole[name] for name in names}
    expected = {name: place.undisturbed[name] for name in names}
    for params in (found, expected):
        params["params"] = {k: v for k, v in params["params"].items() if k != "n_estimators"}
    losses.check(expected, found)
