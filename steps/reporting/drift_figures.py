"""Pictures of features that look different now: how far each moved, and both distributions.

As in `steps.reporting.figures`: no pyplot, no global state, the finding for a title.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from steps.reporting.style import (
    BLUE,
    GREY,
    INK,
    LONGEST_NAME,
    ORANGE,
    label,
    legend_above,
    name_of,
    new_figure,
    new_grid,
    on_one_line,
    plain,
    with_minus,
)

MOST_BARS: Final = 40
MOST_PANELS: Final = 9
COLUMNS: Final = 3
BINS: Final = 24
MOST_VALUES: Final = 12
OUTERMOST: Final = (0.005, 0.995)
WIDE: Final = 10.0
# What fits above a panel that is a third of the width, beside the index.
_SHORT_NAME: Final = 24
# What fits below it.
_LETTERS: Final = 30

Floats = NDArray[np.float64]


def has_drifted(drift: pd.DataFrame) -> NDArray[np.bool_]:
    """Tell for each row whether it is known to have drifted."""
    known: NDArray[np.bool_] = drift["drifted"].astype("boolean").fillna(False).to_numpy(np.bool_)
    return known


def is_judged(drift: pd.DataFrame) -> NDArray[np.bool_]:
    """Tell for each row whether it is known if it drifted: neither figure it rests on is NaN."""
    judged: NDArray[np.bool_] = drift[["psi", "p_adjusted"]].notna().all(axis=1).to_numpy()
    return judged


def worst_first(drift: pd.DataFrame) -> pd.DataFrame:
    """Sort features: those that drifted, then the others, both by how far they moved.

    Parameters
    ----------
    drift : DataFrame, one row per feature
        `psi`, and `drifted`, which may be unknown. An unknown `psi` comes last.
    """
    return drift.iloc[np.lexsort([-drift["psi"].to_numpy(np.float64), ~has_drifted(drift)])]


def psi_figure(drift: pd.DataFrame, bound: float) -> Figure:
    """Draw each feature's population stability index against its bound, the worst on top.

    Parameters
    ----------
    drift : DataFrame, one row per feature
        `feature`, `psi`, `p_adjusted`, `drifted`. Features whose index is not known are left out;
        of more than 40, the first of `worst_first` are drawn.
    bound : float
        Above it a feature counts as moved.
    """
    known = worst_first(drift[drift["psi"].notna()])
    if known.empty:
        figure, _ = new_figure("Drift", "No feature's stability index is known", (WIDE, 2.0))
        return figure
    top = known.head(MOST_BARS)
    drifted = has_drifted(known)
    most = known.iloc[int(known["psi"].argmax())]
    judged = is_judged(known).sum()
    title = (
        f"{drifted.sum():,} of {judged:,} drifted; " if judged else ""
    ) + f"{on_one_line(str(most['feature']), LONGEST_NAME)} moved most, PSI {most['psi']:.3f}"
    figure, axes = new_figure("Drift", title, (WIDE, 1.5 + 0.24 * len(top)))
    places = np.arange(len(top))
    psi = top["psi"].to_numpy(np.float64)
    for which, color, name in (
        (~drifted[: len(top)], BLUE, "not drifted"),
        (drifted[: len(top)], ORANGE, "drifted"),
    ):
        if which.any():
            axes.barh(places[which], psi[which], color=color, height=0.7, label=name)
    axes.axvline(bound, color=INK, linestyle="--", linewidth=1.2, label=f"bound ({bound:g})")
    axes.set_yticks(places, [name_of(name) for name in top["feature"]])
    axes.set_ylim(len(top) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.set_xlim(left=0)
    legend_above(axes, columns=3)
    left_out = len(known) - len(top)
    rest = f"; {left_out:,} smaller ones not drawn" if left_out else ""
    label(axes, f"population stability index (PSI){rest}", "")
    return figure


def distributions_figure(
    drift: pd.DataFrame, reference: pd.DataFrame, new: pd.DataFrame
) -> Figure | None:
    """Draw what the features that moved most looked like, and look like now.

    Parameters
    ----------
    drift : DataFrame, one row per feature
        `feature`, `psi`, `drifted`; the first nine of `worst_first` are drawn, without those
        whose index is not known if there are others.
    reference, new : DataFrame, shapes (n_rows, n_features) and (m_rows, n_features)
        The features' values, by name; only shares per bin are drawn.

    Returns
    -------
    Figure or None
        None where no feature has values on both sides.
    """
    known = drift["psi"].notna()
    drift = drift[known] if known.any() else drift
    compared: list[tuple[str, float, Bins]] = []
    for row in worst_first(drift).to_dict("records"):
        if len(compared) < MOST_PANELS and {row["feature"]} <= set(reference) & set(new):
            then, now = (_finite(table[row["feature"]]) for table in (reference, new))
            if len(then) and len(now):
                compared.append((row["feature"], row["psi"], bin_together(then, now)))
    if not compared:
        return None
    count = len(compared)
    title = "New rows over the reference"
    if count < len(drift):
        title += f": {count} of {len(drift):,}"
    rows = -(-count // COLUMNS)
    inches = (WIDE * max(min(count, COLUMNS), 2) / COLUMNS, 0.7 + 2.1 * rows)
    figure, panels = new_grid("Distributions", title, inches, count, COLUMNS)
    for place, (axes, (feature, psi, bins)) in enumerate(zip(panels, compared, strict=True)):
        _draw_bins(axes, bins)
        name = plain(on_one_line(str(feature), _SHORT_NAME))
        moved = f"  PSI {psi:.3f}" if np.isfinite(psi) else ""
        axes.set_title(f"{name}{moved}", loc="left", fontsize=10, color=INK)
        label(axes, "", "share of rows" if place % COLUMNS == 0 else "")
    figure.legend(
        *panels[0].get_legend_handles_labels(), frameon=False, ncols=2, loc="outside lower left"
    )
    return figure


class Bins(NamedTuple):
    """Two samples in the same bins: `edges`, n + 1 of them, and what share of each lies where.

    Samples of few different values have a bin for each, one wide around 0, 1, …, and `names`.
    """

    edges: Floats
    reference: Floats
    new: Floats
    names: list[str]


def bin_together(reference: Floats, new: Floats) -> Bins:
    """Count two samples in the same bins.

    Bins are equally wide between the pooled quantiles 0.5 % and 99.5 %; what lies beyond counts
    in the outermost. Up to twelve different values have a bin each.

    Parameters
    ----------
    reference, new : array of float, shapes (n,) and (m,)
        Finite, at least one value each.

    Examples
    --------
    >>> bins = bin_together(np.array([0.0, 0, 1, 2]), np.array([2.0, 2]))
    >>> bins.names, bins.reference.tolist(), bins.new.tolist()
    (['0', '1', '2'], [0.5, 0.25, 0.25], [0.0, 0.0, 1.0])
    """
    pooled = np.concatenate([reference, new])
    values = np.sort(pd.unique(pooled))
    samples = [reference, new]
    names: list[str] = []
    if len(values) <= MOST_VALUES:
        edges = np.arange(len(values) + 1, dtype=np.float64) - 0.5
        samples = [np.searchsorted(values, sample).astype(np.float64) for sample in samples]
        names = [with_minus(value, ".4g") for value in values]
    else:
        low, high = np.quantile(pooled, OUTERMOST)
        if low == high:  # Nearly all rows are alike; show the others too.
            low, high = values[0], values[-1]
        edges = np.linspace(low, high, BINS + 1, dtype=np.float64)
        samples = [sample.clip(low, high) for sample in samples]
    then, now = (_shares(sample, edges) for sample in samples)
    return Bins(edges, then, now, names)


def _shares(sample: Floats, edges: Floats) -> Floats:
    shares: Floats = np.histogram(sample, edges)[0] / len(sample)
    return shares


def _finite(column: pd.Series) -> Floats:
    values = column.to_numpy(np.float64)
    kept: Floats = values[np.isfinite(values)]
    return kept


def _draw_bins(axes: Axes, bins: Bins) -> None:
    if bins.names:
        places = range(len(bins.names))
        axes.bar(places, bins.reference, color=GREY, alpha=0.45, label="reference")
        axes.bar(places, bins.new, fill=False, edgecolor=BLUE, linewidth=1.6, label="new")
        every = -(-sum(map(len, bins.names)) // _LETTERS)
        axes.set_xticks(places[::every], bins.names[::every])
        axes.grid(visible=False, axis="x")
    else:
        axes.stairs(
            bins.reference, bins.edges, fill=True, color=GREY, alpha=0.45, label="reference"
        )
        axes.stairs(bins.new, bins.edges, color=BLUE, linewidth=1.8, label="new")
        axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.yaxis.set_major_formatter(lambda share, _: f"{100 * share:g} %")
    axes.tick_params(labelsize=8.5)
