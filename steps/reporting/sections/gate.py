"""What the gate said, and why: the alarm first."""

from __future__ import annotations

from typing import Final

from steps.reporting.findings import EvaluationFindings
from steps.reporting.page import Mark, Notice, Section, Table, Text, tidy
from steps.reporting.sections.wording import in_words

_CONDITIONS: Final = {
    "auc_roc": "AUC",
    "log_loss": "Log-loss",
    "sharpe_gain": "Sharpe ratio gain",
    "sharpe_low": "Sharpe ratio",
    "no_leak": "No leak",
}


def gate_section(findings: EvaluationFindings) -> Section:
    """Show each condition and how it came out."""
    evidence = [f"{each.kind}: {each.evidence}" for each in findings.suspicions]
    conditions = [
        {
            "condition": _CONDITIONS.get(each.name, in_words(each.name)),
            "result": Mark("passed", "good") if each.passed else Mark("failed", "bad"),
            "how it came out": tidy(each.sentence),
        }
        for each in findings.conditions
    ]
    return Section(
        "Gate",
        [
            *([Notice("LEAK SUSPECTED", evidence)] if evidence else []),
            Table(conditions, "What the gate asks for")
            if conditions
            else Text("The gate asked for nothing."),
        ],
        "A model is approved only if every condition passes. What is not known does not pass.",
    )
