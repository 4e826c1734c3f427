"""What the pictures over time and across slices show, read back from their artists."""

import numpy as np
import pandas as pd
import pytest
from evaluation_findings import make_folds, make_slices, symbols_of
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.dates import date2num
from matplotlib.figure import Figure

from steps.reporting.curves import (
    contributions_figure,
    equity_figure,
    folds_figure,
    ic_figure,
    slices_figure,
)

DATES = pd.to_datetime(["2024-01-02", "2024-01-03", "2024-01-04", "2024-01-05"])


def title_of(figure: Figure) -> str:
    assert figure.get_suptitle() in str(figure.get_label())
    return figure.get_suptitle()


def line(axes: Axes, name: str) -> np.ndarray:
    (found,) = [artist for artist in axes.lines if artist.get_label() == name]
    return np.asarray(found.get_ydata(), dtype=float)


def segments(axes: Axes) -> list[np.ndarray]:
    groups = [artist for artist in axes.collections if isinstance(artist, LineCollection)]
    return [np.asarray(segment) for group in groups for segment in group.get_segments()]


def ticks(axes: Axes) -> list[str]:
    return [tick.get_text() for tick in axes.get_yticklabels()]


def test_equity_and_drawdown_by_hand() -> None:
    daily = pd.DataFrame(
        {"strategy": [0.10, -0.50, np.nan, 1.0], "buy_and_hold": [0.0, 0.1, 0.1, -0.1]}, index=DATES
    )
    figure = equity_figure(daily)
    above, below = figure.axes
    assert line(above, "strategy") == pytest.approx([1.1, 0.55, 0.55, 1.1])
    assert line(above, "buy and hold") == pytest.approx([1.0, 1.1, 1.21, 1.089])
    assert line(below, "drawdown") == pytest.approx([0, -0.5, -0.5, 0])
    title = "The strategy made 10.0 % over 4 days, buy and hold 8.9 %"
    assert title_of(figure) == title
    losing = equity_figure(daily.iloc[:3])
    assert title_of(losing).startswith("The strategy made \N{MINUS SIGN}45.0 % over 3 days")


def test_a_loss_on_the_first_day_is_a_drawdown_and_all_is_lost_once() -> None:
    daily = pd.DataFrame({"strategy": [-0.2, -1.5, 3.0], "buy_and_hold": 0.0}, index=DATES[:3])
    above, below = equity_figure(daily).axes
    assert line(above, "strategy") == pytest.approx([0.8, 0, 0])
    assert line(below, "drawdown") == pytest.approx([-0.2, -1, -1])


def test_the_coefficients_add_up_and_unknown_ones_add_nothing() -> None:
    daily = pd.DataFrame({"ic": [0.2, np.nan, -0.5, 0.1], "rank_ic": [0.5, 0.5, 0.0, -1.0]}, DATES)
    figure = ic_figure(daily)
    assert line(figure.axes[0], "IC") == pytest.approx([0.2, 0.2, -0.3, -0.2])
    assert line(figure.axes[0], "rank IC") == pytest.approx([0.5, 1.0, 1.0, 0.0])
    assert title_of(figure) == ("Mean IC \N{MINUS SIGN}0.067, mean rank IC 0.000 over 3 dates")


def test_folds_lie_over_their_windows() -> None:
    folds = pd.DataFrame(
        {
            "fold": [1, 2, 3],
            "first_date": ["2020-01-01", "2021-01-01", "2022-01-01"],
            "last_date": ["2020-12-31", "2021-12-31", "2022-12-31"],
            "auc_roc": [0.52, 0.49, np.nan],
            "auc_low": [0.505, 0.45, np.nan],
            "auc_high": [0.54, 0.53, np.nan],
        }
    )
    figure = folds_figure(folds)
    assert title_of(figure) == "AUC above 0.5 in 1 of 2 folds, the whole interval in 1"
    level, _, upright, _ = segments(figure.axes[0])
    starts, ends = date2num(np.array(["2020-01-01", "2020-12-31"], dtype="datetime64[s]"))
    np.testing.assert_allclose(level, [[starts, 0.52], [ends, 0.52]])
    np.testing.assert_allclose(upright[:, 1], [0.505, 0.54])
    assert starts < upright[0, 0] < ends
    assert [text.get_text() for text in figure.axes[0].texts] == ["1", "2"]


def test_slices_stand_by_kind_with_their_intervals() -> None:
    slices = make_slices(symbols_of(5))
    slices.loc[0, ["auc_roc", "auc_low", "auc_high"]] = np.nan
    figure = slices_figure(slices)
    symbols, years, regimes = figure.axes
    assert ticks(symbols) == ["FB", "GOOG", "IBM", "MSFT"]
    assert ticks(years) == ["2010", "2011", "2012", "2013"]
    assert ticks(regimes) == ["calm", "normal", "turbulent"]
    of_fb = slices.iloc[1]
    np.testing.assert_allclose(segments(symbols)[0][:, 0], [of_fb["auc_low"], of_fb["auc_high"]])
    lowest, highest = slices.loc[slices["auc_roc"].idxmin()], slices.loc[slices["auc_roc"].idxmax()]
    assert title_of(figure).startswith(
        f"AUC {lowest['auc_roc']:.3f} ({lowest['slice']}) to "
        f"{highest['auc_roc']:.3f} ({highest['slice']})"
    )
    surely = int((slices["auc_low"] > 0.5).sum())
    assert title_of(figure).endswith(f"above 0.5 in {surely} of 11 slices")


