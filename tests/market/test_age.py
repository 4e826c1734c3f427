from datetime import date, timedelta

import numpy as np
import pandas as pd
import pytest

from steps.market.age import weekdays_old

FRIDAY = date(2024, 3, 1)


@pytest.mark.parametrize(
    ("as_of", "expected"),
    [
        (date(2024, 2, 29), 0),  # the day before
        (FRIDAY, 0),
        (date(2024, 3, 2), 1),  # Saturday
        (date(2024, 3, 4), 1),  # Monday
        (date(2024, 3, 5), 2),
        (date(2024, 3, 11), 6),
        (date(1990, 1, 1), 0),
    ],
)
def test_weekdays_from_a_friday(as_of, expected):
    assert weekdays_old([FRIDAY], as_of).tolist() == [expected]


def test_weekdays_are_counted_as_one_would_on_a_calendar():
    days = [FRIDAY + timedelta(n) for n in range(30)]
    for as_of in days:
        expected = [
            sum(day <= each < as_of and each.weekday() < 5 for each in days) for day in days
        ]
        assert weekdays_old(np.array(days, dtype="datetime64[D]"), as_of).tolist() == expected


@pytest.mark.parametrize(
    "last",
    [
        np.array(["2024-03-01T16:00"], dtype="datetime64[ns]"),
        pd.Series(pd.to_datetime(["2024-03-01 23:59"])).astype("datetime64[s]"),
        pd.DatetimeIndex(["2024-03-01"]),
        [FRIDAY],
        ["2024-03-01"],
    ],
    ids=["ndarray", "series", "index", "dates", "text"],
)
def test_any_kind_of_dates(last):
    age = weekdays_old(last, date(2024, 3, 5))
    assert age.dtype == np.int64
    assert age.tolist() == [2]


def test_no_dates_have_no_age():
    assert weekdays_old(np.array([], dtype="datetime64[s]"), FRIDAY).tolist() == []
