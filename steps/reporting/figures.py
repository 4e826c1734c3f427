"""Pictures of a model and its scores, each with its finding for a title.

Built on matplotlib's objects alone: no pyplot, no global state, no display. A figure's label
(`Figure.get_label`) is its description in words, for those who cannot see it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from steps.reporting.style import (
    BLUE,
    GREY,
    LONGEST_NAME,
    ON_LIGHT,
    ORANGE,
    label,
    lay_out,
    name_of,
    new_figure,
    new_panels,
    on_one_line,
    percent,
    with_title,
)

DPI = 110
CALIBRATION_BINS = 10
MOST_FEATURES = 20
# On Blues, white reads better than black from this share on; both then have a contrast of 4.5.
DARK_CELL = 0.71


class Interval(Protocol):
    """An AUC's interval, as `steps.learning.intervals` computes it."""

    @property
    def low(self) -> float:
        """Lower end."""

    @property
    def high(self) -> float:
        """Upper end."""

    @property
    def confidence(self) -> float:
        """Share of intervals that hold the truth, such as 0.95."""


def confusion_matrix_figure(y_true: ArrayLike, y_pred: ArrayLike) -> Figure:
    """Count the calls against what came; each row's shares sum to 100 %.

    Parameters
    ----------
    y_true, y_pred : array-like of 0 and 1, shape (n_rows,)
    """
    came, called = np.asarray(y_true, dtype=int), np.asarray(y_pred, dtype=int)
    counts = np.zeros((2, 2), dtype=int)
    np.add.at(counts, (came, called), 1)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    right = np.trace(counts) / counts.sum()
    figure, axes = new_figure(
        "Confusion matrix", f"{percent(right)} of {counts.sum():,} calls were right", (5.2, 4.8)
    )
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.axhline(0.5, color="white", linewidth=3)
    axes.axvline(0.5, color="white", linewidth=3)
    for row in range(2):
        for column in range(2):
            dark = shares[row, column] > DARK_CELL
            axes.text(
                column,
                row,
                f"{counts[row, column]:,}\n{percent(shares[row, column])}",
                ha="center",
                va="center",
                fontsize=15,
                linespacing=1.5,
                color="white" if dark else "black",
                gid=None if dark else f"{ON_LIGHT}-{row}-{column}",
            )
    axes.set_xticks([0, 1], ["down", "up"])
    axes.set_yticks([0, 1], ["down", "up"])
    label(axes, "called", "came (share of the row)")
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    return figure


def roc_curve_figure(
    y_true: ArrayLike, y_proba: ArrayLike, auc_interval: Interval | None = None
) -> Figure:
    """Draw the share of ups found against the share of downs mistaken for ups.

    Parameters
    ----------
    y_true : array-like of 0 and 1, shape (n_rows,)
    y_proba : array-like of float, shape (n_rows,)
        Forecast probability of a rise.
    auc_interval : Interval, optional
        Told in the title.
    """
    from sklearn.metrics import roc_auc_score, roc_curve

    y = np.asarray(y_true)
    if len(np.unique(y)) < 2:
        title = f"No ROC curve: all {len(y):,} rows are of one class"
    else:
        title = f"AUC {roc_auc_score(y, y_proba):.3f}"
        if auc_interval is not None and not np.isnan(auc_interval.low):
            title += (
                f", {100 * auc_interval.confidence:g} % interval "
                f"{auc_interval.low:.3f} to {auc_interval.high:.3f}"
            )
    figure, axes = new_figure("ROC curve", title, (5.8, 5.4))
    axes.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1.2, label="chance (0.5)")
    if len(np.unique(y)) == 2:
        mistaken, found, _ = roc_curve(y, y_proba)
        axes.plot(mistaken, found, color=BLUE, linewidth=2, label="model")
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    label(axes, "share of downs called up", "share of ups called up")
    axes.legend(frameon=False, loc="lower right")
    return figure


def precision_recall_figure(y_true: ArrayLike, y_proba: ArrayLike) -> Figure:
    """Draw how many calls come true as more of the ups are called.

    Parameters
    ----------
    y_true, y_proba : array-like, shape (n_rows,)
        What came, and the forecast probability of a rise.
    """
    from sklearn.metrics import average_precision_score, precision_recall_curve

    y = np.asarray(y_true)
    rate = float(y.mean())
    if rate == 0:
        title = f"No precision to draw: none of {len(y):,} rows came up"
    else:
        title = (
            f"Average precision {average_precision_score(y, y_proba):.3f}, "
            f"where {rate:.3f} of the rows came up"
        )
    figure, axes = new_figure("Precision and recall", title, (6.4, 4.8))
    axes.axhline(rate, color=GREY, linestyle="--", linewidth=1.2, label="base rate")
    if rate > 0:
        precision, recall, _ = precision_recall_curve(y, y_proba)
        axes.plot(recall, precision, color=BLUE, linewidth=2, drawstyle="steps-post", label="model")
    axes.set(xlim=(-0.01, 1.01), ylim=(0, 1.02))
    label(axes, "recall: share of ups called up", "precision: share of calls come true")
    axes.legend(frameon=False, loc="lower right")
    return figure


