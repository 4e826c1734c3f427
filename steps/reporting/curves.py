"""Pictures over time and across slices: equity, information coefficient, folds, slices, SHAP.

As in `steps.reporting.figures`: no pyplot, no global state, the finding for a title.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

from steps.reporting.style import (
    BLUE,
    GREY,
    LONGEST_NAME,
    ORANGE,
    as_days,
    label,
    legend_above,
    name_of,
    new_figure,
    new_panels,
    on_one_line,
    percent,
    with_minus,
)

MOST_CONTRIBUTING: Final = 15
MOST_POINTS: Final = 2000
MOST_SLICES: Final = 30
WIDE: Final = 10.0

# Seen on white and on black; not the colours a page exchanges, for these are rasterized.
_LOW, _MIDDLE, _HIGH = "#2E86C1", "#B4A7AE", "#E8663C"

Floats = NDArray[np.float64]


def equity_figure(daily: pd.DataFrame) -> Figure:
    """Draw what a capital of 1 became, and how far it stood below its highest level.

    Parameters
    ----------
    daily : DataFrame, indexed by date
        Daily returns in columns `strategy` and `buy_and_hold`; 0.01 is 1 %. A missing return
        counts as 0.
    """
    growth = (1 + daily[["strategy", "buy_and_hold"]].fillna(0).clip(lower=-1)).cumprod()
    if daily.empty:
        title = "No day was traded"
    else:
        ended = growth.iloc[-1] - 1
        title = (
            f"The strategy made {percent(ended['strategy'])} over {len(daily):,} days, "
            f"buy and hold {percent(ended['buy_and_hold'])}"
        )
    figure, (above, below) = new_panels("Equity", title, (WIDE, 5.6), heights=[3, 1])
    days = as_days(daily.index)
    above.axhline(1, color=GREY, linewidth=1.2)
    held, earned = (growth[name].to_numpy(np.float64) for name in ("buy_and_hold", "strategy"))
    above.plot(days, held, color=ORANGE, linewidth=1.5, label="buy and hold")
    above.plot(days, earned, color=BLUE, linewidth=1.8, label="strategy")
    highest = np.maximum.accumulate(np.maximum(earned, 1)) if len(earned) else earned
    fallen = earned / highest - 1
    below.fill_between(days, fallen, 0, color=BLUE, alpha=0.25, linewidth=0)
    below.plot(days, fallen, color=BLUE, linewidth=1, label="drawdown")
    below.yaxis.set_major_formatter(PercentFormatter(1, decimals=None, symbol=" %"))
    legend_above(above)
    label(above, "", "capital, from 1")
    label(below, "", "strategy below its\nhighest level")
    _by_date(below, len(daily))
    return figure


def ic_figure(daily_ic: pd.DataFrame) -> Figure:
    """Draw the sum of the information coefficients so far, date by date.

    A forecast that knows something rises steadily; one good month is a single step.

    Parameters
    ----------
    daily_ic : DataFrame, indexed by date
        Columns `ic` and `rank_ic`; a date on which one is not known adds nothing.
    """
    known = int(daily_ic["ic"].notna().sum())
    if known:
        title = (
            f"Mean IC {with_minus(daily_ic['ic'].mean(), '.3f')}, mean rank IC "
            f"{with_minus(daily_ic['rank_ic'].mean(), '.3f')} over {known:,} dates"
        )
    else:
        title = "No date has an information coefficient"
    figure, axes = new_figure("Information coefficient", title, (WIDE, 4.2))
    axes.axhline(0, color=GREY, linewidth=1.2)
    days = as_days(daily_ic.index)
    for column, name, color in (("rank_ic", "rank IC", ORANGE), ("ic", "IC", BLUE)):
        so_far = np.nancumsum(daily_ic[column].to_numpy(np.float64))
        axes.plot(days, so_far, color=color, linewidth=1.8, label=name)
    legend_above(axes)
    label(axes, "", "sum of the coefficients so far")
    _by_date(axes, len(daily_ic))
    return figure


def folds_figure(folds: pd.DataFrame) -> Figure:
    """Draw each fold's AUC over its test window, against 0.5.

    Parameters
    ----------
    folds : DataFrame, one row per fold
        `fold`, `first_date` and `last_date` of its test window, `auc_roc`, `auc_low`,
        `auc_high`; NaN where it cannot be said.
    """
    known = folds[folds["auc_roc"].notna()]
    above = int((known["auc_roc"] > 0.5).sum())
    surely = int((known["auc_low"] > 0.5).sum())
    title = (
        f"AUC above 0.5 in {above} of {len(known)} folds, the whole interval in {surely}"
        if len(known)
        else "No fold has an AUC"
    )
    figure, axes = new_figure("Folds", title, (WIDE, 4.2))
    axes.axhline(0.5, color=GREY, linestyle="--", linewidth=1.2, label="chance (0.5)")
    first, last = (as_days(known[name]) for name in ("first_date", "last_date"))
    auc = known["auc_roc"].to_numpy(np.float64)
    axes.hlines(auc, first, last, color=BLUE, linewidth=2.5, label="AUC of the fold")
    middle = first + (last - first) / 2
    axes.vlines(middle, known["auc_low"], known["auc_high"], color=BLUE, linewidth=1.2)
    for at, value, fold in zip(middle, auc, known["fold"], strict=True):
        axes.annotate(name_of(fold), (at, value), (3, 3), textcoords="offset points", fontsize=8.5)
    legend_above(axes)
    axes.margins(y=0.12)
    label(axes, "test window; fold by number, interval upright", "AUC")
    _by_date(axes, len(known))
    return figure


def slices_figure(slices: pd.DataFrame) -> Figure:
    """Draw the AUC of each slice with its interval, one panel per kind of slice.

    Parameters
    ----------
    slices : DataFrame, one row per slice
        `kind`, `slice`, `auc_roc`, `auc_low`, `auc_high`. Slices without an AUC are left out;
        of more than 30 of a kind, the lowest and the highest 15 are drawn.
    """
    known = slices[slices["auc_roc"].notna()]
    if known.empty:
        figure, _ = new_figure("Slices", "No slice has an AUC", (7.0, 2.0))
        return figure
    ordered = known.sort_values("auc_roc", kind="stable")
    low, high = ordered.iloc[0], ordered.iloc[-1]
    surely = int((known["auc_low"] > 0.5).sum())
    title = (
        f"AUC {low['auc_roc']:.3f} ({_told(low['slice'])}) to {high['auc_roc']:.3f} "
        f"({_told(high['slice'])}); the interval lies above 0.5 in {surely} of {len(known)} slices"
    )
    kinds = {str(kind): rows for kind, rows in known.groupby("kind", sort=False)}
    drawn = {kind: _extremes(rows) for kind, rows in kinds.items()}
    figure, panels = new_panels(
        "Slices",
        title,
        (WIDE, 1.2 + sum(0.55 + 0.24 * len(rows) for rows in drawn.values())),
        heights=[len(rows) + 1 for rows in drawn.values()],
    )
    for axes, (kind, rows) in zip(panels, drawn.items(), strict=True):
        _draw_slices(axes, rows)
        left_out = len(kinds[kind]) - len(rows)
        rest = f" ({left_out} between these not drawn)" if left_out else ""
        axes.set_title(f"by {name_of(kind)}{rest}", loc="left", fontsize=10.5)
    label(panels[-1], "AUC", "")
    return figure


def contributions_figure(contributions: pd.DataFrame, values: pd.DataFrame) -> Figure:
    """Draw how far each feature moved each forecast, the features that move most on top.

    Parameters
    ----------
    contributions : DataFrame, shape (n_rows, n_features)
        SHAP values in log-odds of a rise, by feature name.
    values : DataFrame, same shape and columns
        The features themselves; they give the points their colour, by rank.

    Raises
    ------
    ValueError
        When the two differ in shape or columns, or hold nothing.

    References
    ----------
    S. M. Lundberg et al., "From local explanations to global understanding with explainable AI
    for trees", Nature Machine Intelligence 2 (2020), the summary plot.
    """
    if contributions.shape != values.shape or set(contributions) != set(values):
        raise ValueError(
            "Each SHAP value needs its feature's value: the tables have shapes "
            f"{contributions.shape} and {values.shape} and must have the same columns."
        )
    if contributions.empty:
        raise ValueError("There are no SHAP values to draw: at least one row and one feature.")
    strength = contributions.abs().mean().sort_values(ascending=False, kind="stable")
    top = strength.head(MOST_CONTRIBUTING)
    title = (
        f"{_told(top.index[0])} moves the forecast most, by {top.iloc[0]:.3f} log-odds on average"
        if top.iloc[0] > 0
        else "No feature moves the forecast"
    )
    figure, axes = new_figure("SHAP values", title, (WIDE, 1.6 + 0.34 * len(top)))
    rows = _sample(len(contributions))
    colors = LinearSegmentedColormap.from_list("values", [_LOW, _MIDDLE, _HIGH])
    axes.axvline(0, color=GREY, linewidth=1.2)
    width = float(np.ptp(contributions[top.index].to_numpy()))
    for place, name in enumerate(top.index):
        pushed = contributions[name].to_numpy(np.float64)[rows]
        rank = values[name].rank(pct=True).fillna(0.5).to_numpy(np.float64)[rows]
        axes.scatter(
            pushed,
            place + _spread(pushed, width),
            c=rank,
            cmap=colors,
            vmin=0,
            vmax=1,
            s=7,
            linewidths=0,
            rasterized=True,
        )
    axes.set_yticks(range(len(top)), [name_of(name) for name in top.index])
    axes.set_ylim(len(top) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    for color, name in ((_HIGH, "high value of the feature"), (_LOW, "low value")):
        axes.plot([], [], marker="o", linestyle="", markersize=5, color=color, label=name)
    legend_above(axes)
    of = f"; {len(rows):,} of {len(contributions):,} rows" if len(rows) < len(contributions) else ""
    label(axes, f"SHAP value: log-odds added to a rise{of}", "")
    return figure


def _by_date(axes: Axes, n_dates: int) -> None:
    if n_dates:
        locator = AutoDateLocator()  # type: ignore[no-untyped-call]
        axes.xaxis.set_major_locator(locator)
        formatter = ConciseDateFormatter(locator)  # type: ignore[no-untyped-call]
        axes.xaxis.set_major_formatter(formatter)
    else:
        axes.set_xticks([])


def _told(name: object) -> str:
    return on_one_line(str(name), LONGEST_NAME)


def _extremes(rows: pd.DataFrame) -> pd.DataFrame:
    """Keep rows as they come or, of too many, those with the lowest and the highest AUC."""
    if len(rows) <= MOST_SLICES:
        return rows
    ordered = rows.sort_values("auc_roc", ascending=False, kind="stable")
    return pd.concat([ordered.head(MOST_SLICES // 2), ordered.tail(MOST_SLICES // 2)])


def _draw_slices(axes: Axes, rows: pd.DataFrame) -> None:
    places = np.arange(len(rows))
    axes.axvline(0.5, color=GREY, linestyle="--", linewidth=1.2)
    axes.hlines(places, rows["auc_low"], rows["auc_high"], color=BLUE, linewidth=1.5)
    axes.plot(rows["auc_roc"], places, color=BLUE, marker="o", markersize=5, linestyle="")
    axes.set_yticks(places, [name_of(name) for name in rows["slice"]])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)


def _sample(n_rows: int) -> NDArray[np.intp]:
    """Choose the rows to draw: all of few, the same ones each time of many."""
    if n_rows <= MOST_POINTS:
        return np.arange(n_rows)
    chosen = np.random.default_rng(0).choice(n_rows, size=MOST_POINTS, replace=False)
    return np.sort(chosen)


def _spread(pushed: Floats, width: float) -> Floats:
    """Move points that would lie on one another up and down; at most 0.38 either way."""
    bins = np.round(pushed * (160 / width)) if width else np.zeros(len(pushed))
    order = np.argsort(bins, kind="stable")
    _, first, counts = np.unique(bins[order], return_index=True, return_counts=True)
    place: Floats = np.empty(len(pushed))
    place[order] = np.arange(len(pushed)) - np.repeat(first + (counts - 1) / 2, counts)
    widest = max((int(counts.max()) - 1) / 2, 1)
    place *= min(0.02, 0.38 / widest)
    return place
