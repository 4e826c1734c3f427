"""Walk forward: train on the past, test on the dates that follow, and move on."""

from collections.abc import Iterator
from dataclasses import dataclass
from numbers import Integral
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from steps.learning.splits import (
    Dates,
    Rows,
    check_embargo,
    check_no_leak,
    check_share,
    checked_dates,
    dates_in,
    embargo_start,
    labelled_calendar,
    purge,
)

TrainWindow = Literal["expanding", "sliding"]


@dataclass(frozen=True, kw_only=True)
class WalkForwardSplit:
    """Test windows that follow one another by date, each with its purged past to train on.

    A splitter by scikit-learn's protocol: give it to `cross_val_score` or `GridSearchCV` as
    `cv`, and the rows' dates as `groups`.

    The calendar is every date with at least one known label, in order. The first
    `train_dates` of them are never tested; the dates after them are dealt into test windows
    of `test_dates`. A row is trained on if it is dated before the test window and its label
    was known strictly before the date that lies `embargo` calendar dates before it. Rows of
    one date never part; rows without a known label are in no fold. Every fold is checked for
    look-ahead, whoever asks for it, before it is handed out.

    Parameters
    ----------
    train_dates : int
        Dates before the first test window; with a sliding window also the most dates that
        any fold trains on, those to be purged included.
    test_dates : int
        Dates per test window.
    embargo : int
        Dates kept free before each test window, less than `train_dates`.
    window : {'expanding', 'sliding'}
        Whether folds train on all their past, or on the last `train_dates` of it.
    reduce_test : bool
        Whether a last test window that is shorter than the others is kept.

    Raises
    ------
    ValueError
        When a parameter is out of range.

    References
    ----------
    M. López de Prado, *Advances in Financial Machine Learning*, Wiley 2018, chapter 7, on
    purging and embargo. R. Pardo, *The Evaluation and Optimization of Trading Strategies*,
    Wiley 2008, chapter 11, on walking forward. `reduce_test` is skfolio's word.

    Examples
    --------
    Eight days of one symbol; each label is known on the next day. Day 4's label is known on
    day 5, when the first test window begins, so no fold that tests day 5 trains on it.

    >>> days = pd.DataFrame({"date": pd.date_range("2024-01-01", periods=9)})
    >>> groups = days.assign(label_known_at=days["date"].shift(-1))
    >>> splitter = WalkForwardSplit(train_dates=4, test_dates=2, embargo=0)
    >>> for train, test in splitter.split(groups, groups=groups):
    ...     print(groups["date"].dt.day[train].tolist(), groups["date"].dt.day[test].tolist())
    [1, 2, 3] [5, 6]
    [1, 2, 3, 4, 5] [7, 8]
    """

    train_dates: int = 756
    test_dates: int = 252
    embargo: int = 5
    window: TrainWindow = "expanding"
    reduce_test: bool = True

    def __post_init__(self) -> None:
        for name in ("train_dates", "test_dates"):
            _check_whole(name, getattr(self, name))
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 date or more, not {getattr(self, name)}.")
        _check_whole("embargo", self.embargo)
        check_embargo(self.embargo)
        if self.embargo >= self.train_dates:
            raise ValueError(
                f"An embargo of {self.embargo} dates leaves nothing of {self.train_dates} "
                "train_dates to train on. Lower embargo, or raise train_dates."
            )
        if self.window not in get_args(TrainWindow):
            raise ValueError(
                f"Unknown window {self.window!r}; choose one of {get_args(TrainWindow)}."
            )

    def split(self, X: Any, y: Any = None, groups: Any = None) -> Iterator[tuple[Rows, Rows]]:
        """Yield the rows to train on and those to test, fold by fold.

        Parameters
        ----------
        X : array-like, n_rows long, or None
            Asked for its length alone.
        y : object
            Not looked at.
        groups : DataFrame or array-like of datetime64, shape (n_rows, 2)
            Each row's `date` and `label_known_at`, in this order or as columns of these
            names; NaT where the label is not known yet. Any order of rows, any number of
            symbols per date.

        Yields
        ------
        train, test : ndarray of intp
            Positions of rows, ascending.

        Raises
        ------
        ValueError
            When groups are missing or no dates, the history is too short, or a fold would
            train on nothing.
        RuntimeError
            When a finished fold knows something of its test window.
        """
        day, known = _dates_of(groups, X)
        calendar = labelled_calendar(day, known)
        for start in self._test_starts(calendar):
            train, test = self._fold(day, known, calendar, start)
            if not len(train):
                begins = calendar[start].astype("datetime64[D]")
                raise ValueError(
                    f"Nothing to train on before the test window of {begins}: of its "
                    f"{self.train_dates} train_dates, none has a label known before the embargo "
                    f"of {self.embargo} begins. Raise train_dates, or lower embargo or the "
                    "horizon."
                )
            check_no_leak(day, known, train, test, self.embargo)
            yield train, test

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """Return the number of folds; it depends on the dates, so `groups` is needed."""
        return len(self._test_starts(labelled_calendar(*_dates_of(groups, X))))

    def get_metadata_routing(self) -> Any:
        """Ask for `groups` where scikit-learn's metadata routing is switched on."""
        from sklearn.utils.metadata_routing import MetadataRequest

        request = MetadataRequest(owner=self)
        request.split.add_request(param="groups", alias=True)
        return request

    def _test_starts(self, calendar: Dates) -> range:
        """Return where in the calendar each test window begins."""
        least = 1 if self.reduce_test else self.test_dates
        starts = range(self.train_dates, len(calendar) - least + 1, self.test_dates)
        if not starts:
            raise ValueError(
                f"{len(calendar)} dates with a known label are too few: {self.train_dates} "
                f"train_dates and a test window of {least} or more do not fit. Lower "
                "train_dates or test_dates, or bring a longer price history."
            )
        return starts

    def _fold(self, day: Dates, known: Dates, calendar: Dates, start: int) -> tuple[Rows, Rows]:
        labelled = ~np.isnat(known)
        test_calendar = calendar[start : start + self.test_dates]
        is_test = labelled & (day >= test_calendar[0]) & (day <= test_calendar[-1])
        is_past = labelled & (day < test_calendar[0])
        if self.window == "sliding":
            is_past &= day >= calendar[start - self.train_dates]
        boundary = embargo_start(calendar, test_calendar[0], self.embargo)
        return purge(np.flatnonzero(is_past), known, boundary), np.flatnonzero(is_test)