def calibration_figure(y_true: ArrayLike, y_proba: ArrayLike) -> Figure:
    """Compare what was said with what came, above how often it was said.

    Rows are parted by their forecast into ten groups of nearly equal size; the bars are two
    standard errors of the share that came, as if rows were independent.

    Parameters
    ----------
    y_true, y_proba : array-like, shape (n_rows,)
        What came, and the forecast probability of a rise.
    """
    y, proba = np.asarray(y_true, dtype=float), np.asarray(y_proba, dtype=float)
    said, came, rows = _calibration_groups(y, proba)
    figure, (axes, below) = new_panels(
        "Calibration",
        f"Said {percent(proba.mean())} up on average, {percent(y.mean())} came up",
        (6.0, 6.2),
        heights=[3, 1],
    )
    error = 2 * np.sqrt(came * (1 - came) / rows)
    ends = [
        min(said.min(), (came - error).min(), proba.min()),
        max(said.max(), (came + error).max(), proba.max()),
    ]
    axes.plot(ends, ends, color=GREY, linestyle="--", linewidth=1.2, label="as said")
    axes.errorbar(
        said, came, yerr=error, color=BLUE, marker="o", linewidth=1.5, capsize=3, label="model"
    )
    label(axes, "", "share that came up")
    axes.legend(frameon=False, loc="upper left")
    below.hist(proba, bins=30, color=BLUE, alpha=0.75)
    label(below, "forecast probability of a rise", "rows")
    return figure


def feature_importance_figure(importance: pd.DataFrame) -> Figure:
    """Draw the most important features, the first on top.

    Parameters
    ----------
    importance : DataFrame
        Columns `feature` and `importance` (shares of the total), the most important first.
    """
    top = importance.head(MOST_FEATURES)
    first = top.iloc[0]
    if first["importance"] > 0:
        title = (
            f"{on_one_line(str(first['feature']), LONGEST_NAME)} matters most: "
            f"{percent(first['importance'])} of the total"
        )
    else:
        title = "The model uses no feature"
    figure, axes = new_figure("Feature importance", title, (7.0, 1.4 + 0.26 * len(top)))
    names = [name_of(feature) for feature in top["feature"]]
    axes.barh(range(len(top)), 100 * top["importance"], color=BLUE, height=0.7)
    axes.set_yticks(range(len(top)), names)
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.margins(y=0.02)
    lesser = len(importance) - len(top)
    rest = f"; {lesser} lesser features not shown" if lesser else ""
    label(axes, f"share of total importance (%){rest}", "")
    return figure


def learning_curve_figure(
    history: Mapping[str, Sequence[float]], best_iteration: int | None
) -> Figure:
    """Draw log-loss and AUC per round on train and validation rows.

    Parameters
    ----------
    history : mapping of str to sequence of float
        `train_log_loss`, `validation_log_loss`, `train_auc_roc`, `validation_auc_roc`.
    best_iteration : int or None
        The round kept, from 0; None where all were.

    Raises
    ------
    ValueError
        When there are no rounds.
    """
    if not history:
        raise ValueError("This model did not learn in rounds: it has no learning curve to draw.")
    losses = history["validation_log_loss"]
    kept = len(losses) - 1 if best_iteration is None else best_iteration
    figure, panels = new_panels(
        "Learning curve",
        f"Kept {kept + 1} of {len(losses)} rounds: validation log-loss {losses[kept]:.4f}",
        (7.0, 6.0),
        heights=[1, 1],
    )
    for panel, score, name in zip(
        panels, ("log_loss", "auc_roc"), ("log-loss (nats)", "AUC"), strict=True
    ):
        for window, color in (("train", ORANGE), ("validation", BLUE)):
            values = history[f"{window}_{score}"]
            rounds = np.arange(1, len(values) + 1)
            marker = "o" if len(values) < 20 else None
            panel.plot(
                rounds, values, color=color, linewidth=2, marker=marker, markersize=4, label=window
            )
        panel.axvline(kept + 1, color=GREY, linestyle="--", linewidth=1.2, label="last round kept")
        label(panel, "", name)
    panels[0].legend(frameon=False)
    panels[1].xaxis.set_major_locator(MaxNLocator(integer=True))
    label(panels[1], "round", "AUC")
    return figure


def save_figures(figures: Mapping[str, Figure], folder: Path) -> dict[str, Path]:
    """Write each figure to `folder/<name>.png`; the same figure gives the same bytes.

    Returns
    -------
    dict of str to Path
        The files, by figure name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = {}
    for name, figure in figures.items():
        paths[name] = folder / f"{name}.png"
        # matplotlib would name its version otherwise.
        metadata = {"Software": None, "Description": str(figure.get_label())}
        lay_out(figure)
        figure.savefig(paths[name], dpi=DPI, metadata=metadata, bbox_inches=with_title(figure))
    return paths


def _calibration_groups(
    y: NDArray[np.float64], proba: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return mean forecast, share that came up, and rows, of groups of nearly equal size."""
    cuts = np.unique(np.quantile(proba, np.arange(1, CALIBRATION_BINS) / CALIBRATION_BINS))
    group = np.searchsorted(cuts, proba, side="left")
    rows = np.bincount(group, minlength=len(cuts) + 1).astype(float)
    there = rows > 0
    said = np.bincount(group, weights=proba, minlength=len(rows))[there] / rows[there]
    came = np.bincount(group, weights=y, minlength=len(rows))[there] / rows[there]
    return said, came, rows[there]
