"""What the report tells, and how a browser shows it: light, dark, narrow and on paper."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
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
    make_predictions,
    make_slices,
    symbols_of,
)
from test_page import assert_loads_nothing, contrast

from steps.reporting.evaluation_report import build_evaluation_report
from steps.reporting.findings import EvaluationFindings
from steps.reporting.page import Page, Picture, Section, render_page

SCRIPT = "<script>alert(1)</script>"
SECTIONS = [
    "Gate",
    "Headline numbers",
    "Curves",
    "Calibration and calls",
    "Information coefficient",
    "Backtest",
    "What the model uses",
    "Slices",
    "Worst days",
    "Data and snapshot",
    "Lineage and parameters",
    "How to reproduce",
]


def test_the_verdict_comes_first_and_the_sections_follow() -> None:
    page = build_evaluation_report(make_findings(60))
    assert page.sentence.startswith("No better than the base rate: AUC 0.513")
    assert (page.badge, page.status) == ("REJECTED", "bad")
    assert page.kicker == (
        "Candlewick evaluation · 300 forecasts of 5 symbols, 2010-10-04 to 2010-12-24"
    )
    assert [each.title for each in page.sections] == SECTIONS
    assert all(each.blocks for each in page.sections)


@pytest.mark.slow
def test_a_walk_forward_shows_its_folds_after_the_backtest() -> None:
    page = build_evaluation_report(make_findings(60, folds=make_folds(9), approved=True))
    titles = [each.title for each in page.sections]
    assert titles.index("Walk-forward folds") == titles.index("Backtest") + 1
    assert (page.badge, page.status) == ("APPROVED", "good")


def nothing() -> EvaluationFindings:
    full = make_findings(3, 1)
    emptied: dict[str, Any] = {
        name: getattr(full, name).iloc[:0]
        for name in ("predictions", "importance", "slices", "worst_days", "daily", "daily_ic")
    }
    emptied |= {name: {} for name in ("scores", "baselines", "ic", "deflated", "params", "lineage")}
    emptied |= {name: {} for name in ("backtest_statistics", "backtest_intervals")}
    emptied |= {"windows": {}, "manifest": {}, "provenance": {}, "conditions": [], "reproduce": []}
    empty_rows = full.contributions.iloc[:0] if full.contributions is not None else None
    emptied |= {"contributions": empty_rows, "feature_values": empty_rows}
    return make_findings(3, 1, **emptied, folds=make_folds(0))


SLOW_CASES = ["one row", "one class up", "one class down"]


@pytest.mark.parametrize(
    "case", ["nothing", *(pytest.param(case, marks=pytest.mark.slow) for case in SLOW_CASES)]
)
def test_short_data_makes_a_page_too(case: str) -> None:
    if case == "nothing":
        found = nothing()
    else:
        predictions = make_predictions(1 if case == "one row" else 30, ["A"])
        only = predictions.assign(direction=np.int8(case != "one class down"))
        found = make_findings(len(only), 1, predictions=only, **unknown_numbers())
    page = build_evaluation_report(found)
    titles = [each.title for each in page.sections if each.title != "Walk-forward folds"]
    assert titles == SECTIONS
    assert "forecasts of 1 symbol," in page.kicker or case == "nothing"
    if case == "nothing":
        assert not [
            block for each in page.sections for block in each.blocks if type(block) is Picture
        ]
    html = render_page(page)
    assert_says_nothing_of_nan(html)


def unknown_numbers() -> dict[str, Any]:
    """Make the numbers of one class, and of a backtest that never traded."""
    full, unknown = make_findings(3, 1), Estimate(np.nan, np.nan, np.nan)
    estimates = {
        name: dict.fromkeys(getattr(full, name), unknown)
        for name in ("scores", "ic", "backtest_intervals")
    }
    numbers = {
        name: dict.fromkeys(getattr(full, name), np.nan)
        for name in ("deflated", "backtest_statistics")
    }
    tables = {
        name: getattr(full, name).assign(**dict.fromkeys(columns, np.nan))
        for name, columns in {
            "slices": ["auc_roc", "auc_low", "auc_high", "accuracy"],
            "worst_days": ["strategy_return"],
            "daily_ic": ["rank_ic"],
        }.items()
    }
    return estimates | numbers | tables | {"daily": full.daily * 0, "params": {"bound": np.nan}}


def assert_says_nothing_of_nan(html: str) -> None:
    told = re.sub(r"<style>.*?</style>", "", html, flags=re.DOTALL)
    words = re.split(r"[<>\s]+", told)
    assert {"nan", "NaN", "NaT", "None", "inf"}.isdisjoint(words)


@pytest.mark.slow
def test_names_that_hold_markup_are_shown_as_they_are() -> None:
    slices = make_slices([SCRIPT, "$a$"])
    importance = pd.DataFrame({"feature": [SCRIPT, r"$\bad{$"], "importance": [0.6, 0.4]})
    page = build_evaluation_report(make_findings(60, 2, slices=slices, importance=importance))
    kept = ("Slices", "What the model uses")
    sections = [each for each in page.sections if each.title in kept]
    pictures = [block for each in sections for block in each.blocks if isinstance(block, Picture)]
    html = render_page(
        Page(SCRIPT, "", SCRIPT, "bad", "X", [Section("One", [pictures[0], pictures[2]])])
    )
    assert_loads_nothing(html)
    assert html.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 6
    assert r">$\bad{$</text>" in html


# From here on with a large and awkward case, in full and in a browser.


@pytest.fixture(scope="module")
def awkward() -> EvaluationFindings:
    symbols = [SCRIPT, *symbols_of(299)]
    return make_findings(
        67,
        300,
        predictions=make_predictions(67, symbols),
        slices=make_slices(symbols),
        folds=make_folds(),
        suspicions=[Suspicion("feature", f"feature {SCRIPT} alone has AUC 0.61")],
        conditions=[Condition("no_leak", False, "the leak alarm (feature) is not silent")],
    )


@pytest.fixture(scope="module")
def html(awkward: EvaluationFindings) -> str:
    return render_page(build_evaluation_report(awkward))


@pytest.mark.slow
def test_twenty_thousand_rows_and_three_hundred_symbols_fit(
    html: str, awkward: EvaluationFindings
) -> None:
    assert len(awkward.predictions) == 20_100
    assert len(html.encode()) < 2_000_000
    assert_loads_nothing(html)
    assert html.count("<figure") == 10
    assert html == render_page(build_evaluation_report(awkward))


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
in_a_browser = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield started
        started.close()


class Seen:
    """A page opened in the browser, with all it complained of and asked for."""

    def __init__(self, browser: Any, html: str, **options: Any) -> None:
        self.page = browser.new_page(**options)
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: self.complaints.append(dialog.message))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.set_content(html)

    def colors(self, selector: str) -> tuple[str, str]:
        """Return the colour of an element's text, and of the ground of the page."""
        found = self.page.evaluate(
            "selector => [getComputedStyle(document.querySelector(selector)).color,"
            " getComputedStyle(document.body).backgroundColor]",
            selector,
        )
        return as_hex(found[0]), as_hex(found[1])


