"""What each section of the report tells."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from evaluation_findings import (
    Condition,
    Estimate,
    Suspicion,
    make_findings,
    make_folds,
    make_window,
)

from steps.reporting.findings import EvaluationFindings
from steps.reporting.page import Code, Facts, Mark, Notice, Picture, Section, Table, Text
from steps.reporting.sections.breakdowns import folds_section, slices_section, worst_days_section
from steps.reporting.sections.forecasts import information_coefficient_section, scores_section
from steps.reporting.sections.gate import gate_section
from steps.reporting.sections.model import importance_section
from steps.reporting.sections.origin import data_section, lineage_section, reproduce_section
from steps.reporting.sections.trading import backtest_section

DASH, MINUS, SPACE = "\N{EN DASH}", "\N{MINUS SIGN}", "\N{NO-BREAK SPACE}"


def blocks(section: Section, kind: type) -> list[Any]:
    return [block for block in section.blocks if isinstance(block, kind)]


def rows(table: Table) -> list[dict[str, Any]]:
    found = table.rows.to_dict("records") if isinstance(table.rows, pd.DataFrame) else table.rows
    return [dict(row) for row in found]


def texts(section: Section) -> str:
    return " ".join(block.text for block in blocks(section, Text))


@pytest.fixture(scope="module")
def findings() -> EvaluationFindings:
    return make_findings(60)


def test_the_gate_says_how_each_condition_came_out(findings: EvaluationFindings) -> None:
    section = gate_section(findings)
    (table,) = blocks(section, Table)
    assert [list(row.values()) for row in rows(table)] == [
        ["AUC", Mark("failed", "bad"), "AUC's lower end after 3 looks 0.476 is not above 0.5"],
        ["Log-loss", Mark("failed", "bad"), f"log-loss gain {MINUS}0.0001 is not above 0"],
        ["No leak", Mark("passed", "good"), "the leak alarm is silent"],
    ]
    assert not blocks(section, Notice)


def test_a_condition_without_a_name_of_its_own_is_called_by_its_words() -> None:
    section = gate_section(make_findings(3, conditions=[Condition("no_ruin", True, "All is well")]))
    (row,) = rows(blocks(section, Table)[0])
    assert row["condition"] == "No ruin"


def test_a_suspected_leak_stands_before_the_conditions() -> None:
    evidence = "AUC 0.612, above 0.55: directions are not known that well"
    section = gate_section(make_findings(3, conditions=[], suspicions=[Suspicion("auc", evidence)]))
    assert section.blocks[0] == Notice("LEAK SUSPECTED", [f"auc: {evidence}"], "bad")
    assert texts(section) == "The gate asked for nothing."


def test_every_score_stands_beside_its_interval_and_the_baselines(
    findings: EvaluationFindings,
) -> None:
    (table,) = blocks(scores_section(findings), Table)
    by_score = {row["score"]: list(row.values())[1:5] for row in rows(table)}
    assert by_score["AUC"] == ["0.513", "0.483 to 0.543", "0.500", "0.509"]
    assert by_score["Log-loss"] == ["0.6932", "0.6918 to 0.6947", "0.6931", "0.6948"]
    assert by_score["Log-loss gain"] == [
        *(f"{MINUS}0.00010", f"{MINUS}0.00130 to +0.00120", DASH, DASH)
    ]
    assert len(by_score) == 8
    assert "95 % interval" in rows(table)[0]


def test_a_score_that_is_not_known_is_a_dash() -> None:
    unknown = make_findings(3, scores={"auc_roc": Estimate(np.nan, np.nan, np.nan)}, baselines={})
    (row,) = rows(blocks(scores_section(unknown), Table)[0])
    assert [row["model"], row["95 % interval"]] == [DASH, DASH]


def test_the_looks_are_told_and_what_they_leave(findings: EvaluationFindings) -> None:
    section = scores_section(findings)
    assert "look number 3 of this experiment" in texts(section)
    (facts,) = blocks(section, Facts)
    assert list(facts.facts.values()) == ["0.476", "0.551", "0.412"]
    first = scores_section(make_findings(3, looks=1, deflated={}))
    assert "first look" in texts(first)
    assert not blocks(first, Facts)


def test_the_backtest_stands_beside_buy_and_hold(findings: EvaluationFindings) -> None:
    section = backtest_section(findings)
    (table,) = blocks(section, Table)
    found = {row["statistic"]: list(row.values())[1:4] for row in rows(table)}
    assert found["Sharpe ratio"] == ["0.61", f"{MINUS}0.70 to 1.90", "0.98"]
    assert found["Sharpe ratio gain"] == [f"{MINUS}0.37", f"{MINUS}1.20 to +0.50", DASH]
    assert found["Largest drawdown"] == [f"{MINUS}18.3{SPACE}%", "", f"{MINUS}16.1{SPACE}%"]
    assert "next open" in section.note
    assert "5 basis points" in section.note
    assert "equal weights" in section.note


def test_the_snapshot_and_the_windows_are_told(findings: EvaluationFindings) -> None:
    section = data_section(findings)
    snapshot, made = blocks(section, Facts)
    assert snapshot.facts["Dates"] == "2000-04-17 to 2013-03-01"
    assert snapshot.facts["Symbols"] == "5: AAPL, FB, GOOG, IBM, MSFT"
    assert snapshot.facts["Label"] == {"name": "direction", "horizon": 1}
    assert made.facts["Prices SHA-256"] == findings.provenance["prices_sha256"]
    (windows,) = blocks(section, Table)
    assert [row["window"] for row in rows(windows)] == ["train", "validation", "test"]


def test_the_windows_of_several_trainings_are_numbered() -> None:
    split = {"train": make_window("2000-04-17", "2008-08-18", 7262), "embargo": 5}
    (windows,) = blocks(data_section(make_findings(3, windows=[split] * 2)), Table)
    assert [row["window"] for row in rows(windows)] == ["1: train", "2: train"]


def test_the_lineage_and_the_commands_are_told(findings: EvaluationFindings) -> None:
    lineage, params = blocks(lineage_section(findings), Facts)
    assert lineage.facts["Feature snapshot ID"] == "1b85982c788cb12b1a20b2a2d262dd64"
    assert params.facts["learning_rate"] == "0.05"
    (code,) = blocks(reproduce_section(findings), Code)
    assert code.text.splitlines() == list(findings.reproduce)


def test_each_fold_and_each_bad_day_has_its_row(findings: EvaluationFindings) -> None:
    folds = folds_section(make_findings(3, folds=make_folds(9)))
    assert folds is not None
    assert [row["fold"] for row in rows(blocks(folds, Table)[0])] == list(range(1, 10))
    assert folds_section(findings) is None
    (worst,) = blocks(worst_days_section(findings), Table)
    assert len(rows(worst)) == 10
    assert worst.numbers["strategy's return"] == "+.2%"


def test_three_hundred_symbols_are_counted_and_not_all_listed() -> None:
    section = data_section(make_findings(3, 300))
    symbols = blocks(section, Facts)[0].facts["Symbols"]
    assert symbols.startswith("300: AAPL, FB, GOOG, IBM, MSFT, SYM000")
    assert symbols.endswith("and 270 more")


def test_each_slice_has_its_row_and_comes_first_in_it(findings: EvaluationFindings) -> None:
    (table,) = blocks(slices_section(findings), Table)
    assert [row["slice"] for row in rows(table)] == findings.slices["slice"].tolist()
    assert list(rows(table)[0])[:2] == ["slice", "kind"]


def test_what_is_missing_is_said() -> None:
    missing = make_findings(
        3, 1, daily=None, ic={}, daily_ic=None, contributions=None, feature_values=None
    )
    assert "at least three" in texts(information_coefficient_section(missing))
    assert "nothing to trade at" in texts(backtest_section(missing))
    importance = importance_section(missing)
    assert "this model has none" in texts(importance)
    assert len(blocks(importance, Picture)) == 1
