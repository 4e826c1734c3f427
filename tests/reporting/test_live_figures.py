"""What the pictures of the forecasts since the evaluation show, read back from their artists."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.dates import date2num
from matplotlib.figure import Figure
from monitoring_examples import make_performance

from steps.reporting.live_figures import live_figure, months_figure


def title_of(figure: Figure) -> str:
    assert figure.get_suptitle() in str(figure.get_label())
    return figure.get_suptitle()


def intervals(axes: Axes) -> list[list[float]]:
    groups = [each for each in axes.collections if isinstance(each, LineCollection)]
    return [
        np.asarray(segment)[:, 0].tolist() for each in groups for segment in each.get_segments()
    ]


def points(axes: Axes) -> list[float]:
    return [float(line.get_xdata()[0]) for line in axes.lines if line.get_marker() == "o"]


def coins(axes: Axes) -> list[float]:
    return [float(line.get_xdata()[0]) for line in axes.lines if line.get_linestyle() == "--"]


PERFORMANCE = make_performance().assign(name=["AUC", "Log-loss", "Brier score", "Accuracy"])


def test_each_score_has_a_panel_with_both_intervals() -> None:
    figure = live_figure(PERFORMANCE)
    assert title_of(figure) == "AUC 0.487 on new rows, 0.513 at the evaluation"
    auc, log_loss, brier, accuracy = figure.axes
    assert [axes.get_title(loc="left") for axes in figure.axes] == PERFORMANCE["name"].tolist()
    assert intervals(auc) == [[0.401, 0.572], [0.484, 0.544]]
    assert points(log_loss) == [0.6951, 0.6932]
    ticks = [(tick.get_text(), place) for place, tick in enumerate(brier.get_yticklabels())]
    assert ticks == [("new rows", 0), ("evaluation", 1)]
    assert [coins(axes) for axes in (auc, log_loss, brier, accuracy)] == [
        *([0.5], pytest.approx([np.log(2)]), [0.25], [])
    ]


def test_scores_without_a_live_figure_are_left_out() -> None:
    unknown = PERFORMANCE.assign(live=[0.5, np.nan, 0.2, np.nan], evaluation=np.nan)
    figure = live_figure(unknown)
    visible = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title(loc="left") for axes in visible] == ["AUC", "Brier score"]
    assert title_of(figure) == "AUC 0.500 on new rows, \N{EN DASH} at the evaluation"
    none = live_figure(PERFORMANCE.assign(live=np.nan))
    assert title_of(none) == "No score is known on new rows"


def months(*auc: float) -> pd.DataFrame:
    names = pd.period_range("2013-01", periods=len(auc), freq="M").astype(str)
    return pd.DataFrame({"month": names, "rows": range(1, len(auc) + 1), "auc_roc": auc})


def test_each_month_has_its_point_and_its_rows() -> None:
    figure = months_figure(months(0.52, np.nan, 0.46))
    above, below = figure.axes
    assert title_of(figure) == "AUC above 0.5 in 1 of 2 months"
    (line,) = [each for each in above.lines if each.get_label() == "AUC of the month"]
    drawn = np.asarray(line.get_xydata(), dtype=float)
    at = date2num(np.array(["2013-01-01", "2013-03-01"], dtype="datetime64[D]"))
    np.testing.assert_allclose(drawn, np.column_stack([at, [0.52, 0.46]]))
    assert [bar.get_height() for bar in below.patches] == [1, 2, 3]
    assert [bar.get_width() for bar in below.patches] == [18, 18, 18]
    assert [tick.get_text() for tick in below.get_xticklabels()] == [
        "2013-01",
        "2013-02",
        "2013-03",
    ]


def test_many_months_are_not_all_named() -> None:
    below = months_figure(months(*[0.5] * 30)).axes[1]
    names = [tick.get_text() for tick in below.get_xticklabels()]
    assert names[:2] == ["2013-01", "2013-04"]
    assert len(names) == 10


def test_months_without_an_auc_are_said() -> None:
    assert title_of(months_figure(months(np.nan, np.nan))) == "No AUC is known"