def as_hex(color: str) -> str:
    red, green, blue = (int(part) for part in re.findall(r"\d+", color)[:3])
    return f"#{red:02x}{green:02x}{blue:02x}"


@pytest.mark.slow
@in_a_browser
def test_a_browser_has_nothing_to_fetch_nothing_to_run_and_nothing_to_complain_of(
    browser: Any, html: str
) -> None:
    seen = Seen(browser, html)
    sizes = seen.page.evaluate(
        "[...document.querySelectorAll('figure')].map(figure => {"
        " const box = figure.querySelector('svg').getBoundingClientRect();"
        " return [box.width, box.height]; })"
    )
    assert len(sizes) == 10
    assert all(width > 300 and height > 150 for width, height in sizes)
    assert [url for url in seen.requests if not url.startswith("data:")] == []
    assert seen.complaints == []
    assert seen.page.get_by_role("img", name="ROC curve.").count() == 1
    assert seen.page.get_by_role("heading", level=1).count() == 1


@pytest.mark.slow
@in_a_browser
def test_it_is_readable_within_a_frame_that_may_do_nothing(browser: Any, html: str) -> None:
    # MLflow's artifact viewer: a blob in a frame without an origin.
    seen = Seen(browser, "<body></body>")
    seen.page.evaluate(
        "html => { const frame = document.createElement('iframe');"
        " frame.sandbox = 'allow-scripts'; frame.width = 900; frame.height = 700;"
        " frame.src = URL.createObjectURL(new Blob([html], {type: 'text/html'}));"
        " document.body.append(frame); }",
        html,
    )
    inside = seen.page.frame_locator("iframe")
    inside.get_by_text("No better than the base rate").wait_for()
    assert inside.locator("figure svg").count() == 10
    assert "300 symbols" in (inside.locator(".kicker").text_content() or "")
    assert seen.complaints == []


