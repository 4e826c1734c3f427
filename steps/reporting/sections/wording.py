"""Names and intervals as the sections write them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from steps.reporting.findings import Estimate
from steps.reporting.page import write_value
from steps.reporting.style import NOT_KNOWN

_ACRONYMS: Final = {
    "id": "ID",
    "uri": "URI",
    "url": "URL",
    "auc": "AUC",
    "roc": "ROC",
    "ic": "IC",
    "sha256": "SHA-256",
}

# Score: what it is called, how it is written, what it says.
SCORES: Final = {
    "accuracy": ("Accuracy", ".3f", "share of calls that came true"),
    "precision": ("Precision", ".3f", "share of the calls up that came up"),
    "recall": ("Recall", ".3f", "share of the ups that were called"),
    "f1": ("F1", ".3f", "harmonic mean of precision and recall"),
    "auc_roc": ("AUC", ".3f", "chance that an up was given more than a down; 0.5 is a coin"),
    "log_loss": ("Log-loss", ".4f", "in nats, lower is better; 0.6931 says one half to all"),
    "brier_score": ("Brier score", ".4f", "mean squared error, lower is better"),
    "log_loss_gain": ("Log-loss gain", "+.5f", "base rate's log-loss less the model's"),
}


def in_words(name: str, *, capital: bool = True) -> str:
    """Write the name of a score, parameter or column as words.

    Examples
    --------
    >>> in_words("feature_snapshot_id"), in_words("auc_roc", capital=False)
    ('Feature snapshot ID', 'AUC ROC')
    """
    words = " ".join(_ACRONYMS.get(word, word) for word in name.split("_")).strip()
    return words[:1].upper() + words[1:] if capital else words


def interval_name(estimates: Mapping[str, Estimate]) -> str:
    """Name the intervals by their confidence, where they share one."""
    confidences = {estimate.confidence for estimate in estimates.values()}
    if len(confidences) != 1:
        return "interval"
    return f"{100 * confidences.pop():g} % interval"


def ends(estimate: Estimate, spec: str) -> str:
    """Write an interval's ends; a dash where there are none."""
    if np.isnan(estimate.low):
        return NOT_KNOWN
    return f"{write_value(estimate.low, spec)} to {write_value(estimate.high, spec)}"


def write_p(p_value: float) -> str:
    """Write a p-value as people do.

    Examples
    --------
    >>> write_p(0.04312), write_p(0.0002), write_p(1.0)
    ('0.043', '<0.001', '1.000')
    """
    return "<0.001" if p_value < 0.001 else write_value(p_value, ".3f")
