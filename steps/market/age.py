"""How old a date is, in days on which there could have been newer prices."""

from datetime import date

import numpy as np
from numpy.typing import ArrayLike, NDArray


def weekdays_old(last: ArrayLike, as_of: date) -> NDArray[np.int64]:
    """Count the weekdays, Monday to Friday, from each date to `as_of`.

    Parameters
    ----------
    last : array_like of dates
        Any shape; times of day are ignored.
    as_of : date

    Returns
    -------
    ndarray of int64, shape of `last`
        Weekdays from the date itself up to the day before `as_of`: 1 from a Friday to the Monday
        after it. 0 where the date is not before `as_of`. Holidays count: no calendar is known.
    """
    days = np.asarray(last, dtype="datetime64[D]")
    counts = np.busday_count(days, np.datetime64(as_of, "D"))
    return np.maximum(counts, 0, dtype=np.int64)
