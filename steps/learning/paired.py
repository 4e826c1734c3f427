"""Which of two models forecasts better, on the same rows."""

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from steps.learning.bootstrap import DateBootstrap, Interval, block_length, ratio_of_sums
from steps.learning.intervals import row_log_losses
from steps.learning.scores import check_forecast

Winner = Literal["challenger", "champion", "undecided"]


@dataclass(frozen=True)
class PairedComparison:
    """Two models' log-losses on the same rows, and how sure their difference is.

    Attributes
    ----------
    rows, dates : int
        Numbers of rows and of different dates.
    champion_log_loss, challenger_log_loss : float
        Means over the rows, in nats.
    gain : Interval
        The champion's log-loss less the challenger's: above 0 where the challenger is better.
        Its ends are NaN when there are too few dates.
    p_value : float
        Two-sided, of the hypothesis that neither is better; NaN when there are too few dates.
    winner : {"challenger", "champion", "undecided"}
        Whom the whole interval favours.
    """

    rows: int
    dates: int
    champion_log_loss: float
    challenger_log_loss: float
    gain: Interval
    p_value: float
    winner: Winner

    def describe(self) -> dict[str, Any]:
        """Return all of it as JSON can hold it: NaN becomes None."""
        return {name: _without_nan(value) for name, value in asdict(self).items()}

    @property
    def sentence(self) -> str:
        """Say who won, by how much, and how sure that is."""
        where = f"on {self.rows:,} rows of {self.dates:,} dates"
        champion = f"{self.champion_log_loss:.4f}"
        challenger = f"{self.challenger_log_loss:.4f}"
        if np.isnan(self.gain.low):
            return (
                f"Too few dates to tell the challenger (log-loss {challenger}) from the champion "
                f"({champion}) {where}."
            )
        findings = {
            "challenger": "The challenger is better than the champion",
            "champion": "The challenger is worse than the champion",
            "undecided": "The challenger cannot be told from the champion",
        }
        return (
            f"{findings[self.winner]}: log-loss {challenger} against {champion} {where}, "
            f"gain {self.gain.value:z.4f}, {100 * self.gain.confidence:g} % interval "
            f"{self.gain.low:z.4f} to {self.gain.high:z.4f}, p = {self.p_value:.2g}."
        )


def compare_losses(
    dates: ArrayLike,
    y_true: ArrayLike,
    champion_proba: ArrayLike,
    challenger_proba: ArrayLike,
    *,
    horizon: int,
    confidence: float = 0.95,
    n_resamples: int = 1000,
    random_state: int = 0,
) -> PairedComparison:
    """Compare two forecasts by the difference of their log-losses, row by row.

    What is hard for one model is hard for the other, so the paired difference is far surer
    than two separate scores. Whole blocks of consecutive dates are resampled, for losses of
    one date, and of labels that overlap, move together.

    Parameters
    ----------
    dates : array-like, shape (n_rows,)
        Each row's date.
    y_true : array-like of 0 and 1, shape (n_rows,)
        What came.
    champion_proba, challenger_proba : array-like of float, shape (n_rows,)
        The forecast probabilities of 1.
    horizon : int
        Trading days ahead, as in the label; sets the blocks' length.
    confidence : float
        Above 0 and below 1.
    n_resamples, random_state : int
        Number of resamples, and their seed.

    Returns
    -------
    PairedComparison
        The winner is whom the whole interval of the gain favours. Forecasts that are equal
        have a gain of 0 and a p-value of 1.

    Raises
    ------
    ValueError
        On no rows, unequal lengths, labels other than 0 and 1, probabilities outside [0, 1],
        or a setting out of its range.

    References
    ----------
    F. X. Diebold and R. S. Mariano, "Comparing predictive accuracy", Journal of Business &
    Economic Statistics 13 (1995), on differences of losses. H. R. Künsch, "The jackknife and
    the bootstrap for general stationary observations", Annals of Statistics 17 (1989), on
    blocks. See `DateBootstrap.p_value` on the p-value.
    """
    y, champion = check_forecast(y_true, champion_proba)
    _, challenger = check_forecast(y, challenger_proba)
    losses = row_log_losses(y, champion), row_log_losses(y, challenger)
    bootstrap = DateBootstrap(
        dates,
        block_length=block_length(horizon),
        n_resamples=n_resamples,
        random_state=random_state,
    )
    gains = bootstrap.day_sums(losses[0] - losses[1])
    mean_gain = ratio_of_sums(gains, bootstrap.day_sums(np.ones(len(y))))
    gain = bootstrap.interval(mean_gain, confidence=confidence)
    return PairedComparison(
        rows=len(y),
        dates=len(bootstrap.days),
        champion_log_loss=float(losses[0].mean()),
        challenger_log_loss=float(losses[1].mean()),
        gain=gain,
        p_value=bootstrap.p_value(mean_gain, confidence=confidence),
        winner=_winner(gain),
    )


def _winner(gain: Interval) -> Winner:
    if gain.low > 0:
        return "challenger"
    return "champion" if gain.high < 0 else "undecided"


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value
