"""Walking forward: hand-written calendars, scikit-learn's own splitter, and generated tables."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steps.learning import walk_forward
from steps.learning.walk_forward import WalkForwardSplit, purged_holdout


def feature_table(calendars: dict[str, list[str]], horizon: int) -> pd.DataFrame:
    """Rows of several symbols, each label known `horizon` rows later."""
    parts = []
    for symbol, days in calendars.items():
        column = pd.Series(pd.to_datetime(days).as_unit("s"))
        parts.append(
            pd.DataFrame(
                {"date": column, "symbol": symbol, "label_known_at": column.shift(-horizon)}
            )
        )
    return pd.concat(parts, ignore_index=True)


def january(*days: int) -> list[str]:
    return [f"2024-01-{day:02d}" for day in days]


def one_symbol(n_days: int, horizon: int = 1) -> pd.DataFrame:
    return feature_table({"A": january(*range(1, n_days + 1))}, horizon)


def groups_of(table: pd.DataFrame) -> pd.DataFrame:
    return table[["date", "label_known_at"]]


def days_of(table: pd.DataFrame, rows: np.ndarray) -> list[tuple[str, int]]:
    kept = table.iloc[rows]
    return [(symbol, day.day) for symbol, day in zip(kept["symbol"], kept["date"], strict=True)]


# One symbol; the label of day d is known on day d + horizon, so the last `horizon` days are in no
# fold. Each fold: the first and last day trained on, the first and last day tested.
@pytest.mark.parametrize(
    ("n_days", "horizon", "parameters", "folds"),
    [
        # 12 labelled days. Day 6 is known on day 7, when the first test begins.
        (13, 1, {"train_dates": 6, "test_dates": 3}, [(1, 5, 7, 9), (1, 8, 10, 12)]),
        # The embargo begins on day 6, and on day 9.
        (13, 1, {"train_dates": 6, "test_dates": 3, "embargo": 1}, [(1, 4, 7, 9), (1, 7, 10, 12)]),
        # Six dates before day 10 are 4 to 9, of which 9 is purged.
        (
            13,
            1,
            {"train_dates": 6, "test_dates": 3, "window": "sliding"},
            [(1, 5, 7, 9), (4, 8, 10, 12)],
        ),
        # The embargo begins on day 6, and on day 11.
        (
            21,
            1,
            {"train_dates": 10, "test_dates": 5, "embargo": 5},
            [(1, 4, 11, 15), (1, 9, 16, 20)],
        ),
        # Day 5 is known on day 10, day 10 on day 15.
        (25, 5, {"train_dates": 10, "test_dates": 5}, [(1, 5, 11, 15), (1, 10, 16, 20)]),
        (
            25,
            5,
            {"train_dates": 10, "test_dates": 5, "window": "sliding"},
            [(1, 5, 11, 15), (6, 10, 16, 20)],
        ),
        # The embargo begins on day 8, and on day 12: days 2 and 6 are known just before.
        (
            25,
            5,
            {"train_dates": 12, "test_dates": 4, "embargo": 5},
            [(1, 2, 13, 16), (1, 6, 17, 20)],
        ),
        (
            25,
            5,
            {"train_dates": 12, "test_dates": 4, "embargo": 5, "window": "sliding"},
            [(1, 2, 13, 16), (5, 6, 17, 20)],
        ),
        # 14 labelled days: two whole windows, and two days over.
        (
            15,
            1,
            {"train_dates": 6, "test_dates": 3},
            [(1, 5, 7, 9), (1, 8, 10, 12), (1, 11, 13, 14)],
        ),
        (
            15,
            1,
            {"train_dates": 6, "test_dates": 3, "reduce_test": False},
            [(1, 5, 7, 9), (1, 8, 10, 12)],
        ),
        # One window, shorter than asked for.
        (13, 1, {"train_dates": 6, "test_dates": 30}, [(1, 5, 7, 12)]),
    ],
)
def test_one_symbol_by_hand(
    n_days: int, horizon: int, parameters: dict[str, Any], folds: list[tuple[int, int, int, int]]
) -> None:
    table = one_symbol(n_days, horizon)
    splitter = WalkForwardSplit(**({"embargo": 0} | parameters))
    found = [
        (days_of(table, train), days_of(table, test))
        for train, test in splitter.split(table, groups=groups_of(table))
    ]
    assert found == [
        (
            [("A", day) for day in range(first, last + 1)],
            [("A", day) for day in range(first_test, last_test + 1)],
        )
        for first, last, first_test, last_test in folds
    ]
    assert splitter.get_n_splits(table, groups=groups_of(table)) == len(folds)


# B trades now and then, C from day 8 on; all end on day 13 or before.
CALENDARS = {
    "A": january(*range(1, 14)),
    "B": january(2, 4, 7, 10, 12),
    "C": january(*range(8, 14)),
}


def test_several_symbols_by_hand() -> None:
    table = feature_table(CALENDARS, horizon=1)
    splitter = WalkForwardSplit(train_dates=6, test_dates=3, embargo=0)
    first, second = splitter.split(None, groups=groups_of(table))
    # B's label of day 4 is known on day 7, when the test begins: purged, A's of day 4 is not.
    assert days_of(table, first[0]) == [*(("A", day) for day in range(1, 6)), ("B", 2)]
    assert days_of(table, first[1]) == [
        *(("A", day) for day in (7, 8, 9)),
        ("B", 7),
        *(("C", day) for day in (8, 9)),
    ]
    # Day 10 purges A's and C's label of day 9, and B's of day 7.
    assert days_of(table, second[0]) == [
        *(("A", day) for day in range(1, 9)),
        *(("B", day) for day in (2, 4)),
        ("C", 8),
    ]
    # B's day 12 is not labelled yet, though A's and C's are.
    assert days_of(table, second[1]) == [
        *(("A", day) for day in (10, 11, 12)),
        ("B", 10),
        *(("C", day) for day in (10, 11, 12)),
    ]


def test_the_order_of_rows_does_not_matter() -> None:
    table = feature_table(CALENDARS, horizon=1)
    shuffled = table.sample(frac=1, random_state=5)
    splitter = WalkForwardSplit(train_dates=6, test_dates=2, embargo=1, window="sliding")
    by_hand = splitter.split(table, groups=groups_of(table))
    for expected, found in zip(by_hand, splitter.split(shuffled, groups=shuffled), strict=True):
        for wanted, rows in zip(expected, found, strict=True):
            assert set(shuffled.index[rows]) == set(wanted)
            assert (np.diff(rows) > 0).all()


@pytest.mark.parametrize("window", ["expanding", "sliding"])
@pytest.mark.parametrize(("horizon", "embargo"), [(1, 0), (1, 1), (1, 5), (5, 0), (5, 5)])
def test_it_is_time_series_split_where_both_can_do_it(
    horizon: int, embargo: int, window: Any
) -> None:
    from sklearn.model_selection import TimeSeriesSplit

    # With one symbol the rows are the dates. Day t is trained on if t + horizon < s - embargo,
    # s being the first day tested: the last horizon + embargo rows before it are left out.
    # Those count among our train_dates, and not among scikit-learn's.
    gap = horizon + embargo
    days = pd.date_range("2024-01-01", periods=40 + 5 * 12 + horizon)
    table = pd.DataFrame({"date": days}).assign(label_known_at=lambda t: t["date"].shift(-horizon))
    ours = WalkForwardSplit(train_dates=40, test_dates=12, embargo=embargo, window=window)
    theirs = TimeSeriesSplit(
        5, test_size=12, gap=gap, max_train_size=40 - gap if window == "sliding" else None
    )
    labelled = table[table["label_known_at"].notna()]
    pairs = zip(ours.split(table, groups=table), theirs.split(labelled), strict=True)
    for found, expected in pairs:
        np.testing.assert_array_equal(found[0], expected[0])
        np.testing.assert_array_equal(found[1], expected[1])


def random_table(seed: int, n_symbols: int, presence: float, horizon: int) -> pd.DataFrame:
    """A quarter and more in which each symbol misses days of its own, its rows in any order."""
    random = np.random.default_rng(seed)
    weekdays = np.array([str(day)[:10] for day in pd.bdate_range("2024-01-01", periods=90)])
    calendars = {
        symbol: weekdays[random.random(90) < presence].tolist() for symbol in "ABC"[:n_symbols]
    }
    return feature_table(calendars, horizon).sample(frac=1, random_state=seed, ignore_index=True)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    n_symbols=st.integers(1, 3),
    presence=st.sampled_from([0.6, 0.9, 1.0]),
    horizon=st.integers(1, 5),
    embargo=st.integers(0, 5),
    train_dates=st.integers(22, 35),
    test_dates=st.integers(1, 15),
    window=st.sampled_from(["expanding", "sliding"]),
    reduce_test=st.booleans(),
)
def test_no_label_looks_ahead(
    seed: int,
    n_symbols: int,
    presence: float,
    horizon: int,
    embargo: int,
    train_dates: int,
    test_dates: int,
    window: Any,
    reduce_test: bool,
) -> None:
    table = random_table(seed, n_symbols, presence, horizon)
    splitter = WalkForwardSplit(
        train_dates=train_dates,
        test_dates=test_dates,
        embargo=embargo,
        window=window,
        reduce_test=reduce_test,
    )
    folds = list(splitter.split(table, groups=groups_of(table)))
    assert len(folds) == splitter.get_n_splits(table, groups=groups_of(table))
    date, known = list(table["date"]), list(table["label_known_at"])
    labelled = [row for row in range(len(table)) if not pd.isna(known[row])]
    calendar = sorted({date[row] for row in labelled})
    tested: list[int] = []
    for number, (train, test) in enumerate(folds):
        begin = train_dates + number * test_dates
        test_days = set(calendar[begin : begin + test_dates])
        assert {date[row] for row in test} == test_days
        assert len(test_days) == test_dates or (reduce_test and number == len(folds) - 1)
        boundary = calendar[begin - embargo]
        assert all(known[row] < boundary for row in train)
        # Nothing is purged that need not be.
        oldest = calendar[begin - train_dates] if window == "sliding" else calendar[0]
        assert train.tolist() == [
            row
            for row in labelled
            if oldest <= date[row] < calendar[begin] and known[row] < boundary
        ]
        tested += test.tolist()
    assert len(tested) == len(set(tested))
    over = 0 if reduce_test else (len(calendar) - train_dates) % test_dates
    covered = set(calendar[train_dates : len(calendar) - over])
    assert set(tested) == {row for row in labelled if date[row] in covered}


def cross_validation_case() -> tuple[pd.DataFrame, np.ndarray, pd.DataFrame]:
    table = random_table(seed=1, n_symbols=3, presence=0.9, horizon=1)
    random = np.random.default_rng(1)
    X = pd.DataFrame(random.normal(size=(len(table), 2)), columns=["a", "b"])
    y = (X["a"] + random.normal(size=len(table)) > 0).to_numpy().astype(int)
    return X, y, groups_of(table)


@pytest.mark.parametrize("as_array", [False, True])
def test_it_works_in_cross_val_score(as_array: bool) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_score

    X, y, frame = cross_validation_case()
    groups = frame.to_numpy() if as_array else frame
    splitter = WalkForwardSplit(train_dates=30, test_dates=20, embargo=2)
    scores = cross_val_score(LogisticRegression(), X, y, cv=splitter, groups=groups)
    by_hand = [
        LogisticRegression().fit(X.iloc[train], y[train]).score(X.iloc[test], y[test])
        for train, test in splitter.split(X, y, groups)
    ]
    assert len(by_hand) == 3
    assert scores.tolist() == by_hand


def test_it_works_in_a_grid_search_and_where_metadata_is_routed() -> None:
    import sklearn
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, cross_val_score

    X, y, groups = cross_validation_case()
    splitter = WalkForwardSplit(train_dates=30, test_dates=20, embargo=2)
    strengths = {"C": [1e-4, 1.0]}
    search = GridSearchCV(LogisticRegression(), strengths, cv=splitter, refit=False)
    search.fit(X, y, groups=groups)
    for place, strength in enumerate(strengths["C"]):
        scores = cross_val_score(LogisticRegression(C=strength), X, y, cv=splitter, groups=groups)
        assert search.cv_results_["mean_test_score"][place] == pytest.approx(scores.mean())
    with sklearn.config_context(enable_metadata_routing=True):
        routed = cross_val_score(LogisticRegression(), X, y, cv=splitter, params={"groups": groups})
    assert routed.tolist() == scores.tolist()


@pytest.mark.parametrize("window", ["expanding", "sliding"])
def test_a_fold_that_was_not_purged_is_stopped(
    monkeypatch: pytest.MonkeyPatch, window: Any
) -> None:
    table = one_symbol(25, horizon=5)
    splitter = WalkForwardSplit(train_dates=10, test_dates=5, embargo=0, window=window)
    assert len(list(splitter.split(table, groups=table))) == 2
    monkeypatch.setattr(walk_forward, "purge", lambda rows, known, boundary: rows)
    # The last of the labels known before day 11 is day 5's.
    with pytest.raises(RuntimeError, match=r"row 5 of 2024-01-06.* label known too late"):
        next(splitter.split(table, groups=table))
    with pytest.raises(RuntimeError, match="Look-ahead in the split"):
        purged_holdout(table["date"], table["label_known_at"], range(15), size=0.3, embargo=0)


def test_every_fold_is_checked_not_the_first_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    table = one_symbol(25, horizon=5)
    honest, calls = walk_forward.purge, []

    def forgets_the_second(rows: Any, known: Any, boundary: Any) -> Any:
        calls.append(boundary)
        return rows if len(calls) == 2 else honest(rows, known, boundary)

    monkeypatch.setattr(walk_forward, "purge", forgets_the_second)
    folds = WalkForwardSplit(train_dates=10, test_dates=5, embargo=0).split(table, groups=table)
    assert len(next(folds)[0]) == 5
    with pytest.raises(RuntimeError, match="row 10 of 2024-01-11"):
        next(folds)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train_dates": 0}, "train_dates must be 1 date or more, not 0"),
        ({"test_dates": -1}, "test_dates must be 1 date or more, not -1"),
        ({"test_dates": 0.2}, "test_dates must be a whole number of dates, not 0.2"),
        ({"embargo": -1}, "embargo must be 0 dates or more"),
        ({"embargo": 1.5}, "embargo must be a whole number"),
        ({"embargo": 20, "train_dates": 20}, "Lower embargo, or raise train_dates"),
        ({"window": "rolling"}, "'rolling'; choose one of .'expanding', 'sliding'."),
    ],
)
def test_parameters_out_of_range_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        WalkForwardSplit(**change)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"train_dates": 15, "test_dates": 3}, "15 dates with a known label are too few"),
        (
            {"train_dates": 14, "test_dates": 2, "reduce_test": False},
            "a test window of 2 or more do not fit",
        ),
        # Day 2 would have to be known before day 2.
        ({"train_dates": 4, "test_dates": 3, "embargo": 3}, "Nothing to train on before .*-05"),
    ],
)
def test_too_short_a_history_is_refused(parameters: dict[str, Any], message: str) -> None:
    table = one_symbol(16)
    with pytest.raises(ValueError, match=message):
        list(WalkForwardSplit(**({"embargo": 0} | parameters)).split(table, groups=table))


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (None, "groups must be table.*Pass groups="),
        (one_symbol(16)["date"], r"found the shape \(16,\)"),
        (np.zeros((16, 3)), r"found the shape \(16, 3\)"),
        (groups_of(one_symbol(15)), "found 15 rows for 16 of X"),
        (groups_of(one_symbol(16)).to_numpy()[:, ::-1], "Row 15 has no date"),
        (np.full((16, 2), "soon"), "dates must hold dates"),
    ],
)
def test_groups_that_are_no_dates_are_refused(groups: Any, message: str) -> None:
    splitter = WalkForwardSplit(train_dates=5, test_dates=5, embargo=0)
    with pytest.raises(ValueError, match=message):
        list(splitter.split(np.zeros((16, 2)), groups=groups))
    with pytest.raises(ValueError, match=message):
        splitter.get_n_splits(np.zeros((16, 2)), groups=groups)


def test_it_shows_its_parameters() -> None:
    assert repr(WalkForwardSplit(embargo=3)) == (
        "WalkForwardSplit(train_dates=756, test_dates=252, embargo=3, window='expanding', "
        "reduce_test=True)"
    )


# 30 labelled days of horizon 5; day d is known on day d + 5.
@pytest.mark.parametrize(
    ("last_row", "size", "embargo", "fit", "validation"),
    [
        # 20 days, 5 for validation from day 16 on: known before 16, before 11.
        (20, 0.25, 0, range(1, 11), range(16, 21)),
        (20, 0.25, 5, range(1, 6), range(16, 21)),
        # 0.24 of 20 days is 4.8, rounded up.
        (20, 0.24, 1, range(1, 10), range(16, 21)),
        (8, 0.1, 0, range(1, 3), range(8, 9)),
    ],
)
def test_holdout_by_hand(
    last_row: int, size: float, embargo: int, fit: range, validation: range
) -> None:
    table = one_symbol(31, horizon=5)
    found = purged_holdout(
        table["date"], table["label_known_at"], range(last_row), size=size, embargo=embargo
    )
    assert [days_of(table, rows) for rows in found] == [
        [("A", day) for day in fit],
        [("A", day) for day in validation],
    ]


def test_holdout_counts_its_embargo_in_the_dates_of_its_rows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table = one_symbol(16)
    rows = np.array([11, 10, 9, 8, 3, 2, 1, 0])
    # Validation is days 9 to 12. The rows' date before day 9 is day 4, so labels must be known
    # before it; in the table's own calendar it would be day 8, and days 3 and 4 would pass.
    fit, validation = purged_holdout(
        table["date"], table["label_known_at"], rows, size=0.5, embargo=1
    )
    assert days_of(table, fit) == [("A", 1), ("A", 2)]
    assert days_of(table, validation) == [("A", day) for day in range(9, 13)]
    # The check at run time counts likewise, and names the row by its place in the table.
    monkeypatch.setattr(walk_forward, "purge", lambda rows, known, boundary: rows)
    with pytest.raises(RuntimeError, match=r"row 2 of 2024-01-03.* embargo on 2024-01-04"):
        purged_holdout(table["date"], table["label_known_at"], rows, size=0.5, embargo=1)


def test_holdout_leaves_rows_without_a_label_out() -> None:
    table = one_symbol(16)
    fit, validation = purged_holdout(
        table["date"], table["label_known_at"], range(16), size=0.2, embargo=0
    )
    assert days_of(table, validation) == [("A", 13), ("A", 14), ("A", 15)]
    assert days_of(table, fit) == [("A", day) for day in range(1, 12)]


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    n_symbols=st.integers(1, 3),
    horizon=st.integers(1, 5),
    embargo=st.integers(0, 5),
    size=st.sampled_from([0.1, 0.2, 0.35]),
)
def test_holdout_of_a_fold_never_looks_ahead(
    seed: int, n_symbols: int, horizon: int, embargo: int, size: float
) -> None:
    table = random_table(seed, n_symbols, 0.8, horizon)
    splitter = WalkForwardSplit(train_dates=45, test_dates=10, embargo=embargo)
    train, _ = next(splitter.split(table, groups=groups_of(table)))
    fit, validation = purged_holdout(
        table["date"], table["label_known_at"], train, size=size, embargo=embargo
    )
    assert set(fit) | set(validation) <= set(train)
    date, known = table["date"], table["label_known_at"]
    calendar = sorted(set(date[train]))
    first = date[validation].min()
    assert set(validation) == {row for row in train if date[row] >= first}
    assert len(set(date[validation])) == int(np.ceil(round(size * len(calendar), 9)))
    boundary = calendar[calendar.index(first) - embargo]
    assert set(fit) == {row for row in train if date[row] < first and known[row] < boundary}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": 0.0}, "size must be above 0 and below 1"),
        ({"size": 1.0}, "size must be above 0 and below 1"),
        ({"embargo": -1}, "embargo must be 0 dates or more"),
        ({"rows": []}, "0 labelled dates less 0 for validation"),
        ({"rows": [3]}, "1 labelled dates less 1 for validation leave none to fit on"),
        ({"rows": [15]}, "0 labelled dates"),
        ({"embargo": 9}, "reaches back beyond the first labelled date"),
        ({"embargo": 7}, "Nothing to fit on: of 10 labelled dates"),
    ],
)
def test_a_holdout_that_leaves_nothing_is_refused(change: dict[str, Any], message: str) -> None:
    table = one_symbol(16)
    asked: dict[str, Any] = {
        "dates": table["date"],
        "label_known_at": table["label_known_at"],
        "rows": range(10),
        "size": 0.2,
        "embargo": 0,
    } | change
    with pytest.raises(ValueError, match=message):
        purged_holdout(**asked)