def purged_holdout(
    dates: ArrayLike, label_known_at: ArrayLike, rows: ArrayLike, *, size: float, embargo: int
) -> tuple[Rows, Rows]:
    """Part a fold's training rows into rows to fit on and later ones to validate on.

    The calendar is that of these rows alone. Its last dates are validation; a row before
    them is fitted on if its label was known strictly before the date that lies `embargo`
    calendar dates before validation begins.

    Parameters
    ----------
    dates, label_known_at : array-like of datetime64, shape (n_rows,)
        Of the whole table; NaT where a label is not known.
    rows : array-like of int
        Positions of the rows to part. Those without a known label come out in neither part.
    size : float
        Share of the rows' dates for validation, above 0 and below 1; rounded up to whole
        dates.
    embargo : int
        Dates, 0 or more.

    Returns
    -------
    fit, validation : ndarray of intp
        Positions in the table, ascending.

    Raises
    ------
    ValueError
        When a parameter is out of range or a part would be empty.
    RuntimeError
        When the finished fit rows know something of validation.

    References
    ----------
    M. López de Prado, *Advances in Financial Machine Learning*, Wiley 2018, chapter 7.

    Examples
    --------
    Days 1 to 6, each label known on the next day: 5 and 6 are validation, and day 4 is
    purged, for its label is known on day 5.

    >>> days = pd.date_range("2024-01-01", periods=10)
    >>> fit, validation = purged_holdout(days[:9], days[1:], range(6), size=0.3, embargo=0)
    >>> fit.tolist(), validation.tolist()
    ([0, 1, 2], [4, 5])
    """
    check_share("size", size)
    check_embargo(embargo)
    day, known = checked_dates(dates, label_known_at)
    # To all that follows, the other rows' labels are not known: they must not lend their dates
    # to the calendar in which the embargo is counted.
    seen = np.full_like(known, "NaT")
    chosen = np.asarray(rows)
    if len(chosen):
        seen[chosen] = known[chosen]
    labelled = ~np.isnat(seen)
    calendar = labelled_calendar(day, seen)
    n_validation = dates_in(size, calendar)
    if n_validation >= len(calendar):
        raise ValueError(
            f"{len(calendar)} labelled dates less {n_validation} for validation leave none to fit "
            "on. Lower size, or give rows of more dates."
        )
    first_date = calendar[-n_validation]
    boundary = embargo_start(calendar, first_date, embargo)
    fit = purge(np.flatnonzero(labelled & (day < first_date)), known, boundary)
    validation = np.flatnonzero(labelled & (day >= first_date))
    if not len(fit):
        raise ValueError(
            f"Nothing to fit on: of {len(calendar)} labelled dates, none before validation has a "
            f"label known before the embargo of {embargo} begins. Lower size, embargo or the "
            "horizon, or give rows of more dates."
        )
    check_no_leak(day, seen, fit, validation, embargo)
    return fit, validation


def _check_whole(name: str, value: object) -> None:
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise ValueError(f"{name} must be a whole number of dates, not {value!r}.")  # noqa: TRY004


def _dates_of(groups: Any, X: Any) -> tuple[Dates, Dates]:
    """Return dates and label dates from what scikit-learn calls groups."""
    wanted = "groups must be table[['date', 'label_known_at']], one row for each row of X"
    if groups is None:
        raise ValueError(
            f"{wanted}: a walk forward goes by date. Pass groups=... to split, or to "
            "cross_val_score and the like."
        )
    if isinstance(groups, pd.DataFrame) and {"date", "label_known_at"} <= set(groups.columns):
        groups = groups[["date", "label_known_at"]]
    columns = np.asarray(groups)
    if columns.ndim != 2 or columns.shape[1] != 2:
        raise ValueError(f"{wanted}; found the shape {columns.shape}.")
    n_rows = len(columns) if X is None else _length(X)
    if len(columns) != n_rows:
        raise ValueError(f"{wanted}; found {len(columns)} rows for {n_rows} of X.")
    return checked_dates(columns[:, 0], columns[:, 1])


def _length(X: Any) -> int:
    # Sparse matrices have a shape but no length.
    return int(X.shape[0]) if hasattr(X, "shape") else len(X)
