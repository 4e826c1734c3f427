"""The feature sets, declared.

To add a feature, add one `Feature` to a set, raise the set's version, and put the feature's
independent definition in the tests; if it smooths recursively, say when it settles. Every feature
is free of price level: multiplying a symbol's prices or its volumes by a constant changes nothing,
so that one model can learn from a $1 and a $1,000 stock alike.
"""

from collections.abc import Mapping
from functools import partial
from math import inf
from types import MappingProxyType

from steps.market import indicators
from steps.market.feature_set import Feature, FeatureSet, compute_features

__all__ = ["FEATURE_SETS", "Feature", "FeatureSet", "compute_features", "get_feature_set"]

_APPEL = "Appel (2005), Technical Analysis: Power Tools for Active Investors"
_BOLLINGER = "Bollinger (2001), Bollinger on Bollinger Bands"
_CAMPBELL = "Campbell, Lo & MacKinlay (1997), The Econometrics of Financial Markets"
_CHAIKIN = "Chaikin's accumulation/distribution, in Achelis (2000), Technical Analysis from A to Z"
_CONNORS = "Connors & Raschke (1995), Street Smarts"
_FRENCH = "French (1980), Stock returns and the weekend effect"
_GERVAIS = "Gervais, Kaniel & Mingelgrin (2001), The high-volume return premium"
_GRANVILLE = "Granville (1963), New Key to Stock Market Profits"
_LANE = "Lane (1984), Lane's stochastics"
_LOU = "Lou, Polk & Skouras (2019), A tug of war: overnight versus intraday expected returns"
_PARKINSON = "Parkinson (1980), The extreme value method for estimating the variance of returns"
_QUONG = "Quong & Soudack (1989), Volume-weighted RSI: money flow"
_ROZEFF = "Rozeff & Kinney (1976), Capital market seasonality: the case of stock returns"
_WILDER = "Wilder (1978), New Concepts in Technical Trading Systems"

# Rows after which a recursive mean has forgotten where its history starts.
#
# Wilder's mean over 14 days keeps 13/14 of itself a day, the 26-day mean of MACD 25/27; MACD's
# other means forget faster. Let what the earlier rows left in them be as large as after a fall to
# a thousandth: some 100 closes of true range, where a mean day has a hundredth of one (10^4 times
# as much); some 1,000 closes in the 26-day mean, where the histogram is a few thousandths of one
# (2 * 10^5 times). After 700 rows there is left, as a share of the value,
#
#     RSI, DI spread, ATR    10^4 * (13/14)^700             = 3 * 10^-19
#     MACD histogram         2 * 10^5 * (25/27)^700         = 8 * 10^-19
#     ADX, smoothed twice    10^4 * (13/14)^700 * 700/14    = 1 * 10^-17
#
# all below half the last bit of a float64, 2^-53 = 10^-16. Sums that were equal but for rounding
# mostly become equal altogether: measured on 3,000 random walks, rows 700 to 799 of both histories
# are the same float64 after an ordinary start, and in 99.6 % or more of cases after a fall to a
# thousandth. Averaged over all of them, equal or not, 2 * 10^-18 of the value differs, which a
# float32, with 24 bits, shows once in some 10^10 values. Counted on 60,000 walks after such a
# fall, 1 in 9,000 float32 values of the slowest feature differs around row 500, 1 in 200,000
# around row 550, none of 60 million from row 700 on; after an ordinary start, none from row 466 on.
#
# Where prices stand still, nothing new comes in, and the share of the start stays what it was at
# the last move: RSI, ADX and DI spread, being ratios of such means, then do not change at all.
_SETTLES = 700

