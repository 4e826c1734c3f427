"""What the pictures of drift show, read back from their artists; and the bins, by hand."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle, StepPatch
from monitoring_examples import FEATURES, make_drift, make_rows

from steps.reporting.drift_figures import (
    bin_together,
    distributions_figure,
    has_drifted,
    is_judged,
    psi_figure,
    worst_first,
)


def title_of(figure: Figure) -> str:
    assert figure.get_suptitle() in str(figure.get_label())
    return figure.get_suptitle()


def ticks(axes: Axes) -> list[str]:
    return [tick.get_text() for tick in axes.get_yticklabels()]


def widths(axes: Axes, name: str) -> list[float]:
    """Return how long the bars of one name are, from the top down."""
    (bars,) = [
        each
        for each in axes.containers
        if isinstance(each, BarContainer) and each.get_label() == name
    ]
    return [bar.get_width() for bar in bars if isinstance(bar, Rectangle)]


def headings(figure: Figure) -> list[str]:
    return [axes.get_title(loc="left") for axes in figure.axes if axes.get_visible()]


def drift_of(*psi: float, **columns: list[object]) -> pd.DataFrame:
    table = pd.DataFrame({"feature": [f"f{at}" for at in range(len(psi))], "psi": psi})
    return table.assign(**{"p_adjusted": 0.5, "drifted": False} | columns)


def test_what_drifted_comes_first_and_what_is_not_known_last() -> None:
    table = drift_of(0.1, np.nan, 0.9, 0.3, drifted=[True, False, False, True])
    assert worst_first(table)["feature"].tolist() == ["f3", "f0", "f2", "f1"]


@pytest.mark.parametrize("unknown", [None, np.nan, pd.NA])
def test_an_unknown_verdict_is_no_drift(unknown: object) -> None:
    table = drift_of(0.1, 0.3, drifted=[unknown, True])
    assert has_drifted(table).tolist() == [False, True]


def test_a_verdict_rests_on_both_figures() -> None:
    table = drift_of(0.1, np.nan, 0.3, p_adjusted=[0.1, 0.1, np.nan])
    assert is_judged(table).tolist() == [True, False, False]


def test_every_index_stands_against_the_bound() -> None:
    figure = psi_figure(make_drift(), 0.25)
    (axes,) = figure.axes
    assert title_of(figure) == "2 of 24 drifted; return_5d moved most, PSI 0.610"
    assert ticks(axes)[:3] == ["return_5d", "forecast", "month"]
    assert widths(axes, "drifted") == [0.61, 0.31]
    rest = make_drift().loc[lambda table: ~table["drifted"], "psi"]
    assert widths(axes, "not drifted") == sorted(rest, reverse=True)
    (bound,) = [line for line in axes.lines if line.get_label() == "bound (0.25)"]
    assert list(bound.get_xdata()) == [0.25, 0.25]


def test_the_bound_is_seen_where_all_are_far_below_it() -> None:
    (axes,) = psi_figure(drift_of(0.01, 0.02), 0.25).axes
    left, right = axes.get_xlim()
    assert left == 0
    assert right > 0.25


def test_indices_without_a_verdict_are_drawn_and_not_counted() -> None:
    figure = psi_figure(drift_of(0.1, 0.2, p_adjusted=[np.nan, np.nan]), 0.25)
    assert title_of(figure) == "f1 moved most, PSI 0.200"
    half = psi_figure(drift_of(0.1, 0.2, np.nan, p_adjusted=[0.1, 0.2, np.nan]), 0.25)
    assert title_of(half).startswith("0 of 2 drifted")
    assert ticks(half.axes[0]) == ["f1", "f0"]
    assert title_of(psi_figure(drift_of(np.nan), 0.25)) == "No feature's stability index is known"


def test_of_many_features_the_worst_are_drawn() -> None:
    figure = psi_figure(drift_of(*np.arange(100) / 1000), 0.25)
    assert ticks(figure.axes[0]) == [f"f{at}" for at in range(99, 59, -1)]
    assert "60 smaller ones not drawn" in figure.axes[0].get_xlabel()


def test_few_values_have_a_bin_each() -> None:
    bins = bin_together(np.array([-1.5, 0.0, 0.0, 4.0]), np.array([4.0, 4.0, 7.0]))
    assert bins.names == ["\N{MINUS SIGN}1.5", "0", "4", "7"]
    assert bins.reference.tolist() == [0.25, 0.5, 0.25, 0]
    assert bins.new == pytest.approx([0, 0, 2 / 3, 1 / 3])


def test_what_lies_beyond_the_quantiles_counts_in_the_outermost_bins() -> None:
    reference = np.append(np.arange(1000.0), [-1e9, 1e9])
    bins = bin_together(reference, np.full(4, 1e9))
    low, high = np.quantile(np.append(reference, np.full(4, 1e9)), [0.005, 0.995])
    np.testing.assert_allclose(bins.edges, np.linspace(low, high, 25))
    assert bins.new[-1] == 1
    assert bins.reference[0] == np.mean(reference < bins.edges[1])


def test_rows_nearly_all_alike_still_show_the_others() -> None:
    bins = bin_together(np.append(np.zeros(10_000), np.arange(1.0, 21)), np.zeros(5))
    assert (bins.edges[0], bins.edges[-1]) == (0, 20)
    assert bins.new[0] == 1


NUMBERS = st.floats(-1e6, 1e6, width=32)


@given(st.lists(NUMBERS, min_size=1, max_size=60), st.lists(NUMBERS, min_size=1, max_size=60))
@settings(max_examples=25, deadline=None)
def test_every_row_is_in_one_bin(reference: list[float], new: list[float]) -> None:
    bins = bin_together(np.array(reference), np.array(new))
    assert len(bins.edges) == len(bins.new) + 1 == len(bins.reference) + 1
    assert (np.diff(bins.edges) >= 0).all()
    assert bins.reference.sum() == pytest.approx(1)
    assert bins.new.sum() == pytest.approx(1)
    assert len(bins.names) in (0, len(bins.new))


def test_the_nine_that_moved_most_are_drawn_as_shares() -> None:
    reference, new = make_rows(500), make_rows(60, seed=1)
    figure = distributions_figure(make_drift(), reference, new)
    assert figure is not None
    assert title_of(figure) == "New rows over the reference: 9 of 24"
    worst = worst_first(make_drift()).head(9)
    shown = [f"{row['feature']}  PSI {row['psi']:.3f}" for row in worst.to_dict("records")]
    assert headings(figure) == shown
    steps = {
        str(patch.get_label()): patch.get_data()
        for patch in figure.axes[0].patches
        if isinstance(patch, StepPatch)
    }
    bins = bin_together(reference["return_5d"].to_numpy(), new["return_5d"].to_numpy())
    for name, shares in (("reference", bins.reference), ("new", bins.new)):
        np.testing.assert_array_equal(steps[name].values, shares)
        np.testing.assert_array_equal(steps[name].edges, bins.edges)


def test_few_values_are_drawn_by_value() -> None:
    drift = make_drift(["day_of_week", "b", "return_5d"])
    reference, new = make_rows(50, list(drift["feature"])), make_rows(4, list(drift["feature"]))
    figure = distributions_figure(drift, reference, new)
    assert figure is not None
    at = headings(figure).index("day_of_week  PSI 0.001")
    reference_bars, new_bars = figure.axes[at].containers
    assert [bar.get_height() for bar in reference_bars] == [0.2] * 5
    assert [bar.get_height() for bar in new_bars] == [0.25] * 4 + [0]
    assert [tick.get_text() for tick in figure.axes[at].get_xticklabels()] == list("01234")


def test_names_of_values_too_long_for_a_panel_are_thinned() -> None:
    drift = drift_of(0.5)
    rows = pd.DataFrame({"f0": np.arange(12) + 0.1234})
    figure = distributions_figure(drift, rows, rows)
    assert figure is not None
    names = [tick.get_text() for tick in figure.axes[0].get_xticklabels()]
    assert names[:2] == ["0.1234", "3.123"]
    assert len("".join(names)) <= 30


def test_what_has_no_values_on_both_sides_is_not_drawn() -> None:
    drift = drift_of(0.4, 0.3, 0.2, 0.1)
    reference = pd.DataFrame({"f0": [np.nan] * 3, "f1": [1.0, np.inf, 2.0], "f2": 1.0})
    new = pd.DataFrame({"f0": [1.0], "f1": [2.0]})
    figure = distributions_figure(drift, reference, new)
    assert figure is not None
    assert headings(figure) == ["f1  PSI 0.300"]
    assert distributions_figure(drift, reference, new.iloc[:0]) is None
    assert distributions_figure(drift, pd.DataFrame(), pd.DataFrame()) is None


def test_what_was_not_compared_is_drawn_only_if_nothing_was() -> None:
    rows = make_rows(30, ["f0", "f1"])
    some = distributions_figure(drift_of(np.nan, 0.2), rows, rows)
    none = distributions_figure(drift_of(np.nan, np.nan), rows, rows)
    assert some is not None
    assert none is not None
    assert headings(some) == ["f1  PSI 0.200"]
    assert headings(none) == ["f0", "f1"]


def test_names_are_no_formulas_and_stay_in_their_panel() -> None:
    name = r"$\bad{$" + "x" * 60
    rows = make_rows(30, [name])
    drift = drift_of(0.3).assign(feature=[name])
    figure = distributions_figure(drift, rows, rows)
    assert figure is not None
    (heading,) = headings(figure)
    assert heading.startswith(r"\$\bad{\$x")
    assert len(heading) < 40
    assert ticks(psi_figure(drift, 0.25).axes[0])[0].startswith(r"\$\bad{\$x")


def test_every_feature_of_the_examples_has_rows() -> None:
    assert list(make_rows(5)) == FEATURES == make_drift()["feature"].tolist()
