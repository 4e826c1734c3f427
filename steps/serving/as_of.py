"""The day from which the age of prices is counted."""

from datetime import UTC, date, datetime
from typing import Final, Literal

TODAY: Final = "today"
NEWEST: Final = "newest"
"""Stands for the newest date in the prices."""

AsOf = date | Literal["today", "newest"]


def resolve_as_of(as_of: AsOf, last_date: date) -> date:
    """Return the day to count from.

    Parameters
    ----------
    as_of : date, "today" or "newest"
        Today is that of UTC, or the newest date where a market is ahead of it.
    last_date : date
        The newest date in the prices.

    Raises
    ------
    ValueError
        If the prices go on after a date that was given: a forecast of that day would know them.
    """
    if as_of == NEWEST:
        return last_date
    if as_of == TODAY:
        return max(datetime.now(UTC).date(), last_date)
    if as_of < last_date:
        raise ValueError(
            f"as_of={as_of}, but the prices go on to {last_date}: cut them off there, or a "
            "forecast would know what came later"
        )
    return as_of
