"""The label: whether the close is higher some trading days later, and when that becomes known."""

import pandas as pd


def label_definition(horizon: int) -> dict[str, str | int]:
    """Say what `label_direction` computes, for the manifest of a feature snapshot.

    Parameters
    ----------
    horizon : int
        Trading days ahead, at least 1.

    Returns
    -------
    dict
        `name`, `definition` and `horizon`.

    Raises
    ------
    ValueError
        If `horizon` is less than 1.
    """
    _require_horizon(horizon)
    return {
        "name": "direction",
        "definition": "1 if close[t + horizon] > close[t], else 0; t counts a symbol's own rows",
        "horizon": horizon,
    }


def label_direction(prices: pd.DataFrame, horizon: int) -> pd.DataFrame:
    """Label every row with the direction of the close over the next `horizon` trading days.

    Parameters
    ----------
    prices : DataFrame
        Columns `date`, `symbol` and `close` at least, each symbol's rows in order of date.
    horizon : int
        Trading days ahead, counted in the symbol's own rows; at least 1.

    Returns
    -------
    DataFrame
        `date` and `symbol` of every row of `prices`, in its order and with its index, then

        - `direction` (Int8): 1 if the close `horizon` rows later is higher, 0 if it is equal or
          lower, <NA> if the symbol has no such row yet;
        - `label_known_at` (same type as `date`): the date of that later row, NaT if there is none.

        A split that trains on a row before its `label_known_at` looks into the future.

    Raises
    ------
    ValueError
        If `horizon` is less than 1.
    """
    _require_horizon(horizon)
    ahead = prices.groupby("symbol", sort=False)[["date", "close"]].shift(-horizon)
    risen = (ahead["close"] > prices["close"]).astype("Int8")
    return pd.DataFrame(
        {
            "date": prices["date"],
            "symbol": prices["symbol"],
            "direction": risen.mask(ahead["date"].isna()),
            "label_known_at": ahead["date"],
        }
    )


def _require_horizon(horizon: int) -> None:
    if horizon < 1:
        raise ValueError(
            f"horizon must be at least 1 trading day, found {horizon}; "
            "1 asks whether the next close is higher than today's"
        )
