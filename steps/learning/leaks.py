"""What looks like a leak: results too good to be true, and windows or features that look ahead.

Each function looks for one kind of evidence and returns what it found, nothing where all is well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from steps.learning.bootstrap import DateBootstrap, Interval, block_length
from steps.learning.intervals import auc_of_days, shares_below

SUSPICIOUS_AUC: Final = 0.55
"""Pooled over symbols and dates, directions are hardly ever known to a higher AUC."""

SUSPICIOUS_FEATURE_AUC: Final = 0.55
"""What is too good for a model is too good for one feature."""

NO_ALARM: Final = "none"
_ALARM: Final = "LEAK SUSPECTED: "
_TAG_LENGTH: Final = 5000  # what MLflow keeps of a tag
_WINDOWS: Final = ("train", "validation", "test")

Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Suspicion:
    """One piece of evidence for a leak.

    Attributes
    ----------
    kind : str
        "auc", "feature", "overlap" or "lookahead".
    evidence : str
        What was found, with the numbers, in a sentence without a full stop.
    """

    kind: str
    evidence: str


def auc_too_good(interval: Interval, bound: float = SUSPICIOUS_AUC) -> list[Suspicion]:
    """Suspect a pooled AUC above the bound.

    Chance takes a short test above any bound now and then, so the interval must lie above 0.5
    too. An unknown AUC, or interval, is no evidence.

    Parameters
    ----------
    interval : Interval
        The AUC's, over all test rows.
    bound : float
        The highest AUC that is still believed.

    Examples
    --------
    >>> auc_too_good(Interval(0.612, 0.59, 0.634, 0.95, 10, 1000))[0].evidence
    'AUC 0.612, interval 0.590 to 0.634, above 0.55: directions are not known that well'
    >>> auc_too_good(Interval(0.612, 0.48, 0.744, 0.95, 10, 1000))
    []
    """
    if not _surely_above(interval, bound):
        return []
    evidence = f"{_said(interval)}, above {bound:g}: directions are not known that well"
    return [Suspicion("auc", evidence)]


def feature_too_good(
    table: pd.DataFrame,
    names: Sequence[str],
    *,
    horizon: int,
    bound: float = SUSPICIOUS_FEATURE_AUC,
    confidence: float = 0.95,
    n_resamples: int = 1000,
    random_state: int = 0,
) -> list[Suspicion]:
    """Suspect the features that alone tell up from down.

    A feature's strength is the AUC of its values, or of their negatives if that is higher. It is
    suspected where it is above the bound and, by an interval from blocks of dates that is widened
    for the number of features, above 0.5.

    Parameters
    ----------
    table : DataFrame, shape (n_rows, ...)
        A snapshot's table: `date`, the features, and `direction`. Rows without a direction are
        left out.
    names : sequence of str
        The features.
    horizon : int
        Trading days ahead, as in the label; sets the blocks' length.
    bound : float
        The highest strength that is still believed.
    confidence : float
        Of tables whose features know nothing, about this share raises no alarm.
    n_resamples, random_state : int
        Number of resamples, and their seed; only features above the bound are resampled.

    Returns
    -------
    list of Suspicion
        The strongest first.

    Raises
    ------
    ValueError
        If a feature has missing values in labelled rows.

    Notes
    -----
    Trades that bounce between bid and ask make closes reverse (Roll, "A simple implicit measure
    of the effective bid-ask spread in an efficient market", Journal of Finance 39, 1984). Where
    ticks are coarse, a feature of the last close may pass the bound without a leak.
    """
    labelled = table[table["direction"].notna()]
    up = labelled["direction"].to_numpy(dtype=bool)
    aucs = {name: _feature_auc(labelled[name], up) for name in names}
    strengths = {name: max(auc, 1 - auc) for name, auc in aucs.items()}
    above = [name for name in names if strengths[name] > bound]
    if not above:
        return []
    bootstrap = DateBootstrap(
        labelled["date"],
        block_length=block_length(horizon),
        n_resamples=n_resamples,
        random_state=random_state,
    )
    found = []
    for name in sorted(above, key=lambda name: -strengths[name]):
        falls = aucs[name] < 0.5
        values = -labelled[name] if falls else labelled[name]
        statistic = auc_of_days(values, up, bootstrap)
        interval = bootstrap.interval(statistic, confidence=confidence).widened(len(names))
        if _surely_above(interval, bound):
            evidence = (
                f"feature {name}{' turned upside down' if falls else ''} alone has "
                f"{_said(interval)} (widened for {len(names)} features), above {bound:g}: hardly "
                "any feature knows directions that well"
            )
            found.append(Suspicion("feature", evidence))
    return found


def labels_overlap(split: Mapping[str, Any]) -> list[Suspicion]:
    """Suspect a split of which an earlier window knows labels of a later window's time.

    Parameters
    ----------
    split : mapping
        A training run's split.json: for each of `train`, `validation` and `test` that there is,
        its `first_date` and the date its `last_label_known_at`. Where a window does not say when
        its last label was known (older runs do not), nothing is said of it.

    Examples
    --------
    >>> train, test = {"last_label_known_at": "2024-03-04"}, {"first_date": "2024-03-01"}
    >>> labels_overlap({"train": train, "test": test})[0].evidence
    'the last label of train was known on 2024-03-04, not before test began on 2024-03-01'
    """
    found = []
    for earlier, later in combinations([name for name in _WINDOWS if name in split], 2):
        known, begins = split[earlier].get("last_label_known_at"), split[later]["first_date"]
        if known is not None and not _day(known) < _day(begins):
            evidence = (
                f"the last label of {earlier} was known on {_day(known)}, not before {later} "
                f"began on {_day(begins)}"
            )
            found.append(Suspicion("overlap", evidence))
    return found


def features_look_ahead(provenance: Mapping[str, Any]) -> list[Suspicion]:
    """Suspect the features that featurize found to change when later rows do.

    Parameters
    ----------
    provenance : mapping
        A snapshot's; its entry `lookahead` lists what was found. Without that entry (older
        snapshots have none) nothing is said.

    Examples
    --------
    >>> entry = {"feature": "gap", "symbol": "IBM", "date": "2024-03-01", "value": 1.5,
    ...          "value_before": None, "rows": 1, "later_rows": "cut off"}
    >>> features_look_ahead({"lookahead": [entry]})[0].evidence
    'feature gap of IBM on 2024-03-01 is 1.5, but was missing before later rows came: it looks...'
    """
    found = []
    for entry in provenance.get("lookahead", ()):
        value, before = _number(entry["value"]), _number(entry["value_before"])
        otherwise = (
            f"was {before} before later rows came"
            if entry["later_rows"] == "cut off"
            else f"would be {before} had later rows been others"
        )
        evidence = (
            f"feature {entry['feature']} of {entry['symbol']} on {entry['date']} is {value}, but "
            f"{otherwise}: it looks ahead"
        )
        found.append(Suspicion("lookahead", evidence))
    return found


def alarm(suspicions: Sequence[Suspicion]) -> str:
    """Put suspicions into one line, short enough for a tag: "none" where there are none.

    Examples
    --------
    >>> alarm([])
    'none'
    >>> alarm([Suspicion("auc", "AUC 0.61"), Suspicion("feature", "feature x")])
    'LEAK SUSPECTED: AUC 0.61; feature x'
    """
    if not suspicions:
        return NO_ALARM
    every = [each.evidence for each in suspicions]
    for shown in range(len(every), 0, -1):
        more = [f"and {len(every) - shown} more"] if shown < len(every) else []
        line = _ALARM + "; ".join(every[:shown] + more)
        if len(line) <= _TAG_LENGTH:
            return line
    return f"{line[: _TAG_LENGTH - 1]}…"


def _surely_above(interval: Interval, bound: float) -> bool:
    """Whether the value is above the bound, and chance did not take it there; NaN is not."""
    return interval.value > bound and interval.low > 0.5


def _said(interval: Interval) -> str:
    return f"AUC {interval.value:.3f}, interval {interval.low:.3f} to {interval.high:.3f}"


def _feature_auc(feature: pd.Series[Any], up: Bools) -> float:
    """Return the share of pairs, one up and one down, of which the up has the higher value.

    A tie is half a pair (Mann and Whitney 1947). NaN where all rows are of one class.
    """
    values = feature.to_numpy()
    if np.isnan(values).any():
        raise ValueError(
            f"feature {feature.name} has {np.count_nonzero(np.isnan(values))} missing values in "
            "labelled rows: a leak in it could hide there. Load the table from a feature snapshot."
        )
    ups, downs = np.sort(values[up]), np.sort(values[~up])
    return float(shares_below(ups, downs).mean()) if ups.size and downs.size else float("nan")


def _day(text: str) -> np.datetime64:
    return np.datetime64(text, "D")


def _number(value: float | None) -> str:
    """Write a value to the precision a feature table keeps."""
    return "missing" if value is None else str(np.float32(value))