_CORE = FeatureSet(
    name="core",
    version="1.0",
    features=(
        *(
            Feature(
                name=f"return_{days}d",
                formula=f"close[t] / close[t-{days}] - 1",
                source=_CAMPBELL,
                lookback=days,
                low=-1.0,
                high=inf,
                compute=partial(indicators.simple_return, days=days),
            )
            for days in (1, 2, 5, 10, 20)
        ),
        Feature(
            name="overnight_return",
            formula="open[t] / close[t-1] - 1",
            source=_LOU,
            lookback=1,
            low=-1.0,
            high=inf,
            compute=indicators.overnight_return,
        ),
        Feature(
            name="intraday_return",
            formula="close / open - 1",
            source=_LOU,
            lookback=0,
            low=-1.0,
            high=inf,
            compute=indicators.intraday_return,
        ),
        Feature(
            name="rsi_14",
            formula="100 * smoothed gains / (gains + losses), 14 days; 50 if both are 0",
            source=_WILDER,
            lookback=14,
            low=0.0,
            high=100.0,
            compute=partial(indicators.relative_strength, days=14),
            settles=_SETTLES,
        ),
        Feature(
            name="macd_histogram",
            formula="(MACD - signal) / close, with 12, 26 and 9 days",
            source=_APPEL,
            lookback=33,
            low=-inf,
            high=inf,
            compute=partial(indicators.macd_histogram, fast=12, slow=26, signal=9),
            settles=_SETTLES,
        ),
        Feature(
            name="bollinger_position",
            formula="(close - lower) / (upper - lower), 20 days, 2 std; 1/2 if the band is flat",
            source=_BOLLINGER,
            lookback=19,
            low=0.5 - 19**0.5 / 4.0,
            high=0.5 + 19**0.5 / 4.0,
            compute=partial(indicators.bollinger_position, days=20),
        ),
        Feature(
            name="stochastic_k_14",
            formula="(close - lowest low) / (highest high - lowest low), 14 days; 1/2 if flat",
            source=_LANE,
            lookback=13,
            low=0.0,
            high=1.0,
            compute=partial(indicators.stochastic_k, days=14),
        ),
        Feature(
            name="adx_14",
            formula="smoothed 100 * |+DI - -DI| / (+DI + -DI), 14 days; 0 until prices move",
            source=_WILDER,
            lookback=27,
            low=0.0,
            high=100.0,
            compute=partial(indicators.average_directional_index, days=14),
            settles=_SETTLES,
        ),
        Feature(
            name="di_spread_14",
            formula="100 * smoothed (+DM - -DM) / smoothed true range, 14 days; 0 if flat",
            source=_WILDER,
            lookback=14,
            low=-100.0,
            high=100.0,
            compute=partial(indicators.directional_spread, days=14),
            settles=_SETTLES,
        ),
        Feature(
            name="atr_14_ratio",
            formula="average true range / close, 14 days",
            source=_WILDER,
            lookback=14,
            low=0.0,
            high=inf,
            compute=partial(indicators.average_true_range, days=14),
            settles=_SETTLES,
        ),
        Feature(
            name="high_low_range",
            formula="(high - low) / close",
            source=_PARKINSON,
            lookback=0,
            low=0.0,
            high=inf,
            compute=indicators.high_low_range,
        ),
        Feature(
            name="close_location",
            formula="((close - low) - (high - close)) / (high - low); 0 if high equals low",
            source=_CHAIKIN,
            lookback=0,
            low=-1.0,
            high=1.0,
            compute=indicators.close_location,
        ),
        Feature(
            name="volatility_20",
            formula="standard deviation (ddof 0) of the last 20 one-day returns",
            source=_CAMPBELL,
            lookback=20,
            low=0.0,
            high=inf,
            compute=partial(indicators.volatility, days=20),
        ),
        Feature(
            name="volatility_ratio_5_20",
            formula="volatility over 5 days / volatility over 20 days; 1 if flat",
            source=_CONNORS,
            lookback=20,
            low=0.0,
            high=2.0,
            compute=partial(indicators.volatility_ratio, short=5, long=20),
        ),
        Feature(
            name="volume_ratio_20",
            formula="volume / mean volume of 20 days; 1 if that mean is 0",
            source=_GERVAIS,
            lookback=19,
            low=0.0,
            high=20.0,
            compute=partial(indicators.volume_ratio, days=20),
        ),
        Feature(
            name="obv_slope_20",
            formula="slope of on-balance volume / mean volume, 20 days; 0 if that mean is 0",
            source=_GRANVILLE,
            lookback=19,
            low=-600.0 / 399.0,
            high=600.0 / 399.0,
            compute=partial(indicators.obv_slope, days=20),
        ),
        Feature(
            name="money_flow_14",
            formula="100 * rising / (rising + falling) money flow, 14 days; 50 if both are 0",
            source=_QUONG,
            lookback=14,
            low=0.0,
            high=100.0,
            compute=partial(indicators.money_flow, days=14),
        ),
        Feature(
            name="day_of_week",
            formula="0 for Monday to 6 for Sunday",
            source=_FRENCH,
            lookback=0,
            low=0.0,
            high=6.0,
            compute=indicators.day_of_week,
        ),
        Feature(
            name="month",
            formula="1 for January to 12 for December",
            source=_ROZEFF,
            lookback=0,
            low=1.0,
            high=12.0,
            compute=indicators.month,
        ),
    ),
)

FEATURE_SETS: Mapping[str, FeatureSet] = MappingProxyType({_CORE.name: _CORE})


def get_feature_set(name: str) -> FeatureSet:
    """Look up a feature set.

    Raises
    ------
    ValueError
        If there is none of that name; the message lists those there are.
    """
    if name not in FEATURE_SETS:
        raise ValueError(
            f"there is no feature set {name!r}; choose one of: {', '.join(sorted(FEATURE_SETS))}"
        )
    return FEATURE_SETS[name]
