"""The model that takes prices, as MLflow loads it: from a model's folder, with the code in it.

A stored model carries this module and what it imports under a package name of its own (see
:mod:`steps.serving.carried_code`), so that it computes the features of its snapshot wherever it is
loaded.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd

from steps.market.features import compute_features, get_feature_set
from steps.market.price_frame import read_frame
from steps.market.price_report import counted
from steps.serving.as_of import NEWEST, TODAY, AsOf, resolve_as_of
from steps.serving.forecast import MAX_AGE, Learned, forecast
from steps.tracking.checksums import check
from steps.tracking.native_models import read_native, write_native
from steps.tracking.refusal import refusal

LEARNED = "learned.json"

PARAMS: Mapping[str, Any] = {"every_date": False, "as_of": NEWEST, "max_age": MAX_AGE, "horizon": 0}
"""What may be asked beside the prices, with defaults; a horizon of 0 is the model's own."""


class PriceModel:
    """A classifier with what it takes to ask it about prices.

    Parameters
    ----------
    model : xgboost.Booster or scikit-learn classifier
    learned : Learned
    """

    def __init__(self, model: Any, learned: Learned) -> None:
        self.model = model
        self.learned = learned

    def predict(
        self, model_input: pd.DataFrame, params: Mapping[str, Any] | None = None
    ) -> pd.DataFrame:
        """Answer a request.

        Parameters
        ----------
        model_input : DataFrame
            Raw prices: see `read_frame`.
        params : mapping, optional
            Any of `PARAMS`: ``as_of`` may be a date, ``today`` or ``newest``, and a ``max_age``
            below 0 (weekdays) means that nothing is too old.

        Returns
        -------
        DataFrame
            As `forecast` returns it, in types that JSON has: dates are texts, and what is missing
            is None.

        Raises
        ------
        MlflowException
            If the prices or the parameters cannot be used; a scoring server answers 400.
        """
        given = {name: value for name, value in (params or {}).items() if value is not None}
        asked = {**PARAMS, **given}
        try:
            self._check_horizon(int(asked["horizon"]))
            prices = read_frame(pd.DataFrame(model_input), "the request")
            last_date = prices["date"].max().date()
            answer = self.forecast(
                prices,
                every_date=bool(asked["every_date"]),
                as_of=resolve_as_of(_read_as_of(asked["as_of"]), last_date),
                max_age=int(asked["max_age"]) if int(asked["max_age"]) >= 0 else None,
            )
        except ValueError as error:
            raise refusal(str(error)) from error
        return _for_json(answer)

    def forecast(
        self,
        prices: pd.DataFrame,
        *,
        every_date: bool = False,
        as_of: date | None = None,
        max_age: int | None = MAX_AGE,
    ) -> pd.DataFrame:
        """Forecast from prices that were checked: see :func:`steps.serving.forecast.forecast`."""
        return forecast(
            prices,
            self.model,
            self.learned,
            every_date=every_date,
            as_of=as_of,
            max_age=max_age,
        )

    def features(self, prices: pd.DataFrame) -> pd.DataFrame:
        """Compute the features of the model's snapshot from prices that were checked."""
        return compute_features(prices, get_feature_set(self.learned.feature_set))

    def save(self, folder: Path) -> None:
        """Write all of it into an empty folder."""
        write_native(self.model, folder)
        (folder / LEARNED).write_text(json.dumps(vars(self.learned), indent=2) + "\n")

    @classmethod
    def load(cls, folder: Path) -> PriceModel:
        """Read what `save` has written."""
        return cls(read_native(folder), Learned.of(json.loads((folder / LEARNED).read_text())))

    def _check_horizon(self, asked: int) -> None:
        if asked not in (0, self.learned.horizon):
            raise ValueError(
                f"this model forecasts {counted(self.learned.horizon, 'trading day')} ahead, not "
                f"{asked}: ask one that was trained for it, or leave horizon out"
            )


def _for_json(answer: pd.DataFrame) -> pd.DataFrame:
    """Give a forecast types that JSON has; missing values as None, for NaN is no JSON."""
    answer["date"] = answer["date"].dt.strftime("%Y-%m-%d")
    known = answer["direction"].notna()
    if known.all():
        return answer.astype({"direction": "int64"})
    for name in ("probability", "direction"):
        answer[name] = answer[name].astype(object).where(known, None)
    return answer


def _read_as_of(text: str) -> AsOf:
    if text == NEWEST:
        return NEWEST
    if text == TODAY:
        return TODAY
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ValueError(
            f"as_of={text!r} is not a date: write 2020-01-31, {TODAY} or {NEWEST}"
        ) from None


def _load_pyfunc(path: str) -> PriceModel:
    """Be what MLflow calls to load a model: its name for this is fixed.

    Where MLflow loads it by itself, this code runs before it is checked, but none of the model's
    other files is read. In one expression, so that no single wrong byte here skips the check.
    """
    data = Path(path)  # in the model it is data/data
    return PriceModel.load(
        check(data.parents[1], required=True) / data.relative_to(data.parents[1])
    )
