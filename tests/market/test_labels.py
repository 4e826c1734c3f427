import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steps.market.labels import label_definition, label_direction


def closes(**by_symbol):
    return pd.concat(
        [
            pd.DataFrame(
                {
                    "date": pd.date_range("2024-01-01", periods=len(close)).astype("datetime64[s]"),
                    "symbol": pd.array([symbol] * len(close), dtype="str"),
                    "close": [float(value) for value in close],
                }
            )
            for symbol, close in by_symbol.items()
        ],
        ignore_index=True,
    )


def test_direction_by_hand():
    labels = label_direction(closes(A=[10, 11, 11, 9], B=[5, 6]), horizon=1)
    assert labels["symbol"].tolist() == ["A"] * 4 + ["B"] * 2
    assert labels["direction"].fillna(-1).tolist() == [1, 0, 0, -1, 1, -1]
    assert labels["label_known_at"].dt.day.fillna(0).tolist() == [2, 3, 4, 0, 2, 0]


def test_types_and_index_follow_the_contract():
    prices = closes(A=[1, 2, 3]).set_axis([7, 8, 9])
    labels = label_direction(prices, horizon=2)
    assert labels.dtypes.astype(str).to_dict() == {
        "date": "datetime64[s]",
        "symbol": "str",
        "direction": "Int8",
        "label_known_at": "datetime64[s]",
    }
    assert labels.index.tolist() == [7, 8, 9]


def test_label_is_known_on_a_trading_day_not_a_calendar_day():
    prices = closes(A=[1, 2, 3])
    prices["date"] = pd.to_datetime(["2024-03-28", "2024-04-01", "2024-04-02"]).astype(
        "datetime64[s]"
    )
    known = label_direction(prices, horizon=1)["label_known_at"]
    assert known[0] == pd.Timestamp("2024-04-01")  # Thursday before Easter to Monday after


@pytest.mark.slow
@settings(max_examples=50, deadline=None)
@given(
    horizon=st.integers(1, 8),
    by_symbol=st.lists(st.lists(st.integers(1, 5), min_size=1, max_size=12), min_size=1),
)
def test_direction_agrees_with_a_loop(horizon, by_symbol):
    labels = label_direction(closes(**{f"S{i}": c for i, c in enumerate(by_symbol)}), horizon)
    expected = []
    for close in by_symbol:
        for t in range(len(close)):
            known = t + horizon < len(close)
            expected.append(int(close[t + horizon] / close[t] - 1 > 0) if known else -1)
    assert labels["direction"].fillna(-1).tolist() == expected
    assert (labels["label_known_at"].isna() == labels["direction"].isna()).all()


def test_symbol_shorter_than_the_horizon_has_no_known_label():
    labels = label_direction(closes(A=[1, 2, 3], B=[1, 2, 3, 4]), horizon=3)
    assert labels["direction"].isna().tolist() == [True] * 3 + [False] + [True] * 3
    assert labels.loc[:2, "label_known_at"].isna().all()


@pytest.mark.parametrize("horizon", [0, -1])
def test_horizon_below_one_day_is_refused(horizon):
    with pytest.raises(ValueError, match=rf"at least 1 trading day, found {horizon}"):
        label_direction(closes(A=[1, 2]), horizon)
    with pytest.raises(ValueError, match=rf"at least 1 trading day, found {horizon}"):
        label_definition(horizon)


def test_definition_for_the_manifest():
    definition = label_definition(5)
    assert definition["name"] == "direction"
    assert definition["horizon"] == 5
    assert "close[t + horizon] > close[t]" in str(definition["definition"])
