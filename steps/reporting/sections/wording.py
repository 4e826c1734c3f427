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
