"""Pictures of how the forecasts do since: beside the evaluation, and month by month."""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from steps.reporting.style import (
    BLUE,
    GREY,
    as_days,
    label,
    legend_above,
    new_figure,
    new_grid,
    new_panels,
    plain,
    with_minus,
)

COLUMNS: Final = 2
WIDE: Final = 10.0
MOST_TICKS: Final = 12
# What a forecast of one half for every row scores.
_COIN: Final = {"auc_roc": 0.5, "log_loss": float(np.log(2)), "brier_score": 0.25}


def live_figure(performance: pd.DataFrame) -> Figure:
    """Draw each score on the new rows over that of the evaluation, with their intervals.

    Parameters
    ----------
    performance : DataFrame, one row per score
        `metric`, `name` (as it is written above its panel), `live`, `low`, `high`, `evaluation`,
        `evaluation_low`, `evaluation_high`. Scores without a live figure are left out.
    """
    known = performance[performance["live"].notna()]
    if known.empty:
        figure, _ = new_figure("Live performance", "No score is known on new rows", (WIDE, 2.0))
        return figure
    first = known.iloc[0]
    title = (
        f"{first['name']} {with_minus(first['live'], '.3f')} on new rows, "
        f"{with_minus(first['evaluation'], '.3f')} at the evaluation"
    )
    rows = -(-len(known) // COLUMNS)
    figure, panels = new_grid(
        "Live performance", title, (WIDE, 0.4 + rows * 1.5), len(known), COLUMNS
    )
    for axes, row in zip(panels, known.to_dict("records"), strict=True):
        if row["metric"] in _COIN:
            axes.axvline(_COIN[row["metric"]], color=GREY, linestyle="--", linewidth=1.2)
        for place, (value, low, high, color) in enumerate(
            (
                ("live", "low", "high", BLUE),
                ("evaluation", "evaluation_low", "evaluation_high", GREY),
            )
        ):
            axes.hlines(place, row[low], row[high], color=color, linewidth=2)
            axes.plot(row[value], place, color=color, marker="o", markersize=6, linestyle="")
        axes.set_title(plain(str(row["name"])), loc="left", fontsize=10.5)
        axes.set_yticks([0, 1], ["new rows", "evaluation"])
        axes.set_ylim(1.6, -0.6)
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
        axes.margins(x=0.12)
        axes.xaxis.set_major_locator(MaxNLocator(5))
    return figure


def months_figure(by_month: pd.DataFrame) -> Figure:
    """Draw the AUC of each month over how many rows it comes from.

    Parameters
    ----------
    by_month : DataFrame, one row per month
        `month` (2013-02), `rows`, `auc_roc`; NaN where it cannot be said.
    """
    known = by_month[by_month["auc_roc"].notna()]
    above = int((known["auc_roc"] > 0.5).sum())
    title = f"AUC above 0.5 in {above} of {len(known)} months" if len(known) else "No AUC is known"
    figure, (axes, below) = new_panels("Months", title, (WIDE, 4.2), heights=[3, 1])
    axes.axhline(0.5, color=GREY, linestyle="--", linewidth=1.2, label="chance (0.5)")
    axes.plot(
        as_days(known["month"]),
        known["auc_roc"].to_numpy(np.float64),
        color=BLUE,
        marker="o",
        markersize=5,
        linewidth=1.8,
        label="AUC of the month",
    )
    months = as_days(by_month["month"])
    below.bar(months, by_month["rows"], width=np.timedelta64(18, "D"), color=BLUE, alpha=0.6)
    below.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    legend_above(axes)
    label(axes, "", "AUC")
    label(below, "", "rows")
    step = -(-len(months) // MOST_TICKS)
    below.set_xticks(months[::step], [plain(str(month)) for month in by_month["month"][::step]])
    return figure
