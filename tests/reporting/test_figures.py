"""What the pictures show, read back from their artists; and that files are reproducible."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image
from sklearn.metrics import confusion_matrix, precision_recall_curve, roc_curve

from steps.reporting.figures import (
    calibration_figure,
    confusion_matrix_figure,
    feature_importance_figure,
    learning_curve_figure,
    precision_recall_figure,
    roc_curve_figure,
    save_figures,
)

RANDOM = np.random.default_rng(0)
PROBA = RANDOM.uniform(0.4, 0.6, 500)
Y = (RANDOM.random(500) < PROBA).astype(int)
HISTORY = {
    "train_log_loss": [0.69, 0.68, 0.67, 0.66],
    "validation_log_loss": [0.692, 0.6912, 0.693, 0.695],
    "train_auc_roc": [0.52, 0.54, 0.56, 0.58],
    "validation_auc_roc": [0.51, 0.512, 0.511, 0.51],
}
IMPORTANCE = pd.DataFrame(
    {"feature": [f"feature_{rank}" for rank in range(23)], "importance": np.arange(23, 0, -1) / 276}
)


@dataclass
class Interval:
    low: float
    high: float
    confidence: float = 0.95


def title_of(figure: Figure) -> str:
    assert figure.get_suptitle() in str(figure.get_label())
    return figure.get_suptitle()


def line(axes: Axes, name: str) -> np.ndarray:
    (found,) = [artist for artist in axes.lines if artist.get_label() == name]
    return np.asarray(found.get_xydata())


def bars_of(axes: Axes) -> list[Rectangle]:
    return [patch for patch in axes.patches if isinstance(patch, Rectangle)]


def test_the_confusion_matrix_counts_as_scikit_learn_does() -> None:
    calls = PROBA > 0.5
    figure = confusion_matrix_figure(Y, calls)
    texts = [text.get_text().split("\n") for text in figure.axes[0].texts]
    counts = confusion_matrix(Y, calls)
    assert [int(count) for count, _ in texts] == counts.ravel().tolist()
    shares = 100 * counts / counts.sum(axis=1, keepdims=True)
    assert [share for _, share in texts] == [f"{share:.1f} %" for share in shares.ravel()]
    assert title_of(figure) == f"{100 * np.trace(counts) / 500:.1f} % of 500 calls were right"


def test_the_roc_curve_is_scikit_learns() -> None:
    figure = roc_curve_figure(Y, PROBA, Interval(0.4951, 0.6049))
    mistaken, found, _ = roc_curve(Y, PROBA)
    np.testing.assert_array_equal(line(figure.axes[0], "model"), np.column_stack([mistaken, found]))
    area = np.trapezoid(found, mistaken)
    assert title_of(figure) == f"AUC {area:.3f}, 95 % interval 0.495 to 0.605"
    assert title_of(roc_curve_figure(Y, PROBA)) == f"AUC {area:.3f}"
    assert title_of(roc_curve_figure(Y, PROBA, Interval(np.nan, np.nan))) == f"AUC {area:.3f}"


def test_precision_and_recall_are_scikit_learns_beside_the_base_rate() -> None:
    figure = precision_recall_figure(Y, PROBA)
    precision, recall, _ = precision_recall_curve(Y, PROBA)
    np.testing.assert_array_equal(
        line(figure.axes[0], "model"), np.column_stack([recall, precision])
    )
    assert line(figure.axes[0], "base rate")[:, 1].tolist() == [Y.mean()] * 2
    assert title_of(figure).endswith(f"where {Y.mean():.3f} of the rows came up")


def test_calibration_groups_by_hand() -> None:
    # Ten groups of two rows: 0.00 and 0.05, 0.10 and 0.15, …; the first of each pair falls.
    proba = np.arange(20) / 20
    y = np.tile([0, 1], 10)
    figure = calibration_figure(y, proba)
    above, below = figure.axes
    (points,) = [box for box in above.containers if isinstance(box, ErrorbarContainer)]
    expected = np.column_stack([proba.reshape(10, 2).mean(axis=1), np.full(10, 0.5)])
    np.testing.assert_allclose(np.asarray(points.lines[0].get_xydata(), dtype=float), expected)
    assert sum(bar.get_height() for bar in bars_of(below)) == 20
    assert title_of(figure) == "Said 47.5 % up on average, 50.0 % came up"


def test_importance_shows_the_first_twenty_from_the_top() -> None:
    figure = feature_importance_figure(IMPORTANCE)
    (axes,) = figure.axes
    assert [bar.get_width() for bar in bars_of(axes)] == pytest.approx(
        (100 * IMPORTANCE["importance"][:20]).tolist()
    )
    assert [tick.get_text() for tick in axes.get_yticklabels()] == [
        f"feature_{rank}" for rank in range(20)
    ]
    assert axes.yaxis_inverted()
    assert title_of(figure) == "feature_0 matters most: 8.3 % of the total"
    assert "3 lesser features not shown" in axes.get_xlabel()
    unused = IMPORTANCE.assign(importance=0.0)
    assert title_of(feature_importance_figure(unused)) == "The model uses no feature"


def test_the_learning_curve_marks_the_last_round_kept() -> None:
    figure = learning_curve_figure(HISTORY, 1)
    assert title_of(figure) == "Kept 2 of 4 rounds: validation log-loss 0.6912"
    for axes, score in zip(figure.axes, ("log_loss", "auc_roc"), strict=True):
        for window in ("train", "validation"):
            np.testing.assert_array_equal(
                line(axes, window), np.column_stack([range(1, 5), HISTORY[f"{window}_{score}"]])
            )
        assert line(axes, "last round kept")[:, 0].tolist() == [2, 2]
    assert title_of(learning_curve_figure(HISTORY, None)).startswith("Kept 4 of 4 rounds")
    with pytest.raises(ValueError, match="did not learn in rounds"):
        learning_curve_figure({}, None)


@pytest.mark.slow
@pytest.mark.parametrize("only", [0, 1])
def test_one_class_is_drawn(only: int, tmp_path: Path) -> None:
    y, proba = np.full(30, only), np.full(30, 0.5)
    figures = {
        "confusion": confusion_matrix_figure(y, y),
        "roc": roc_curve_figure(y, proba),
        "precision_recall": precision_recall_figure(y, proba),
        "calibration": calibration_figure(y, proba),
    }
    assert all(path.stat().st_size > 5000 for path in save_figures(figures, tmp_path).values())


def test_one_class_is_named() -> None:
    proba = np.full(30, 0.5)
    for only in (0, 1):
        roc = roc_curve_figure(np.full(30, only), proba)
        assert title_of(roc) == "No ROC curve: all 30 rows are of one class"
        assert [artist.get_label() for artist in roc.axes[0].lines] == ["chance (0.5)"]
    none_up = precision_recall_figure(np.zeros(30), proba)
    assert title_of(none_up) == "No precision to draw: none of 30 rows came up"


@pytest.mark.slow
def test_files_are_the_same_bytes_each_time_and_describe_themselves(tmp_path: Path) -> None:
    for folder in ("once", "again"):
        figures = {
            "roc": roc_curve_figure(Y, PROBA),
            "learning_curve": learning_curve_figure(HISTORY, 1),
        }
        paths = save_figures(figures, tmp_path / folder)
        assert paths == {name: tmp_path / folder / f"{name}.png" for name in figures}
    for name in ("roc", "learning_curve"):
        once, again = (tmp_path / folder / f"{name}.png" for folder in ("once", "again"))
        assert once.read_bytes() == again.read_bytes()
    with Image.open(tmp_path / "once" / "learning_curve.png") as picture:
        assert picture.size == (770, 660 + 33)  # and the title
        assert picture.info["Description"] == (
            "Learning curve. Kept 2 of 4 rounds: validation log-loss 0.6912."
        )
        assert "Software" not in picture.info
        colours = picture.convert("RGB").getcolors(maxcolors=2**16)
        assert colours is not None
        assert {(0, 114, 178), (213, 94, 0)} <= {colour for _, colour in colours}


@pytest.mark.slow
def test_no_display_and_no_global_state_is_touched() -> None:
    check = (
        "import sys, steps.reporting.figures; "
        "print('matplotlib.pyplot' in sys.modules, 'sklearn' in sys.modules)"
    )
    root = Path(__file__).parents[2]
    shown = subprocess.run(
        [sys.executable, "-c", check], cwd=root, capture_output=True, text=True, check=True
    )
    assert shown.stdout.strip() == "False False"