@pytest.mark.slow
@in_a_browser
@pytest.mark.parametrize("width", [360, 700, 1280])
def test_the_page_never_scrolls_sideways(browser: Any, html: str, width: int) -> None:
    seen = Seen(browser, html, viewport={"width": width, "height": 800})
    assert seen.page.evaluate("document.documentElement.scrollWidth") <= width
    assert seen.page.evaluate("document.body.scrollWidth") <= width


@pytest.mark.slow
@in_a_browser
@pytest.mark.parametrize(("scheme", "darker"), [("light", "text"), ("dark", "ground")])
def test_text_and_pictures_follow_the_scheme(
    browser: Any, html: str, scheme: str, darker: str
) -> None:
    seen = Seen(browser, html, color_scheme=scheme)
    text, ground = seen.colors("h1")
    assert contrast("#000000", text if darker == "text" else ground) < 1.6
    assert contrast(text, ground) > 10
    fills = seen.page.evaluate(
        "[...document.querySelectorAll('svg text')].filter(text => !text.closest('.on-light'))"
        ".map(text => getComputedStyle(text).fill)"
    )
    assert len(fills) > 150
    # The confusion matrix' dark cells bring their own ground.
    on_page = [as_hex(fill) for fill in fills]
    assert min(contrast(fill, ground) for fill in on_page) >= 4.5
    own_ground = seen.page.evaluate(
        "[...document.querySelectorAll('.on-light text')].map(text => getComputedStyle(text).fill)"
    )
    assert {as_hex(fill) for fill in own_ground} == {"#000000"}


@pytest.mark.slow
@in_a_browser
def test_paper_is_white_and_cuts_no_table(browser: Any, html: str, tmp_path: Path) -> None:
    # A4 less its margins.
    seen = Seen(browser, html, color_scheme="dark", viewport={"width": 688, "height": 1000})
    seen.page.emulate_media(media="print", color_scheme="dark")
    text, ground = seen.colors("h1")
    assert (ground, contrast(text, ground) > 10) == ("#ffffff", True)
    cut = seen.page.evaluate(
        "[...document.querySelectorAll('.scroll, pre')].filter(box =>"
        " box.scrollWidth > 688 || getComputedStyle(box).overflowX !== 'visible').length"
    )
    assert cut == 0
    assert seen.page.evaluate("document.documentElement.scrollWidth") <= 688
    paper = tmp_path / "report.pdf"
    seen.page.pdf(path=paper, format="A4")
    # Each sheet is one object of this type.
    assert len(re.findall(rb"/Type\s*/Page\b", paper.read_bytes())) > 5