def test_of_three_hundred_symbols_the_extremes_are_drawn() -> None:
    slices = make_slices(symbols_of(300))
    figure = slices_figure(slices)
    aucs = slices[slices["kind"] == "symbol"].set_index("slice")["auc_roc"].sort_values()
    assert set(ticks(figure.axes[0])) == {*aucs.index[:15], *aucs.index[-15:]}
    assert figure.axes[0].get_title(loc="left") == "by symbol (270 between these not drawn)"
    assert figure.get_figheight() < 16


def contributions(n_rows: int, n_features: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    random = np.random.default_rng(0)
    names = [f"feature_{number}" for number in range(n_features)]
    values = pd.DataFrame(random.normal(size=(n_rows, n_features)), columns=names)
    return values * np.arange(1, n_features + 1), values


def points(figure: Figure) -> list[PathCollection]:
    return [each for each in figure.axes[0].collections if isinstance(each, PathCollection)]


def test_shap_values_from_the_strongest_feature_down() -> None:
    added, values = contributions(40, 3)
    figure = contributions_figure(added, values)
    assert ticks(figure.axes[0]) == ["feature_2", "feature_1", "feature_0"]
    strongest = added["feature_2"].abs().mean()
    assert title_of(figure) == (
        f"feature_2 moves the forecast most, by {strongest:.3f} log-odds on average"
    )
    for place, (name, drawn) in enumerate(zip(ticks(figure.axes[0]), points(figure), strict=True)):
        at = np.asarray(drawn.get_offsets())
        np.testing.assert_allclose(at[:, 0], added[name])
        assert np.abs(at[:, 1] - place).max() <= 0.38 + 1e-9
        colours = np.asarray(drawn.get_array())
        assert np.array_equal(np.argsort(colours), np.argsort(values[name]))
        assert drawn.get_rasterized()


def test_many_rows_are_sampled_the_same_each_time_and_few_features_drawn() -> None:
    added, values = contributions(2500, 16)
    once, again = (points(contributions_figure(added, values)) for _ in range(2))
    assert len(once) == 15
    for first, second in zip(once, again, strict=True):
        assert len(first.get_offsets()) == 2000
        np.testing.assert_array_equal(first.get_offsets(), second.get_offsets())


def test_equal_shap_values_are_spread_evenly() -> None:
    added, values = pd.DataFrame({"a": [0.0] * 9}), pd.DataFrame({"a": [np.nan] * 9})
    figure = contributions_figure(added, values)
    assert title_of(figure) == "No feature moves the forecast"
    heights = np.sort(np.asarray(points(figure)[0].get_offsets())[:, 1])
    assert np.allclose(np.diff(heights), heights[1] - heights[0])
    assert heights.mean() == pytest.approx(0)


def test_shap_values_need_their_features() -> None:
    added, values = contributions(5, 3)
    with pytest.raises(ValueError, match=r"\(5, 3\) and \(4, 3\)"):
        contributions_figure(added, values.iloc[:4])
    with pytest.raises(ValueError, match="same columns"):
        contributions_figure(added, values.rename(columns={"feature_0": "other"}))
    with pytest.raises(ValueError, match="no SHAP values"):
        contributions_figure(added.iloc[:0], values.iloc[:0])


def test_nothing_to_draw_is_said() -> None:
    daily = pd.DataFrame({"strategy": [0.1], "buy_and_hold": [0.1]}, index=DATES[:1])
    assert title_of(equity_figure(daily.iloc[:0])) == "No day was traded"
    assert "over 1 days" in title_of(equity_figure(daily))
    no_rank = pd.DataFrame({"ic": [0.1], "rank_ic": [np.nan]}, index=DATES[:1])
    assert title_of(ic_figure(no_rank)) == ("Mean IC 0.100, mean rank IC \N{EN DASH} over 1 dates")
    unknown = pd.DataFrame({"ic": [np.nan], "rank_ic": [np.nan]}, index=DATES[:1])
    assert title_of(ic_figure(unknown)) == "No date has an information coefficient"
    assert title_of(ic_figure(unknown.iloc[:0])) == "No date has an information coefficient"
    assert title_of(folds_figure(make_folds(2).assign(auc_roc=np.nan))) == "No fold has an AUC"
    assert title_of(slices_figure(make_slices([]).iloc[:0])) == "No slice has an AUC"


@given(st.lists(st.integers(-20, 20), min_size=1, max_size=60))
@settings(max_examples=8, deadline=None)
def test_no_two_points_of_one_feature_share_a_place(pushed: list[int]) -> None:
    added = pd.DataFrame({"a": pushed}) / 10
    at = np.asarray(points(contributions_figure(added, added))[0].get_offsets())
    assert len(np.unique(at.round(9), axis=0)) == len(pushed)
