"""The report of an evaluation: the verdict first, then everything it rests on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
import pandas as pd

from steps.reporting.curves import (
    contributions_figure,
    equity_figure,
    folds_figure,
    ic_figure,
    slices_figure,
)
from steps.reporting.figures import (
    Interval,
    calibration_figure,
    confusion_matrix_figure,
    feature_importance_figure,
    precision_recall_figure,
    roc_curve_figure,
)
from steps.reporting.page import (
    NOT_KNOWN,
    Block,
    Code,
    Facts,
    Mark,
    Notice,
    Page,
    Picture,
    Section,
    Table,
    Text,
    write_value,
)

_MOST_NAMES: Final = 30


class Estimate(Interval, Protocol):
    """A figure with its interval, as `steps.learning.bootstrap` computes it."""

    @property
    def value(self) -> float:
        """The figure on all rows."""


class Condition(Protocol):
    """One thing the gate asks for, as `steps.learning.gate` judges it."""

    @property
    def name(self) -> str:
        """What it is called."""

    @property
    def passed(self) -> bool:
        """Whether it was met."""

    @property
    def found(self) -> str:
        """What was found."""

    @property
    def wanted(self) -> str:
        """What was asked for."""


class Suspicion(Protocol):
    """A piece of evidence for a leak, as `steps.learning.leaks` finds it."""

    @property
    def kind(self) -> str:
        """What sort of leak it may be."""

    @property
    def evidence(self) -> str:
        """What was found, with numbers."""


@dataclass(frozen=True, kw_only=True)
class EvaluationFindings:
    """All that the report of an evaluation tells.

    Attributes
    ----------
    title : str
        What was evaluated.
    sentence : str
        The verdict.
    approved : bool
        What the gate said.
    conditions : sequence of Condition
        What the gate asked for.
    suspicions : sequence of Suspicion
        All that looks like a leak.
    looks : int
        How often the test window has been scored in this experiment, this time included.
    deflated : mapping of str to float
        What the looks leave of the headline figures; empty at the first look.
    scores : mapping of str to Estimate
        By score: `accuracy`, `auc_roc`, ...
    baselines : mapping of str to mapping of str to float
        Scores by forecaster: `base_rate`, `persistence`.
    ic : mapping of str to Estimate
        `ic`, `icir`, `rank_ic`, `rank_icir`; empty where too few symbols trade.
    daily_ic : DataFrame or None, indexed by date
        `ic`, `rank_ic`, `symbols`.
    backtest_statistics : mapping of str to float
        By statistic; those of buy and hold begin with `buy_and_hold_`.
    backtest_intervals : mapping of str to Estimate
        By statistic, where there is one.
    style : str
        `long_flat` or `long_short`.
    cost_bps : float
        Cost of a trade in basis points of what is traded.
    daily : DataFrame or None, indexed by date
        Returns `strategy` and `buy_and_hold`; None where there was nothing to trade at.
    predictions : DataFrame, shape (n_rows, ...)
        `date`, `symbol`, `direction`, `probability`, `predicted`.
    importance : DataFrame
        `feature` and `importance`, the most important first.
    contributions, feature_values : DataFrame or None, shape (n_rows, n_features)
        SHAP values in log-odds, and the features themselves.
    slices : DataFrame
        `kind`, `slice`, `auc_roc`, `auc_low`, `auc_high`, and what else there is to tell.
    worst_days : DataFrame
        One row per date, the worst first.
    folds : DataFrame or None
        One row per fold of a walk-forward: `fold`, `first_date`, `last_date`, `auc_roc`,
        `auc_low`, `auc_high`, and what else there is to tell.
    windows : mapping, or sequence of mapping
        A training run's `split.json`, or those of several.
    manifest, provenance : mapping
        What the feature snapshot holds, and how it was made.
    lineage : mapping of str to str
        Snapshot ID, commit, run IDs, model.
    params : mapping
        How the model was trained and judged.
    reproduce : sequence of str
        Commands, one after the other.
    """

    title: str
    sentence: str
    approved: bool
    conditions: Sequence[Condition]
    suspicions: Sequence[Suspicion]
    looks: int
    deflated: Mapping[str, float]
    scores: Mapping[str, Estimate]
    baselines: Mapping[str, Mapping[str, float]]
    ic: Mapping[str, Estimate]
    backtest_statistics: Mapping[str, float]
    backtest_intervals: Mapping[str, Estimate]
    cost_bps: float
    style: str
    predictions: pd.DataFrame
    importance: pd.DataFrame
    slices: pd.DataFrame
    worst_days: pd.DataFrame
    windows: Mapping[str, Any] | Sequence[Mapping[str, Any]]
    manifest: Mapping[str, Any]
    provenance: Mapping[str, Any]
    lineage: Mapping[str, str]
    params: Mapping[str, Any]
    reproduce: Sequence[str]
    daily: pd.DataFrame | None = None
    daily_ic: pd.DataFrame | None = None
    contributions: pd.DataFrame | None = None
    feature_values: pd.DataFrame | None = None
    folds: pd.DataFrame | None = None


def build_evaluation_report(findings: EvaluationFindings) -> Page:
    """Put the findings of an evaluation in order, as a page.

    Parameters
    ----------
    findings : EvaluationFindings

    Returns
    -------
    Page
        For `steps.reporting.page.render_page`.
    """
    parts: tuple[Callable[[EvaluationFindings], Section | None], ...] = (
        _gate,
        _scores,
        _curves,
        _calibration,
        _information_coefficient,
        _backtest,
        _folds,
        _importance,
        _slices,
        _worst_days,
        _data,
        _lineage,
        _reproduce,
    )
    sections = [part(findings) for part in parts]
    return Page(
        title=findings.title,
        kicker=_kicker(findings.predictions),
        sentence=findings.sentence,
        status="good" if findings.approved else "bad",
        badge="APPROVED" if findings.approved else "REJECTED",
        sections=[section for section in sections if section is not None],
    )


def _kicker(predictions: pd.DataFrame) -> str:
    if predictions.empty:
        return "Candlewick evaluation · no forecasts"
    first, last = (write_value(day) for day in predictions["date"].agg(["min", "max"]))
    symbols = predictions["symbol"].nunique()
    return (
        f"Candlewick evaluation · {len(predictions):,} forecasts of "
        f"{symbols:,} symbol{'s' if symbols != 1 else ''}, {first} to {last}"
    )


_CONDITIONS: Final = {
    "auc_roc": "AUC",
    "log_loss": "Log-loss",
    "sharpe": "Sharpe ratio",
    "sharpe_gain": "Sharpe ratio gain",
    "no_leak": "No leak",
}


def _gate(findings: EvaluationFindings) -> Section:
    evidence = [f"{each.kind}: {each.evidence}" for each in findings.suspicions]
    conditions = [
        {
            "condition": _CONDITIONS.get(each.name, _in_words(each.name)),
            "result": Mark("passed", "good") if each.passed else Mark("failed", "bad"),
            "found": each.found,
            "wanted": each.wanted,
        }
        for each in findings.conditions
    ]
    return Section(
        "Gate",
        [
            *([Notice("LEAK SUSPECTED", evidence)] if evidence else []),
            Table(conditions, "What the gate asks for")
            if conditions
            else Text("The gate asked for nothing."),
        ],
        "A model is approved only if every condition passes. What is not known does not pass.",
    )


# Score: what it is called, how it is written, what it says.
_SCORES: Final = {
    "accuracy": ("Accuracy", ".3f", "share of calls that came true"),
    "precision": ("Precision", ".3f", "share of the calls up that came up"),
    "recall": ("Recall", ".3f", "share of the ups that were called"),
    "f1": ("F1", ".3f", "harmonic mean of precision and recall"),
    "auc_roc": ("AUC", ".3f", "chance that an up was given more than a down; 0.5 is a coin"),
    "log_loss": ("Log-loss", ".4f", "in nats, lower is better; 0.6931 says one half to all"),
    "brier_score": ("Brier score", ".4f", "mean squared error, lower is better"),
    "log_loss_gain": ("Log-loss gain", "+.5f", "base rate's log-loss less the model's"),
}


def _scores(findings: EvaluationFindings) -> Section:
    interval = _interval_name(findings.scores)
    baselines = {_in_words(name, capital=False): each for name, each in findings.baselines.items()}
    rows = []
    for score, estimate in findings.scores.items():
        name, spec, meaning = _SCORES.get(score, (_in_words(score), ".4f", ""))
        rows.append(
            {
                "score": name,
                "model": write_value(estimate.value, spec),
                interval: _ends(estimate, spec),
                **{
                    baseline: write_value(scores.get(score), spec)
                    for baseline, scores in baselines.items()
                },
                "what it says": meaning,
            }
        )
    numbers = dict.fromkeys(["model", interval, *baselines], "")
    return Section(
        "Headline numbers",
        [Table(rows, "Scores on the test window", numbers), *_looks(findings)],
        "Base rate always forecasts the share of ups among the training rows; persistence says "
        "the coming days go where the last ones went. Intervals come from redrawing whole blocks "
        "of dates, for neighbouring days and symbols of one day are no independent news.",
    )


_DEFLATED: Final = {
    "auc_roc_low_deflated": "AUC interval for the best of all looks, lower end",
    "auc_roc_high_deflated": "AUC interval for the best of all looks, upper end",
    "deflated_sharpe_ratio": "Deflated Sharpe ratio (chance that the true one is above what "
    "luck makes the best of all looks)",
}


def _looks(findings: EvaluationFindings) -> list[Block]:
    if findings.looks <= 1:
        return [Text("This is the experiment's first look at this test window.")]
    told = Text(
        f"This is look number {findings.looks:,} of this experiment at this test window. The best "
        "of many tries looks good by luck; the figures below allow for that."
    )
    facts = {
        _DEFLATED.get(name, _in_words(name)): write_value(value, ".3f")
        for name, value in findings.deflated.items()
    }
    return [told, Facts(facts)] if facts else [told]


def _curves(findings: EvaluationFindings) -> Section:
    came, said = _came_and_said(findings.predictions)
    if not len(came):
        return Section("Curves", [Text("There are no forecasts to draw.")])
    return Section(
        "Curves",
        [
            Picture(roc_curve_figure(came, said, findings.scores.get("auc_roc"))),
            Picture(precision_recall_figure(came, said)),
        ],
        "Both walk from the most confident forecast of a rise to the least. A model that knows "
        "nothing follows the dashed lines.",
    )


def _calibration(findings: EvaluationFindings) -> Section:
    came, said = _came_and_said(findings.predictions)
    if not len(came):
        return Section("Calibration and calls", [Text("There are no forecasts to draw.")])
    return Section(
        "Calibration and calls",
        [
            Picture(calibration_figure(came, said)),
            Picture(confusion_matrix_figure(came, findings.predictions["predicted"].to_numpy())),
        ],
        "First what was said against what came, in ten groups of rows; then the calls, up where "
        "the forecast lies above the threshold chosen on validation.",
    )


_IC: Final = {
    "ic": ("IC", "mean correlation of forecast and return across symbols, date by date"),
    "icir": ("ICIR", "mean IC over its standard deviation from date to date"),
    "rank_ic": ("Rank IC", "the same with ranks, which outliers do not move"),
    "rank_icir": ("Rank ICIR", "mean rank IC over its standard deviation"),
}


def _information_coefficient(findings: EvaluationFindings) -> Section:
    blocks: list[Block] = []
    if findings.ic:
        interval = _interval_name(findings.ic)
        rows = [
            {
                "measure": _IC.get(name, (_in_words(name), ""))[0],
                "value": write_value(estimate.value, "+.4f"),
                interval: _ends(estimate, "+.4f"),
                "what it says": _IC.get(name, ("", ""))[1],
            }
            for name, estimate in findings.ic.items()
        ]
        numbers = {"value": "", interval: ""}
        blocks.append(Table(rows, "Across symbols, date by date", numbers))
    else:
        blocks.append(
            Text(
                "There is none: it compares symbols with one another, and takes at least three of "
                "them with a known return on each of at least two dates."
            )
        )
    if findings.daily_ic is not None and len(findings.daily_ic) > 1:
        blocks.append(Picture(ic_figure(findings.daily_ic), wide=True))
    return Section(
        "Information coefficient",
        blocks,
        "Whether the symbols given more on a date did better than the others on that date. "
        "Published daily models that survive scrutiny reach some 0.05.",
    )


# Statistic: what it is called, how it is written, what it says.
_STATISTICS: Final = {
    "total_return": ("Total return", "+.1%", ""),
    "annual_return": ("Annual return", "+.1%", "constant return a year that makes the same"),
    "annual_volatility": ("Annual volatility", ".1%", ""),
    "sharpe": ("Sharpe ratio", ".2f", "mean over standard deviation, annual, no riskless rate"),
    "sharpe_gain": ("Sharpe ratio gain", "+.2f", "over buy and hold on the same days"),
    "sortino": ("Sortino ratio", ".2f", "mean over the root mean square of losses, annual"),
    "max_drawdown": ("Largest drawdown", ".1%", "deepest fall from a high"),
    "hit_rate": ("Hit rate", ".1%", "share of invested days that gained"),
    "exposure": ("Exposure", ".1%", "mean share of the capital at work"),
    "turnover": ("Turnover", ".1%", "mean share of the capital traded a day"),
}
_STYLES: Final = {
    "long_flat": "A symbol called up is held, any other is not",
    "long_short": "A symbol called up is held, any other is sold short",
}
_BENCHMARK: Final = "buy_and_hold_"


def _backtest(findings: EvaluationFindings) -> Section:
    if findings.daily is None or findings.daily.empty:
        return Section(
            "Backtest",
            [
                Text(
                    "There is none: no returns from open to close, and from close to open, came "
                    "with the features, so there was nothing to trade at."
                )
            ],
        )
    return Section(
        "Backtest",
        [
            Picture(equity_figure(findings.daily), wide=True),
            _statistics_table(findings.backtest_statistics, findings.backtest_intervals),
        ],
        f"{_STYLES.get(findings.style, _in_words(findings.style))}: decided at the close, traded "
        f"at the next open, equal weights, {findings.cost_bps:g} basis points of each trade for "
        "costs. Buy and hold owns the same symbols all along.",
    )


def _statistics_table(statistics: Mapping[str, float], intervals: Mapping[str, Estimate]) -> Table:
    interval = _interval_name(intervals)
    own = [name for name in statistics if not name.startswith(_BENCHMARK)]
    ordered = sorted(
        dict.fromkeys([*own, *intervals]),
        key=lambda name: list(_STATISTICS).index(name) if name in _STATISTICS else len(_STATISTICS),
    )
    rows = []
    for statistic in ordered:
        name, spec, meaning = _STATISTICS.get(statistic, (_in_words(statistic), ".3f", ""))
        estimate = intervals.get(statistic)
        value = statistics.get(statistic, estimate.value if estimate else None)
        rows.append(
            {
                "statistic": name,
                "strategy": write_value(value, spec),
                interval: _ends(estimate, spec) if estimate else "",
                "buy and hold": write_value(statistics.get(_BENCHMARK + statistic), spec),
                "what it says": meaning,
            }
        )
    numbers = {"strategy": "", interval: "", "buy and hold": ""}
    return Table(rows, "What the forecasts would have earned", numbers)


def _folds(findings: EvaluationFindings) -> Section | None:
    if findings.folds is None:
        return None
    if findings.folds.empty:
        return Section("Walk-forward folds", [Text("There are no folds.")])
    return Section(
        "Walk-forward folds",
        [
            Picture(folds_figure(findings.folds), wide=True),
            _table(findings.folds, "Each fold's test window"),
        ],
        "The model was trained anew before each window, on what was known by then. The numbers "
        "above pool the forecasts of all folds.",
    )


def _importance(findings: EvaluationFindings) -> Section:
    blocks: list[Block] = []
    if findings.importance.empty:
        blocks.append(Text("Nothing is known of the features' importance."))
    else:
        blocks.append(Picture(feature_importance_figure(findings.importance), wide=True))
    if findings.contributions is None or findings.feature_values is None:
        blocks.append(Text("SHAP values are XGBoost's own; this model has none."))
    elif findings.contributions.empty:
        blocks.append(Text("There are no rows to give SHAP values of."))
    else:
        figure = contributions_figure(findings.contributions, findings.feature_values)
        blocks.append(Picture(figure, wide=True))
    return Section(
        "What the model uses",
        blocks,
        "Importance is what training made of a feature. A SHAP value is what the feature added to "
        "one forecast of the test window: right of zero it spoke for a rise.",
    )


def _slices(findings: EvaluationFindings) -> Section:
    if findings.slices.empty:
        return Section("Slices", [Text("There are no slices.")])
    return Section(
        "Slices",
        [
            Picture(slices_figure(findings.slices), wide=True),
            _table(findings.slices[_slice_first(findings.slices)], "Scores by slice"),
        ],
        "Nothing here is widened for the number of slices: at 95 %, of forty that know nothing one "
        "looks good, and another bad.",
    )


def _slice_first(slices: pd.DataFrame) -> list[str]:
    return ["slice", "kind", *(str(name) for name in slices.columns.drop(["slice", "kind"]))]


def _worst_days(findings: EvaluationFindings) -> Section:
    if findings.worst_days.empty:
        return Section("Worst days", [Text("There are no days to show.")])
    return Section(
        "Worst days",
        [_table(findings.worst_days, "Days on which the forecasts were worth least")],
        "By the day's mean log-loss. A model that is sure and wrong on a few days may be "
        "worthless for all the others.",
    )


def _data(findings: EvaluationFindings) -> Section:
    manifest = dict(findings.manifest)
    symbols, features = (list(manifest.pop(name, [])) for name in ("symbols", "feature_names"))
    for name in ("feature_count", "feature_types"):
        manifest.pop(name, None)
    span = [manifest.pop(name, None) for name in ("first_date", "last_date")]
    facts = {
        "Dates": " to ".join(write_value(day) for day in span),
        "Symbols": _listed(symbols),
        "Features": _listed(features),
        **{_in_words(name): value for name, value in manifest.items()},
    }
    made = {_in_words(name): value for name, value in findings.provenance.items()}
    windows = _windows(findings.windows)
    blocks: list[Block] = [Facts(facts)]
    if windows:
        blocks.append(Table(windows, "Windows of the split"))
    if made:
        blocks += [Text("How the snapshot was made:"), Facts(made, literal=True)]
    return Section(
        "Data and snapshot",
        blocks,
        "A row stays in a window only if its label was known before the next window begins, less "
        "the embargo.",
    )


def _windows(
    windows: Mapping[str, Any] | Sequence[Mapping[str, Any]],
) -> list[dict[str, object]]:
    splits = [windows] if isinstance(windows, Mapping) else list(windows)
    rows: list[dict[str, object]] = []
    for number, split in enumerate(splits, 1):
        for name, window in split.items():
            if isinstance(window, Mapping):
                fold = f"{number}: {name}" if len(splits) > 1 else name
                rows.append(
                    {
                        "window": fold,
                        **{_in_words(key, capital=False): each for key, each in window.items()},
                    }
                )
    return rows


def _lineage(findings: EvaluationFindings) -> Section:
    lineage = {_in_words(name): value for name, value in findings.lineage.items()}
    params = {name: _exactly(value) for name, value in findings.params.items()}
    return Section(
        "Lineage and parameters",
        [Facts(lineage, literal=True), Facts(params, literal=True)],
        "The snapshot's ID names every value the model learned from.",
    )


def _reproduce(findings: EvaluationFindings) -> Section:
    if not findings.reproduce:
        return Section("How to reproduce", [Text("No command was recorded.")])
    return Section(
        "How to reproduce",
        [Code("\n".join(findings.reproduce))],
        "The same snapshot and parameters give the same predictions, bit for bit.",
    )


# Column: its heading, and how its numbers are written.
_COLUMNS: Final = {
    "fold": ("fold", "d"),
    "first_date": ("from", ""),
    "last_date": ("to", ""),
    "rows": ("rows", ",d"),
    "train_rows": ("rows trained on", ",d"),
    "dates": ("dates", ",d"),
    "base_rate": ("share up", ".1%"),
    "share_up": ("share up", ".1%"),
    "mean_probability": ("mean forecast", ".1%"),
    "accuracy": ("accuracy", ".3f"),
    "auc_roc": ("AUC", ".3f"),
    "auc_low": ("AUC low", ".3f"),
    "auc_high": ("AUC high", ".3f"),
    "log_loss": ("log-loss", ".4f"),
    "log_loss_gain": ("log-loss gain", "+.4f"),
    "strategy_return": ("strategy's return", "+.2%"),
}


def _table(rows: pd.DataFrame, caption: str) -> Table:
    """Show a table of the findings under headings for people."""
    headings = {
        name: _COLUMNS.get(name, (_in_words(name, capital=False), ""))
        for name in map(str, rows.columns)
    }
    numbers = {
        heading: spec
        for name, (heading, spec) in headings.items()
        if pd.api.types.is_numeric_dtype(rows[name])
    }
    named = rows.rename(columns={name: heading for name, (heading, _) in headings.items()})
    return Table(named, caption, numbers)


def _came_and_said(predictions: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    return (
        predictions["direction"].to_numpy(np.int8),
        predictions["probability"].to_numpy(np.float64),
    )


def _interval_name(estimates: Mapping[str, Estimate]) -> str:
    confidences = {estimate.confidence for estimate in estimates.values()}
    if len(confidences) != 1:
        return "interval"
    return f"{100 * confidences.pop():g} % interval"


def _ends(estimate: Estimate, spec: str) -> str:
    if np.isnan(estimate.low):
        return NOT_KNOWN
    return f"{write_value(estimate.low, spec)} to {write_value(estimate.high, spec)}"


_ACRONYMS: Final = {
    "id": "ID",
    "uri": "URI",
    "url": "URL",
    "auc": "AUC",
    "roc": "ROC",
    "ic": "IC",
    "sha256": "SHA-256",
}


def _in_words(name: str, *, capital: bool = True) -> str:
    words = " ".join(_ACRONYMS.get(word, word) for word in name.split("_")).strip()
    return words[:1].upper() + words[1:] if capital else words


def _exactly(value: object) -> str:
    """Write a parameter with all its digits."""
    known = write_value(value) != NOT_KNOWN
    return str(value) if known and isinstance(value, float) else write_value(value)


def _listed(names: Sequence[object]) -> str:
    """Count names, and name them; of many, the first."""
    shown = ", ".join(str(name) for name in names[:_MOST_NAMES])
    rest = f", and {len(names) - _MOST_NAMES:,} more" if len(names) > _MOST_NAMES else ""
    return f"{len(names):,}: {shown}{rest}" if names else NOT_KNOWN
