"""The leak alarm: it fires on what is planted, and hardly ever on what knows nothing."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from steps.learning import leaks
from steps.learning.bootstrap import Interval, block_length
from steps.learning.intervals import auc_interval
from steps.learning.leaks import (
    Suspicion,
    alarm,
    auc_too_good,
    feature_too_good,
    features_look_ahead,
    labels_overlap,
)
from steps.learning.splits import purged_split


def no_skill(
    seed: int, *, n_days: int, n_symbols: int = 3, n_features: int = 12, horizon: int = 1
) -> tuple[pd.DataFrame, list[str]]:
    """Directions of random walks, and features that last for days but know nothing of them.

    All have half their variance in common on a day, as the stocks of a market do.
    """
    random = np.random.default_rng(seed)

    def market(n_rows: int) -> np.ndarray:
        return random.normal(size=(n_rows, 1)) + random.normal(size=(n_rows, n_symbols))

    walk = np.cumsum(market(n_days + horizon), axis=0)
    columns = {}
    for number in range(n_features):
        lasting = [0.0, 0.5, 0.9, 0.95, 0.98, 0.99][number % 6]
        feature = market(n_days)
        for day in range(1, n_days):
            feature[day] = lasting * feature[day - 1] + math.sqrt(1 - lasting**2) * feature[day]
        columns[f"feature_{number}"] = feature.astype(np.float32).T.ravel()
    table = pd.DataFrame(
        {
            "date": np.tile(pd.bdate_range("2020-01-01", periods=n_days), n_symbols),
            "symbol": np.repeat([f"S{number}" for number in range(n_symbols)], n_days),
            **columns,
            "direction": pd.array((walk[horizon:] > walk[:-horizon]).T.ravel(), dtype="Int8"),
        }
    )
    return table, list(columns)


def forecast(y: np.ndarray, skill: float, seed: int) -> np.ndarray:
    """Give ups a normal score that lies `skill` higher: the AUC is Phi(skill / sqrt 2)."""
    score = skill * y + np.random.default_rng(seed).normal(size=len(y))
    return 1 / (1 + np.exp(-score))


# --- An AUC that is too good ---


def interval_of(n_rows: int, skill: float, seed: int = 0) -> Interval:
    y = np.random.default_rng(seed + 100).integers(0, 2, n_rows)
    return auc_interval(y, forecast(y, skill, seed), np.arange(n_rows) // 4, n_resamples=200)


def test_an_auc_of_060_on_2000_rows_is_suspected_and_none_without_skill() -> None:
    planted = interval_of(2000, skill=0.36)  # Phi(0.36 / sqrt 2) = 0.60
    assert planted.value == pytest.approx(0.6, abs=0.03)
    (suspicion,) = auc_too_good(planted)
    assert suspicion.kind == "auc"
    assert suspicion.evidence == (
        f"AUC {planted.value:.3f}, interval {planted.low:.3f} to {planted.high:.3f}, above 0.55: "
        "directions are not known that well"
    )
    assert auc_too_good(interval_of(2000, skill=0.0)) == []


@pytest.mark.parametrize(
    ("value", "low", "suspected"),
    [
        (0.56, 0.51, True),
        (0.55, 0.51, False),  # on the bound
        (0.60, 0.50, False),  # chance cannot be ruled out
        (0.40, 0.35, False),
        (0.60, math.nan, False),
        (math.nan, math.nan, False),
    ],
)
def test_an_auc_must_be_above_the_bound_and_surely_above_one_half(
    value: float, low: float, suspected: bool
) -> None:
    assert bool(auc_too_good(Interval(value, low, 0.7, 0.95, 10, 1000))) is suspected


def test_the_bound_can_be_set() -> None:
    interval = Interval(0.6, 0.58, 0.62, 0.95, 10, 1000)
    assert auc_too_good(interval, bound=0.65) == []
    assert "above 0.59" in auc_too_good(interval, bound=0.59)[0].evidence


# --- A feature that is too good ---


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), n_rows=st.integers(2, 60), n_values=st.integers(1, 30))
def test_a_features_auc_is_scikit_learns_ties_and_all(
    seed: int, n_rows: int, n_values: int
) -> None:
    random = np.random.default_rng(seed)
    up = random.integers(0, 2, n_rows).astype(bool)
    values = pd.Series(random.integers(-n_values, n_values, n_rows), dtype=np.float32) / 7
    if 0 < up.sum() < n_rows:
        assert leaks._feature_auc(values, up) == pytest.approx(roc_auc_score(up, values))
    else:
        assert math.isnan(leaks._feature_auc(values, up))


@pytest.mark.parametrize(("sign", "said"), [(1, " alone"), (-1, " turned upside down alone")])
def test_a_feature_made_from_the_label_is_suspected_and_no_other(sign: int, said: str) -> None:
    table, names = no_skill(0, n_days=300)
    y = table["direction"].to_numpy(dtype=np.int8)
    leak = (sign * forecast(y, skill=0.5, seed=1)).astype(np.float32)
    assert feature_too_good(table, names, horizon=1) == []
    (suspicion,) = feature_too_good(table.assign(leak=leak), [*names, "leak"], horizon=1)
    assert suspicion.kind == "feature"
    auc = roc_auc_score(y, sign * leak)
    assert suspicion.evidence.startswith(f"feature leak{said} has AUC {auc:.3f}, interval 0.")
    assert "(widened for 13 features), above 0.55" in suspicion.evidence


def test_the_strongest_feature_comes_first() -> None:
    table, _ = no_skill(0, n_days=300)
    y = table["direction"].to_numpy(dtype=np.int8)
    table["weak"], table["strong"] = forecast(y, 0.6, seed=1), -forecast(y, 2.0, seed=2)
    found = feature_too_good(table, ["weak", "strong"], horizon=1)
    assert [each.evidence.split()[1] for each in found] == ["strong", "weak"]


def test_a_copy_of_the_label_is_suspected() -> None:
    table, _ = no_skill(0, n_days=300)
    table["copy"] = table["direction"].astype("float32")
    (suspicion,) = feature_too_good(table, ["copy"], horizon=1)
    assert "AUC 1.000, interval 1.000 to 1.000" in suspicion.evidence


def test_rows_without_a_label_do_not_count() -> None:
    table, _ = no_skill(0, n_days=300)
    table["leak"] = forecast(table["direction"].to_numpy(dtype=np.int8), skill=0.6, seed=1)
    late = table["date"] >= table["date"].max() - pd.Timedelta(30, "D")
    unknown = table.assign(direction=table["direction"].mask(late))
    assert feature_too_good(unknown, ["leak"], horizon=1) == feature_too_good(
        table[~late], ["leak"], horizon=1
    )
    assert feature_too_good(table.assign(direction=pd.NA), ["leak"], horizon=1) == []


@pytest.mark.parametrize("directions", [[0], [1]])
def test_where_nothing_can_be_said_nothing_is_suspected(directions: list[int]) -> None:
    table, names = no_skill(0, n_days=40)
    one_class = table.assign(direction=pd.array(directions * len(table), dtype="Int8"))
    assert feature_too_good(one_class, names, horizon=1) == []
    few_days = table.assign(copy=table["direction"].astype("float32"))
    assert feature_too_good(few_days, ["copy"], horizon=21) == []  # not two blocks of dates
    assert feature_too_good(table, [], horizon=1) == []


def test_a_feature_with_missing_values_is_refused_by_name() -> None:
    table, names = no_skill(0, n_days=40)
    table.loc[3, names[1]] = math.nan
    with pytest.raises(ValueError, match="feature feature_1 has 1 missing values in labelled rows"):
        feature_too_good(table, names, horizon=1)


@pytest.mark.slow
@pytest.mark.parametrize(("n_days", "horizon"), [(120, 1), (250, 5)])
def test_the_alarm_is_seldom_false(n_days: int, horizon: int) -> None:
    """On 200 tables without skill the features' alarm should fire on 10 (5 %), give or take 3.

    The forecast's, which looks one way only, should on 5. Three such errors are allowed for: at
    most 19, a false-positive rate below 10 %; 2 % to 6 % were measured. The tables are short, for
    on long ones chance never reaches the bound. A bound without an interval fires on most.
    """
    fired = {"auc": 0, "feature": 0, "bound alone": 0}
    for seed in range(200):
        table, names = no_skill(seed, n_days=n_days, horizon=horizon)
        up = table["direction"].to_numpy(dtype=bool)
        aucs = [leaks._feature_auc(table[name], up) for name in names]
        fired["bound alone"] += max(max(auc, 1 - auc) for auc in aucs) > leaks.SUSPICIOUS_AUC
        fired["feature"] += bool(feature_too_good(table, names, horizon=horizon, n_resamples=500))
        interval = auc_interval(
            up,
            table["feature_2"].rank(pct=True),
            table["date"],
            block_length=block_length(horizon),
            n_resamples=500,
        )
        fired["auc"] += bool(auc_too_good(interval))
    assert fired["feature"] <= 19, fired
    assert fired["auc"] <= 19, fired
    assert fired["bound alone"] >= 100, fired


# --- Labels that overlap ---


def windows(**last_known: str | None) -> dict[str, object]:
    first = {"train": "2020-01-01", "validation": "2021-01-01", "test": "2022-01-01"}
    return {
        name: {"first_date": day, "last_label_known_at": last_known.get(name)}
        for name, day in first.items()
    } | {"purged_rows": 3, "embargo": 5}


@pytest.mark.parametrize(
    ("last_known", "evidence"),
    [
        ({"train": "2020-12-31", "validation": "2021-12-31", "test": "2023-01-01"}, []),
        (
            {"train": "2021-01-01", "validation": "2021-12-31"},
            [
                "the last label of train was known on 2021-01-01, not before validation began on "
                "2021-01-01"
            ],
        ),
        (
            {"train": "2020-12-31", "validation": "2022-01-05"},
            [
                "the last label of validation was known on 2022-01-05, not before test began on "
                "2022-01-01"
            ],
        ),
        ({}, []),  # older runs do not say when labels were known
    ],
)
def test_a_label_known_in_a_later_windows_time_is_suspected(
    last_known: dict[str, str], evidence: list[str]
) -> None:
    found = labels_overlap(windows(**last_known))
    assert [each.evidence for each in found] == evidence
    assert {each.kind for each in found} <= {"overlap"}


def test_train_is_held_against_test_too() -> None:
    found = labels_overlap(windows(train="2022-02-01", validation="2021-12-01"))
    assert [each.evidence.split(" not before ")[1].split()[0] for each in found] == [
        "validation",
        "test",
    ]
    without_validation = {k: v for k, v in windows(train="2022-02-01").items() if k != "validation"}
    assert len(labels_overlap(without_validation)) == 1


def test_windows_that_say_nothing_of_their_labels_are_left_alone() -> None:
    older = {"train": {"last_date": "2020-12-31"}, "test": {"first_date": "2020-01-01"}}
    assert labels_overlap(older) == []
    assert labels_overlap({}) == []


def test_a_purged_split_is_not_suspected_and_one_purged_for_too_short_a_horizon_is() -> None:
    days = pd.bdate_range("2020-01-01", periods=210).to_numpy()
    dates, next_day, ten_later = days[:200], days[1:201], days[10:]
    sizes = {"validation_size": 0.2, "test_size": 0.2, "embargo": 0}
    assert labels_overlap(purged_split(dates, ten_later, **sizes).describe()) == []
    wrong = purged_split(dates, next_day, **sizes)
    described = wrong.describe()
    for name in ("train", "validation", "test"):  # when the labels really were known
        last = ten_later[getattr(wrong, name)].max()
        described[name]["last_label_known_at"] = str(last.astype("datetime64[D]"))
    assert len(labels_overlap(described)) == 2


# --- Features that look ahead, and the alarm ---


ENTRY = {
    "feature": "return_1d",
    "symbol": "IBM",
    "date": "2020-01-03",
    "value": float(np.float32(0.1)),
    "value_before": 0.25,
    "rows": 2,
    "later_rows": "cut off",
}


@pytest.mark.parametrize(
    ("changed", "evidence"),
    [
        ({}, "is 0.1, but was 0.25 before later rows came: it looks ahead"),
        ({"value_before": None}, "is 0.1, but was missing before later rows came: it looks ahead"),
        (
            {"later_rows": "changed"},
            "is 0.1, but would be 0.25 had later rows been others: it looks ahead",
        ),
    ],
)
def test_what_featurize_found_is_said_in_words(changed: dict[str, object], evidence: str) -> None:
    (suspicion,) = features_look_ahead({"lookahead": [ENTRY | changed]})
    assert suspicion == Suspicion("lookahead", f"feature return_1d of IBM on 2020-01-03 {evidence}")


def test_two_values_that_differ_are_written_differently() -> None:
    near = np.nextafter(np.float32(0.1), np.float32(1))
    (suspicion,) = features_look_ahead({"lookahead": [ENTRY | {"value_before": float(near)}]})
    assert "is 0.1, but was 0.10000001 before" in suspicion.evidence


@pytest.mark.parametrize("provenance", [{}, {"lookahead": []}])
def test_a_snapshot_without_findings_is_not_suspected(provenance: dict[str, object]) -> None:
    assert features_look_ahead(provenance) == []


def test_the_alarm_is_one_line() -> None:
    assert alarm([]) == "none"
    assert alarm([Suspicion("auc", "this"), Suspicion("overlap", "that")]) == (
        "LEAK SUSPECTED: this; that"
    )


def test_a_long_alarm_fits_a_tag_and_says_how_much_is_left_out() -> None:
    line = alarm([Suspicion("feature", f"{number:03} {'x' * 96}") for number in range(100)])
    assert 4800 < len(line) <= 5000
    shown = line.removeprefix("LEAK SUSPECTED: ").split("; ")
    assert shown[-1] == f"and {100 - len(shown) + 1} more"
    assert shown[0].startswith("000 ")
    whole = alarm([Suspicion("feature", "y" * 4984)])
    assert len(whole) == 5000
    assert whole.endswith("y")
    cut = alarm([Suspicion("feature", "y" * 4985)])
    assert len(cut) == 5000
    assert cut.endswith("y…")
