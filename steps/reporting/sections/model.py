"""What the model makes of its features."""

from __future__ import annotations

from steps.reporting.curves import contributions_figure
from steps.reporting.figures import feature_importance_figure
from steps.reporting.findings import EvaluationFindings
from steps.reporting.page import Block, Picture, Section, Text


def importance_section(findings: EvaluationFindings) -> Section:
    """Draw the features' importance and, where the model has them, SHAP values."""
    blocks: list[Block] = []
    if findings.importance.empty:
        blocks.append(Text("Nothing is known of the features' importance."))
    else:
        figure = feature_importance_figure(findings.importance)
        blocks.append(Picture(figure, wide=True, name="feature_importance"))
    if findings.contributions is None or findings.feature_values is None:
        blocks.append(Text("SHAP values are XGBoost's own; this model has none."))
    elif findings.contributions.empty:
        blocks.append(Text("There are no rows to give SHAP values of."))
    else:
        figure = contributions_figure(findings.contributions, findings.feature_values)
        blocks.append(Picture(figure, wide=True))
    return Section(
        "What the model uses",
        blocks,
        "Importance is what training made of a feature. A SHAP value is what the feature added to "
        "one forecast of the test window: right of zero it spoke for a rise.",
    )
