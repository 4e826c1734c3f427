"""What the page of a watch tells, in short and in full, and how a browser shows it."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from typing import Any

import numpy as np
import pandas as pd
import pytest
from evaluation_findings import Estimate
from monitoring_examples import (
    Oddity,
    make_drift,
    make_performance,
    make_quality,
    make_rows,
    make_watch,
)
from test_evaluation_report import FLAGS, Seen, as_hex, assert_says_nothing_of_nan
from test_page import Reader, assert_loads_nothing, contrast
from test_sections import blocks, rows, texts

from steps.reporting.monitoring_findings import MonitoringFindings
from steps.reporting.monitoring_report import build_monitoring_report
from steps.reporting.page import Code, Facts, Mark, Notice, Picture, Table, render_page
from steps.reporting.sections.drift import drift_section
from steps.reporting.sections.found import found_section
from steps.reporting.sections.live import live_section
from steps.reporting.sections.quality import quality_section

DASH, MINUS, SPACE = "\N{EN DASH}", "\N{MINUS SIGN}", "\N{NO-BREAK SPACE}"
SCRIPT = "<script>alert(1)</script>"
SECTIONS = [
    "What was found",
    "Drift",
    "Live performance",
    "Data quality",
    "Lineage and parameters",
    "How to reproduce",
]
NOTHING = pd.DataFrame()


def nothing(**changes: Any) -> MonitoringFindings:
    tables = ("quality_symbols", "drift", "reference", "new", "performance", "by_month")
    emptied: dict[str, Any] = dict.fromkeys(tables, NOTHING)
    emptied |= {"reasons": [], "oddities": [], "lineage": {}, "params": {}, "reproduce": []}
    emptied |= {"new_dates": None, "new_rows": 0, "live": None, "then": None}
    emptied |= {"performance_note": "", "status": "unknown", "sentence": "There are no new rows."}
    return make_watch(**emptied | changes)


@pytest.mark.parametrize(
    ("status", "colour", "title"),
    [
        ("stable", "good", "What it rests on"),
        ("drift", "bad", "What led to it"),
        ("unknown", "neutral", "Too little data to tell"),
    ],
)
def test_the_verdict_comes_first_and_the_sections_follow(
    status: str, colour: str, title: str
) -> None:
    watch = nothing(status=status, reasons=["one reason"])
    page = build_monitoring_report(watch)
    assert (page.badge, page.status) == (status.upper(), colour)
    assert [section.title for section in page.sections] == SECTIONS
    assert page.sections[0].blocks[0] == Notice(title, ["one reason"], colour)  # type: ignore[arg-type]
    reader = Reader(render_page(page))
    assert reader.text_of("h2") == SECTIONS
    (badge,) = [each for each in reader.with_tag("span") if "badge" in (each["class"] or "")]
    assert badge["class"] == f"badge {colour}"
    without = found_section(replace(watch, reasons=[]))
    assert not blocks(without, Notice)
    assert texts(without)


def test_the_kicker_says_which_rows_are_new() -> None:
    new = {"new_rows": 260, "new_dates": (date(2012, 12, 14), date(2013, 3, 1))}
    assert build_monitoring_report(nothing(**new)).kicker == (
        "Candlewick monitoring · 260 new rows, 2012-12-14 to 2013-03-01"
    )
    one = nothing(new_rows=1, new_dates=(date(2013, 3, 1),) * 2)
    assert "· 1 new row, 2013-03-01" in build_monitoring_report(one).kicker
    assert build_monitoring_report(nothing()).kicker == "Candlewick monitoring · no new rows"


def test_the_finding_names_its_rows_and_figures() -> None:
    (facts,) = blocks(found_section(make_watch()), Facts)
    assert facts.facts == {
        "New rows": "260 rows, 2012-12-14 to 2013-03-01",
        "Reference": "7,262 rows, 2000-04-17 to 2008-08-18",
        "Features that drifted": "1 of 23",
        "Forecasts drifted": "yes",
        "AUC on new rows": "0.487, 95 % interval 0.401 to 0.572",
        "AUC at the evaluation": "0.513, 95 % interval 0.484 to 0.544",
        "Oddities in prices": 2,
    }
    (unknown,) = blocks(found_section(nothing()), Facts)
    assert list(unknown.facts.values())[2:6] == [DASH] * 4
    assert unknown.facts["New rows"] == "none"


def test_each_feature_has_its_row_the_worst_first() -> None:
    names = ["return_1d", "month", "return_5d", "forecast"]
    section = drift_section(
        make_watch(drift=make_drift(names), reference=make_rows(20, names), new=make_rows(9, names))
    )
    (table,) = blocks(section, Table)
    found = rows(table)
    assert [row["feature"] for row in found] == ["return_5d", "forecast", "month", "return_1d"]
    assert list(found[0].values())[1:] == [
        *("0.610", "0.305", "<0.001", "<0.001", Mark("yes", "bad"))
    ]
    assert list(found[2].values())[3:] == ["0.400", "1.000", "no"]
    assert len(blocks(section, Picture)) == 2
    assert "PSI lies above 0.25 and its adjusted p-value below 0.05" in texts(section)
    assert "the model's own probability" in texts(section)
    assert "Not compared" not in texts(section)
    assert "below 0.1 is stable, above 0.25 has shifted (Siddiqi" in section.note
    assert "Holm" in section.note
    assert "blocks of dates" in section.note
    assert "nothing on whether forecasts got worse" in section.note


def test_what_was_not_judged_is_no_verdict() -> None:
    drift = make_drift(["a", "b", "return_5d"])
    drift.loc[0, ["psi", "ks", "p_value", "p_adjusted"]] = np.nan
    drift.loc[1, ["p_value", "p_adjusted"]] = np.nan
    features = list(drift["feature"])
    watch = make_watch(drift=drift, reference=make_rows(20, features), new=make_rows(9, features))
    section = drift_section(watch)
    found = {row["feature"]: list(row.values())[1:] for row in rows(blocks(section, Table)[0])}
    assert found["a"] == [DASH] * 5
    assert found["b"][2:] == [DASH] * 3
    assert found["return_5d"][-1] == Mark("yes", "bad")
    assert "own probability" not in texts(section)
    assert "Not compared: a, for it follows from the date" in texts(section)
    (facts,) = blocks(found_section(watch), Facts)
    assert facts.facts["Features that drifted"] == "1 of 1"
    assert facts.facts["Forecasts drifted"] == DASH


def test_scores_stand_beside_those_of_the_evaluation() -> None:
    section = live_section(make_watch())
    scores, months = blocks(section, Table)
    assert list(rows(scores)[0].items())[:5] == [
        ("score", "AUC"),
        ("new rows", "0.487"),
        ("95 % interval", "0.401 to 0.572"),
        ("evaluation", "0.513"),
        ("its 95 % interval", "0.484 to 0.544"),
    ]
    assert [row["score"] for row in rows(scores)] == ["AUC", "Log-loss", "Brier score", "Accuracy"]
    assert [row["month"] for row in rows(months)] == ["2012-12", "2013-01", "2013-02", "2013-03"]
    assert months.numbers["AUC"] == ".3f"
    assert texts(section) == "255 labelled rows of 51 new dates."
    assert len(blocks(section, Picture)) == 2


def test_a_score_that_is_not_known_is_a_dash_and_no_picture() -> None:
    unknown = make_performance().assign(live=np.nan, low=np.nan, high=np.nan)
    section = live_section(make_watch(performance=unknown, by_month=NOTHING, live=None))
    (table,) = blocks(section, Table)
    assert list(rows(table)[0].values())[1:5] == [DASH, DASH, "0.513", "0.484 to 0.544"]
    assert not blocks(section, Picture)


def test_one_month_is_no_line() -> None:
    watch = make_watch(by_month=make_watch().by_month.head(1), performance=NOTHING)
    section = live_section(watch)
    assert len(blocks(section, Table)) == 1
    assert not blocks(section, Picture)


def test_the_worst_symbols_are_shown_and_the_others_counted() -> None:
    watch = make_watch(500, oddities=[Oddity("gaps", "AAPL", "AAPL lacks 3 days")] * 2)
    section = quality_section(watch)
    (table,) = blocks(section, Table)
    found = rows(table)
    assert [row["symbol"] for row in found[:3]] == ["AAPL", "SYM494", "SYM493"]
    assert [row["oddities"] for row in found[:2]] == [2, 0]
    assert len(found) == 50
    assert texts(section).startswith("And 450 more symbols")
    (one_more,) = [quality_section(make_watch(51, oddities=[]))]
    assert texts(one_more).startswith("And 1 more symbol,")
    assert "more symbol" not in texts(quality_section(make_watch(50)))


@pytest.mark.parametrize(("count", "last"), [(10, "text 9"), (11, "and 1 more")])
def test_oddities_stand_by_kind_and_of_many_the_first(count: int, last: str) -> None:
    odd = [Oddity("large move", "A", f"text {at}") for at in range(count)]
    section = quality_section(make_watch(oddities=[*odd, Oddity("gaps", "", "all lack a day")]))
    moves, gaps = blocks(section, Notice)
    assert (moves.title, moves.lines[0], moves.lines[-1]) == (
        f"Large move ({count})",
        "text 0",
        last,
    )
    assert len(moves.lines) == min(count, 11)
    assert gaps == Notice("Gaps", ["all lack a day"], "neutral")


def test_nothing_at_all_makes_a_page_too() -> None:
    page = build_monitoring_report(nothing())
    assert all(section.blocks for section in page.sections)
    assert not [each for section in page.sections for each in blocks(section, Picture)]
    html = render_page(page)
    assert_loads_nothing(html)
    assert_says_nothing_of_nan(html)
    assert "There are no prices to judge." in html
    assert "No feature was compared." in html


def small(**changes: Any) -> MonitoringFindings:
    """Make findings with one feature and one symbol, of which nothing is known."""
    drift = make_drift(["forecast"] * 3).tail(1)
    unknown = dict.fromkeys(["psi", "ks", "p_value", "p_adjusted"], np.nan)
    quality = make_quality(["A"]).assign(largest_move=np.nan)
    nan = Estimate(np.nan, np.nan, np.nan)
    made: dict[str, Any] = {
        "drift": drift.assign(**unknown, drifted=None),
        "reference": make_rows(40, ["forecast"]),
        "new": make_rows(1, ["forecast"]),
        "quality_symbols": quality,
        "live": nan,
        "then": nan,
        "performance": make_performance().iloc[:1].assign(low=np.nan, high=np.nan),
        "by_month": make_watch().by_month.assign(auc_roc=np.nan),
        "params": {"seed": np.nan},
    }
    return nothing(**made | changes)


@pytest.mark.slow
def test_what_is_not_known_is_a_dash_on_the_page() -> None:
    html = render_page(build_monitoring_report(small()))
    assert html.count("<figure") == 2
    assert_says_nothing_of_nan(html)


def test_names_that_hold_markup_are_shown_as_they_are() -> None:
    quality = make_quality([SCRIPT])
    odd = [Oddity(SCRIPT, SCRIPT, SCRIPT)]
    drift = make_drift([SCRIPT] * 3).tail(1)
    features = {"drift": drift, "reference": make_rows(9, [SCRIPT]), "new": make_rows(5, [SCRIPT])}
    told = {"title": SCRIPT, "sentence": SCRIPT, "reasons": [SCRIPT], "performance_note": SCRIPT}
    records = {"lineage": {SCRIPT: SCRIPT}, "params": {SCRIPT: SCRIPT}, "reproduce": [SCRIPT]}
    watch = nothing(quality_symbols=quality, oddities=odd, **features, **told, **records)
    html = render_page(build_monitoring_report(watch))
    assert_loads_nothing(html)
    # Once in each place above but the oddity's symbol, and the feature four times: in the table,
    # a bar, a panel and the pictures' titles and descriptions.
    assert html.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 16


def test_the_commands_and_where_it_comes_from_are_told() -> None:
    watch = make_watch()
    traced = {name: getattr(watch, name) for name in ("lineage", "params", "reproduce")}
    origin, again = build_monitoring_report(nothing(**traced)).sections[-2:]
    lineage, params = blocks(origin, Facts)
    assert lineage.facts["Model URI"] == "models:/stock_direction/3"
    assert params.facts["psi_bound"] == "0.25"
    (code,) = blocks(again, Code)
    assert code.text.splitlines() == list(watch.reproduce)


# From here on with a large and awkward case, in full and in a browser.


@pytest.fixture(scope="module")
def html() -> str:
    symbols = [SCRIPT * 4, *(f"SYM{at:03}" for at in range(499))]
    odd = [
        Oddity(kind, symbol, f"{symbol} falls 62 % on 2013-01-24, from 87.5 to 33.25")
        for kind in ("large move", "gaps", "zero volume", "unchanged", "split")
        for symbol in symbols
    ]
    watch = make_watch(
        quality_symbols=make_quality(symbols),
        oddities=odd,
        reference=make_rows(200_000),
        by_month=pd.DataFrame(
            {
                "month": pd.period_range("2008-01", periods=60, freq="M").astype(str),
                "rows": 100,
                "auc_roc": np.linspace(0.4, 0.6, 60),
                "log_loss": 0.69,
                "base_rate": 0.5,
            }
        ),
    )
    return render_page(build_monitoring_report(watch))


@pytest.mark.slow
def test_five_hundred_symbols_and_two_hundred_thousand_rows_fit(html: str) -> None:
    assert len(html.encode()) < 500_000
    assert html.count("<figure") == 4
    assert_loads_nothing(html)


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
in_a_browser = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield started
        started.close()


@pytest.mark.slow
@in_a_browser
@pytest.mark.parametrize(("width", "scheme"), [(360, "light"), (1280, "dark")])
def test_it_is_readable_on_a_telephone_and_in_the_dark(
    browser: Any, html: str, width: int, scheme: str
) -> None:
    seen = Seen(browser, html, viewport={"width": width, "height": 800}, color_scheme=scheme)
    assert seen.page.evaluate("document.documentElement.scrollWidth") <= width
    _, ground = seen.colors("h1")
    fills = seen.page.evaluate(
        "[...document.querySelectorAll('svg text')].map(text => getComputedStyle(text).fill)"
    )
    assert min(contrast(as_hex(fill), ground) for fill in set(fills)) >= 4.5
    assert [url for url in seen.requests if not url.startswith("data:")] == []
    assert seen.complaints == []


@pytest.mark.slow
@in_a_browser
def test_paper_cuts_no_table(browser: Any, html: str) -> None:
    seen = Seen(browser, html, viewport={"width": 688, "height": 1000})
    seen.page.emulate_media(media="print")
    cut = seen.page.evaluate(
        "[...document.querySelectorAll('.scroll, pre')].filter(box => box.scrollWidth > 688).length"
    )
    assert cut == 0
    assert seen.page.evaluate("document.documentElement.scrollWidth") <= 688
