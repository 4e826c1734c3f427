"""Prices in, forecasts out, each with what there is to know about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from steps.learning.proba import predict_proba_up
from steps.market.age import weekdays_old
from steps.market.bars import symbol_runs
from steps.market.features import compute_features, get_feature_set
from steps.market.price_report import counted

MAX_AGE = 5  # weekdays: a week


@dataclass(frozen=True, kw_only=True)
class Learned:
    """What a model knows of its training.

    Attributes
    ----------
    feature_snapshot_id : str
    feature_set, feature_set_version : str
    feature_names : tuple of str
    symbols : tuple of str
        Those in the snapshot.
    horizon : int
        Trading days from a row to the close that its forecast is about.
    best_threshold : float
        Above it, a row is called up.
    model_type : str
    """

    feature_snapshot_id: str
    feature_set: str
    feature_set_version: str
    feature_names: tuple[str, ...]
    symbols: tuple[str, ...]
    horizon: int
    best_threshold: float
    model_type: str

    @classmethod
    def of(cls, recorded: Mapping[str, Any]) -> Learned:
        """Read what `vars` gave, after it went through JSON."""
        known = {name: recorded[name] for name in cls.__dataclass_fields__}
        known |= {name: tuple(known[name]) for name in ("feature_names", "symbols")}
        return cls(**known)


def forecast(
    prices: pd.DataFrame,
    model: Any,
    learned: Learned,
    *,
    every_date: bool = False,
    as_of: date | None = None,
    max_age: int | None = MAX_AGE,
) -> pd.DataFrame:
    """Forecast the direction of the close from prices.

    Parameters
    ----------
    prices : DataFrame, shape (n_rows, 7)
        Checked, sorted by symbol and date: as `read_frame` or `load_prices` return it.
    model : xgboost.Booster or scikit-learn classifier
    learned : Learned
    every_date : bool
        Forecast from every date that has its look-back; default: from each symbol's newest.
    as_of : date, optional
        The day that ages are counted from. Default: the newest date in `prices`.
    max_age : int, optional
        Weekdays after which a symbol's newest date is stale; None: never.

    Returns
    -------
    DataFrame, one row per symbol, or per symbol and date
        `date`, `symbol`, `probability` (of a higher close in `horizon` trading days; float64, NaN
        where there are too few rows), `direction` (Int8: 1 above the threshold, else 0), `horizon`
        and `note`: what to know about this row, "" where there is nothing. Sorted like `prices`.

    Raises
    ------
    ValueError
        If a feature is not finite, or the feature set is not the one the model learned from.
    """
    feature_set = get_feature_set(learned.feature_set)
    if feature_set.version != learned.feature_set_version:
        raise ValueError(
            f"the model learned from version {learned.feature_set_version} of feature set "
            f"{feature_set.name}, this code computes version {feature_set.version}: train again"
        )
    features = compute_features(prices, feature_set)
    number = _number_rows(prices)
    has_features = number > feature_set.lookback
    asked = _asked_rows(number, has_features, every_date=every_date)
    rows = prices.loc[asked, ["date", "symbol"]].assign(number=number[asked])
    rows = rows.reset_index(drop=True)
    known = has_features[asked]
    probability = np.full(len(rows), np.nan)
    if known.any():
        of_feature = np.cumsum(has_features) - 1  # the row of `features` that a row of prices has
        chosen = features.iloc[of_feature[asked & has_features]]
        probability[known] = predict_proba_up(model, chosen[list(learned.feature_names)])
    up = pd.Series(probability > learned.best_threshold, dtype="Int8")
    return pd.DataFrame(
        {
            "date": rows["date"],
            "symbol": rows["symbol"],
            "probability": probability,
            "direction": up.mask(~known),
            "horizon": learned.horizon,
            "note": _notes(
                rows,
                min_rows=feature_set.min_rows,
                settled_rows=feature_set.settled_rows,
                symbols=learned.symbols,
                # Of every date there are old ones; only the newest can be too old.
                as_of=as_of or prices["date"].max().date(),
                max_age=None if every_date else max_age,
            ),
        }
    )


def _number_rows(prices: pd.DataFrame) -> NDArray[np.int64]:
    """Count each symbol's rows, from 1."""
    starts, lengths = symbol_runs(prices)
    return np.arange(len(prices)) - np.repeat(starts, lengths) + 1


def _asked_rows(
    number: NDArray[np.int64], has_features: NDArray[np.bool_], *, every_date: bool
) -> NDArray[np.bool_]:
    """Return which rows of prices to forecast from.

    A symbol without its look-back is asked for once, so that its lack is told.
    """
    newest = np.append(number[1:] == 1, True)
    return newest | has_features if every_date else newest


def _notes(
    rows: pd.DataFrame,
    *,
    min_rows: int,
    settled_rows: int,
    symbols: tuple[str, ...],
    as_of: date,
    max_age: int | None,
) -> NDArray[np.object_]:
    """Say of each row what keeps it from being as good as a forecast of the evaluation."""
    number = rows["number"].to_numpy()
    notes = np.full(len(rows), "", dtype=object)

    def add(where: NDArray[np.bool_], text: Any) -> None:
        texts = text[where] if isinstance(text, np.ndarray) else text
        notes[where] = np.where(notes[where] == "", "", notes[where] + "; ") + texts

    few = number < min_rows
    have = np.array([counted(int(each), "row") for each in number], dtype=object)
    add(few, have + f" of the {min_rows} needed")
    add(~few & (number < settled_rows), have + f", features settle with {settled_rows}")
    add(~rows["symbol"].isin(symbols).to_numpy(), "not seen in training")
    if max_age is not None:
        age = weekdays_old(rows["date"].to_numpy(), as_of)
        told = np.array([f"stale: {counted(int(each), 'weekday')} old" for each in age], object)
        add(age > max_age, told)
    return notes
