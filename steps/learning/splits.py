"""Train, validation and test windows by date, without a label reaching across a boundary."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

Rows = NDArray[np.intp]
Dates = NDArray[np.datetime64]


@dataclass(frozen=True)
class Window:
    """One window of a split, as it is after purging.

    Attributes
    ----------
    first_date, last_date : date
        Of the rows kept.
    rows : int
        How many those are.
    last_label_known_at : date
        When the last of their labels became known.
    known_before : date or None
        Where the next window's embargo begins: every label had to be known strictly before.
        None where no window follows.
    """

    first_date: date
    last_date: date
    rows: int
    last_label_known_at: date
    known_before: date | None = None

    def describe(self) -> dict[str, Any]:
        """Say the same ready for JSON, dates as ISO text; `known_before` only where there is one.

        Examples
        --------
        >>> Window(date(2024, 1, 2), date(2024, 1, 5), 4, date(2024, 1, 8)).describe()["last_date"]
        '2024-01-05'
        """
        said = {
            name: value.isoformat() if isinstance(value, date) else value
            for name, value in vars(self).items()
        }
        if self.known_before is None:
            del said["known_before"]
        return said


@dataclass(frozen=True, eq=False)
class DateSplit:
    """Rows of a table, dealt into three windows that follow one another in time.

    Attributes
    ----------
    train, validation, test : ndarray of intp
        Positions of the rows in the table, ascending.
    windows : dict of str to Window
        The dates and the number of rows kept, by window name.
    purged : int
        Labelled rows left out because their label became known too late.
    embargo : int
        Dates kept free between two windows.
    """

    train: Rows
    validation: Rows
    test: Rows
    windows: dict[str, Window]
    purged: int
    embargo: int

    def describe(self, symbols: ArrayLike | None = None) -> dict[str, Any]:
        """Say which dates went where, ready for JSON.

        Parameters
        ----------
        symbols : array-like of str, shape (n_rows,), optional
            The table's symbol column; with it, each window counts its symbols.
        """
        described: dict[str, Any] = {}
        for name, window in self.windows.items():
            described[name] = window.describe()
            if symbols is not None:
                inside = pd.Series(symbols, copy=False).iloc[getattr(self, name)]
                described[name]["symbols"] = int(inside.nunique())
        return {**described, "purged_rows": self.purged, "embargo": self.embargo}


def purged_split(
    dates: ArrayLike,
    label_known_at: ArrayLike,
    *,
    validation_size: float,
    test_size: float,
    embargo: int,
) -> DateSplit:
    """Split rows by date, and drop those whose label looks into the next window.

    The calendar is every date with at least one known label, in order. Its last dates are
    the test window, the dates before them validation, the rest train. A row stays in train
    only if its label was known strictly before the date that lies `embargo` calendar dates
    before validation begins; likewise for validation and test. Rows of one date never part,
    and rows without a known label are in no window.

    Parameters
    ----------
    dates : array-like of datetime64, shape (n_rows,)
        The date of each row; any order, any number of symbols per date.
    label_known_at : array-like of datetime64, shape (n_rows,)
        The date on which each row's label became known; NaT where it is not known yet.
    validation_size, test_size : float
        Share of the calendar's dates, above 0 and below 1; rounded up to whole dates.
    embargo : int
        Dates, 0 or more.

    Raises
    ------
    ValueError
        When a parameter is out of range, a label is known before its own row, or a window
        would be empty.

    References
    ----------
    M. López de Prado, *Advances in Financial Machine Learning*, Wiley 2018, chapter 7.

    Examples
    --------
    Eight days of one symbol; each label is known on the next day. Days 7 and 8 are test,
    days 5 and 6 validation, days 1 to 4 train. Day 4 is purged, for its label is known on
    day 5, when validation begins; so is day 6, whose label is known on day 7.

    >>> days = [f"2024-01-0{day}" for day in range(1, 10)]
    >>> sizes = {"validation_size": 0.25, "test_size": 0.25}
    >>> split = purged_split(days[:8], days[1:], **sizes, embargo=0)
    >>> split.train.tolist(), split.validation.tolist(), split.test.tolist(), split.purged
    ([0, 1, 2], [4], [6, 7], 2)

    With an embargo of one date the label of a train row must be known before day 4. In
    validation day 5 would have to be known before day 6, so this table is too short:

    >>> purged_split(days[:8], days[1:], **sizes, embargo=1)
    Traceback (most recent call last):
    ...
    ValueError: The validation window is empty: with 8 labelled dates and an embargo of 1, ...
    """
    for name, size in (("validation_size", validation_size), ("test_size", test_size)):
        check_share(name, size)
    check_embargo(embargo)
    day, known = checked_dates(dates, label_known_at)
    calendar = labelled_calendar(day, known)
    n_test, n_validation = (dates_in(size, calendar) for size in (test_size, validation_size))
    n_train = len(calendar) - n_test - n_validation
    if n_train < 1:
        raise ValueError(
            f"{len(calendar)} labelled dates less {n_validation} for validation and {n_test} for "
            "test leave no date to train on. Lower validation_size or test_size, or bring a "
            "longer price history."
        )
    starts = {"validation": calendar[n_train], "test": calendar[n_train + n_validation]}

    labelled = ~np.isnat(known)
    is_test = labelled & (day >= starts["test"])
    is_validation = labelled & (day >= starts["validation"]) & ~is_test
    is_train = labelled & (day < starts["validation"])
    boundaries = {
        "train": embargo_start(calendar, starts["validation"], embargo),
        "validation": embargo_start(calendar, starts["test"], embargo),
    }
    rows = {
        "train": purge(np.flatnonzero(is_train), known, boundaries["train"]),
        "validation": purge(np.flatnonzero(is_validation), known, boundaries["validation"]),
        "test": np.flatnonzero(is_test),
    }
    for name, kept in rows.items():
        if not len(kept):
            raise ValueError(
                f"The {name} window is empty: with {len(calendar)} labelled dates and an embargo "
                f"of {embargo}, no label of it is known before the next window's embargo begins. "
                "Lower the embargo or the horizon, change the window sizes, or bring a longer "
                "price history."
            )
    check_no_leak(day, known, rows["train"], rows["validation"], embargo)
    check_no_leak(day, known, rows["validation"], rows["test"], embargo)
    return DateSplit(
        **rows,
        windows={
            name: window_of(day, known, kept, boundaries.get(name)) for name, kept in rows.items()
        },
        purged=int(labelled.sum()) - sum(len(kept) for kept in rows.values()),
        embargo=embargo,
    )


def labelled_calendar(dates: Dates, label_known_at: Dates) -> Dates:
    """Return the dates with at least one known label, each once, in order."""
    return np.unique(dates[~np.isnat(label_known_at)])


def embargo_start(calendar: Dates, first_date: np.datetime64, embargo: int) -> np.datetime64:
    """Return the date that lies `embargo` calendar dates before a window's first date.

    Raises
    ------
    ValueError
        When the calendar does not reach back that far.
    """
    position = int(np.searchsorted(calendar, first_date)) - embargo
    if position < 0:
        raise ValueError(
            f"An embargo of {embargo} dates reaches back beyond the first labelled date "
            f"({_as_day(calendar[0])}) when the next window begins on {_as_day(first_date)}. Lower "
            "the embargo, or bring a longer price history."
        )
    return np.datetime64(calendar[position])


def purge(rows: Rows, label_known_at: Dates, boundary: np.datetime64) -> Rows:
    """Keep the rows whose label was known strictly before `boundary`."""
    return rows[label_known_at[rows] < boundary]


def check_no_leak(
    dates: Dates, label_known_at: Dates, earlier: Rows, later: Rows, embargo: int
) -> None:
    """Refuse two windows of which the earlier one knows something of the later one.

    Asked of the finished windows rather than of the way they were made, so that a mistake
    in the making cannot hide here.

    Raises
    ------
    RuntimeError
        Naming the first row at fault.
    """
    first_date = dates[later].min()
    boundary = embargo_start(labelled_calendar(dates, label_known_at), first_date, embargo)
    known = label_known_at[earlier]
    for wrong, what in (
        (np.isnat(known), "has no known label"),
        (~(known < boundary), "has a label known too late"),
        (dates[earlier] >= first_date, "is not dated before the later window"),
    ):
        if wrong.any():
            row = int(earlier[np.argmax(wrong)])
            raise RuntimeError(
                f"Look-ahead in the split: row {row} of {_as_day(dates[row])}, label known at "
                f"{label_known_at[row]}, {what}; the later window begins on {_as_day(first_date)} "
                f"and its embargo on {_as_day(boundary)}. Nothing was learnt from it. Please "
                "report this."
            )


def window_of(
    dates: Dates, label_known_at: Dates, rows: Rows, boundary: np.datetime64 | None = None
) -> Window:
    """Describe the window that some rows make; `boundary` is its `known_before`."""
    day = dates[rows]
    return Window(
        first_date=_as_day(day.min()),
        last_date=_as_day(day.max()),
        rows=len(rows),
        last_label_known_at=_as_day(label_known_at[rows].max()),
        known_before=None if boundary is None else _as_day(boundary),
    )


def window_rows(table: pd.DataFrame, window: Mapping[str, Any]) -> NDArray[np.bool_]:
    """Return which rows of a snapshot's table lie in a window, as `Window.describe` said it.

    Parameters
    ----------
    table : DataFrame
        `date`, `direction` and `label_known_at` at least; of the snapshot that was split, or
        of another one.
    window : mapping
        One window of a `split.json`.

    Returns
    -------
    ndarray of bool, shape (len(table),)
        Labelled rows between the window's dates; not those that were purged.

    Raises
    ------
    ValueError
        If there is none.
    """
    inside = table["direction"].notna() & table["date"].between(
        window["first_date"], window["last_date"]
    )
    if "known_before" in window:  # rows that were purged lie between the dates, too
        inside &= table["label_known_at"] < window["known_before"]
    if not inside.any():
        raise ValueError(
            f"no labelled row of this snapshot lies in the model's window from "
            f"{window['first_date']} to {window['last_date']}: take the snapshot that it was "
            "trained on"
        )
    return inside.to_numpy(bool)


def checked_dates(dates: ArrayLike, label_known_at: ArrayLike) -> tuple[Dates, Dates]:
    """Return the two columns as datetime64, after making sure that rows can be split by them.

    Raises
    ------
    ValueError
        When they are no dates, a row has none, no label is known, or one is known before its
        own row.
    """
    day, known = _as_dates(dates, "dates"), _as_dates(label_known_at, "label_known_at")
    if day.shape != known.shape or day.ndim != 1:
        raise ValueError(
            "dates and label_known_at must be two columns of one table, but have the shapes "
            f"{day.shape} and {known.shape}."
        )
    if np.isnat(day).any():
        raise ValueError(f"Row {int(np.argmax(np.isnat(day)))} has no date.")
    if np.isnat(known).all():
        raise ValueError("No row has a known label. Bring a price history longer than the horizon.")
    early = known <= day
    if early.any():
        row = int(np.argmax(early))
        raise ValueError(
            f"Row {row} of {day[row]} has its label known at {known[row]}, not after its own "
            "date: such a label does not lie ahead. Recompute label_known_at."
        )
    return day, known


def check_share(name: str, size: float) -> None:
    """Refuse a share of the dates that leaves one side nothing."""
    if not 0 < size < 1:
        raise ValueError(f"{name} must be above 0 and below 1, a share of the dates: {size}.")


def check_embargo(embargo: int) -> None:
    """Refuse an embargo that would let windows overlap."""
    if embargo < 0:
        raise ValueError(f"embargo must be 0 dates or more, not {embargo}.")


def dates_in(size: float, calendar: Dates) -> int:
    """Return how many dates a share of the calendar is, rounded up."""
    # Rounded first: 0.07 * 100 is 7.000000000000001 in binary, and 7 dates are meant.
    return math.ceil(round(size * len(calendar), 9))


def _as_dates(values: ArrayLike, name: str) -> Dates:
    try:
        return np.asarray(values, dtype="datetime64[s]")
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{name} must hold dates without a time zone (datetime64), not {values!r:.80}."
        ) from error


def _as_day(moment: np.datetime64) -> date:
    day: date = moment.astype("datetime64[D]").item()
    return day
