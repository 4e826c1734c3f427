"""The page: what is in it, that nothing gets out of its place, and that it loads nothing."""

import re
import subprocess
import sys
from datetime import date
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure

import steps.reporting.page
from steps.reporting.page import (
    Code,
    Facts,
    Mark,
    Notice,
    Page,
    Picture,
    Section,
    Table,
    Text,
    render_page,
    write_value,
)
from steps.reporting.style import BLUE, INK, ON_LIGHT, name_of, new_figure

SCRIPT = "<script>alert(1)</script>"
DASH, MINUS, SPACE = "\N{EN DASH}", "\N{MINUS SIGN}", "\N{NO-BREAK SPACE}"
VOID = {"meta", "path", "use", "rect", "image", "br"}


class Reader(HTMLParser):
    """Collects what a browser would see."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append((self._open[-1], data))

    def names(self) -> list[str]:
        return [tag for tag, _ in self.tags]

    def text_of(self, tag: str) -> list[str]:
        return [text for within, text in self.texts if within == tag]

    def with_tag(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def page_of(*blocks: Any, **changes: Any) -> Page:
    parts: dict[str, Any] = {
        "title": "A title",
        "kicker": "a kicker",
        "sentence": "All is well.",
        "status": "good",
        "badge": "FINE",
        "sections": [Section("One section", list(blocks), "a note")],
    }
    return Page(**parts | changes)


def small_figure(title: str = "A finding", ticks: tuple[str, ...] = ("low", "high")) -> Figure:
    figure, axes = new_figure("Kind", title, (3, 2))
    axes.plot([0, 1], [0, 1], color=BLUE)
    axes.set_yticks(range(len(ticks)), [name_of(tick) for tick in ticks])
    return figure


def assert_loads_nothing(html: str) -> None:
    """Assert that a browser finds nothing to fetch and nothing to run."""
    for tag, attributes in Reader(html).tags:
        assert tag not in ("script", "link", "iframe", "object", "embed", "base", "a")
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in ("src", "href", "xlink:href", "action", "data", "srcset", "poster"):
                assert re.match(r"#[\w-]+$|data:image/png;base64,", value or "")
    assert "@import" not in html
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", html))
    assert "http://" not in html
    assert "https://" not in html


def in_every_place(text: str) -> Page:
    return Page(
        title=text,
        kicker=text,
        sentence=text,
        status="neutral",
        badge=text,
        sections=[
            Section(
                text,
                [
                    Text(text),
                    Code(text),
                    Notice(text, [text, text]),
                    Facts({text: text}),
                    Facts({"a mark": Mark(text)}, literal=True),
                    Table([{text: text, "a column": Mark(text, "good")}], caption=text),
                    Table(pd.DataFrame({"a column": [text, text]}), text),
                ],
                note=text,
            )
        ],
    )


PLAIN_PAGE = render_page(in_every_place("x"))


def attribute_names(read: Reader) -> list[list[str]]:
    # A class tells how long a cell is.
    return [[name for name in kept if name != "class"] for _, kept in read.tags]


@given(st.text(min_size=1))
@settings(max_examples=40)
@example(SCRIPT)
@example("\"'><img src=x onerror=alert(1)>")
@example("</title></style></pre></textarea><!-- ]]>")
@example("&lt;b&gt; &amp; 5 % {{ 7 * 7 }} {% raw %}")
def test_no_text_leaves_its_place(text: str) -> None:
    read, plain = Reader(render_page(in_every_place(text))), Reader(PLAIN_PAGE)
    assert read.names() == plain.names()
    assert attribute_names(read) == attribute_names(plain)
    wanted = " ".join(text.split())
    if not wanted:
        return
    for (within, found), (same, _) in zip(
        [each for each in read.texts if each[0] not in ("style", "title")],
        [each for each in plain.texts if each[0] not in ("style", "title")],
        strict=True,
    ):
        assert within == same
        if found not in ("a mark", "a column"):
            assert " ".join(found.split()) == wanted
    assert read.text_of("code") == [text]
    assert read.text_of("title") == [f"{text}: {text}"]
    labels = [kept["aria-label"] for kept in read.with_tag("div") if "aria-label" in kept]
    assert labels == [text, text]


@pytest.mark.slow
@given(st.text(max_size=60))
@settings(max_examples=4, deadline=None)
@example(SCRIPT)
@example(r"$\nonsense{$ costs $1")
@example("\"'/><svg onload=alert(1)> --> ]]>")
@example("\N{CJK UNIFIED IDEOGRAPH-80A1}\N{CJK UNIFIED IDEOGRAPH-7968} \N{GRINNING FACE}")
def test_no_text_leaves_its_place_in_a_picture(text: str) -> None:
    figure = small_figure(f"Of {text}", ticks=(text, "high"))
    read = Reader(render_page(page_of(Picture(figure))))
    (kept,) = read.with_tag("figure")
    assert kept["aria-label"] == f"Kind. Of {text}."
    drawn = {"svg", "g", "path", "use", "defs", "clippath", "rect", "text"}
    assert set(read.names()[read.names().index("svg") :]) <= drawn
    shown = "".join(letter if letter.isprintable() else " " for letter in text)
    if shown.strip() and len(shown) <= 40:
        assert shown in read.text_of("text")
    if text.isprintable():
        assert (
            read.text_of("figcaption") == [f"Of {text}".replace(" %", f"{SPACE}%")] or "%" in text
        )


def test_the_document_has_its_landmarks() -> None:
    page = page_of(
        Table([{"name": "x", "value": 1.5}], "A caption"),
        Picture(small_figure()),
        Notice("Mind", ["this", "that"]),
    )
    read = Reader(render_page(page))
    assert read.with_tag("html") == [{"lang": "en"}]
    assert read.text_of("h1") == ["A title"]
    assert read.text_of("h2") == ["One section"]
    assert read.text_of("title") == ["A title: FINE"]
    assert read.text_of("caption") == ["A caption"]
    assert [kept["scope"] for kept in read.with_tag("th")] == ["col", "col", "row"]
    assert read.text_of("li") == ["this", "that"]
    (figure,) = read.with_tag("figure")
    assert figure["role"] == "img"
    assert figure["aria-label"] == "Kind. A finding."
    assert read.text_of("figcaption") == ["A finding"]
    assert "A finding" not in read.text_of("text")
    verdict = [text for _, text in read.texts].index("All is well.")
    assert [text for _, text in read.texts][verdict + 1] == "FINE"
    assert {"class": "badge good"} in read.with_tag("span")


@pytest.mark.parametrize(
    ("value", "spec", "written"),
    [
        (None, "", DASH),
        (float("nan"), ".3f", DASH),
        (pd.NA, ".3f", DASH),
        (pd.NaT, "", DASH),
        (np.datetime64("NaT"), "", DASH),
        (-0.0123, ".3f", f"{MINUS}0.012"),
        (np.float32(0.25), ".1%", f"25.0{SPACE}%"),
        (float("inf"), ".3f", "∞"),
        (float("-inf"), "", f"{MINUS}∞"),
        (1234567, "", "1,234,567"),
        (np.int8(-3), "", f"{MINUS}3"),
        (12345.678, "", "12,346"),
        (0.000012345, "", f"1.234e{MINUS}05"),
        (True, "", "yes"),
        (np.bool_(False), "", "no"),
        ("0.10 to 0.20", ".3f", "0.10 to 0.20"),
        (pd.Timestamp("2024-03-01"), "", "2024-03-01"),
        (pd.Timestamp("2024-03-01 09:30"), "", "2024-03-01 09:30"),
        (date(2024, 3, 1), "", "2024-03-01"),
        (["AAPL", "IBM"], "", "AAPL, IBM"),
        ([], "", "none"),
        ({"name": "x", "horizon": 5}, "", "name: x, horizon: 5"),
    ],
)
def test_values_are_written_for_people(value: object, spec: str, written: str) -> None:
    assert write_value(value, spec) == written


def test_a_table_sets_numbers_flush_right_and_dashes_for_what_is_not_known() -> None:
    rows = pd.DataFrame(
        {"symbol": ["A", "B"], "auc": [0.5123, np.nan], "days": [3, 4], "ends": ["1 to 2", None]}
    )
    html = render_page(page_of(Table(rows, "Scores", {"auc": ".2f", "ends": ""})))
    cells = re.findall(r"<(t[hd]) ?([^>]*)>([^<]*)</t[hd]>", html)
    assert [text for _, _, text in cells] == [
        *("symbol", "auc", "days", "ends"),
        *("A", "0.51", "3", "1 to 2"),
        *("B", DASH, "4", DASH),
    ]
    flush = {text for _, kept, text in cells if 'class="number"' in kept}
    assert flush == {"auc", "days", "ends", "0.51", "3", "4", "1 to 2", DASH}


def test_empty_tables_and_pages_are_fine() -> None:
    read = Reader(render_page(page_of(Table([], "No rows"), Facts({}), Notice("Empty", []))))
    assert read.text_of("caption") == ["No rows"]
    assert Reader(render_page(page_of(sections=[]))).text_of("h1") == ["A title"]


def test_long_tables_scroll_and_short_ones_stay_on_one_sheet() -> None:
    def classes(count: int) -> str | None:
        table = Table([{"n": number} for number in range(count)], "Rows")
        return Reader(render_page(page_of(table))).with_tag("div")[-1]["class"]

    assert [classes(count) for count in (3, 20, 100)] == ["scroll short", "scroll", "scroll tall"]


def test_ids_are_unique_and_all_references_lead_somewhere() -> None:
    html = render_page(page_of(*(Picture(small_figure()) for _ in range(2))))
    ids = [kept["id"] for _, kept in Reader(html).tags if "id" in kept]
    assert len(ids) == len(set(ids)) > 4
    referred = set(re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"|labelledby="([^"]+)"', html))
    assert {name for names in referred for name in names if name} == set(ids)


def test_the_same_page_has_the_same_bytes_and_keeps_the_titles_of_its_figures() -> None:
    figure = small_figure()
    page = page_of(Picture(figure))
    once = render_page(page)
    assert render_page(page) == once == render_page(page_of(Picture(small_figure())))
    assert figure.get_suptitle() == "A finding"


def test_a_page_with_pictures_loads_nothing_and_forbids_it() -> None:
    figure = small_figure()
    figure.axes[0].scatter([0, 1], [0, 1], rasterized=True)
    html = render_page(page_of(Picture(figure, wide=True)))
    assert_loads_nothing(html)
    (policy,) = [kept for kept in Reader(html).with_tag("meta") if "http-equiv" in kept]
    assert (policy["content"] or "").startswith("default-src 'none'")
    with pytest.raises(AssertionError):
        assert_loads_nothing(html.replace("data:image/png", "//elsewhere/png"))


def test_pictures_take_their_colours_from_the_page() -> None:
    figure = small_figure()
    axes = figure.axes[0]
    axes.text(0, 0, "on blue", color="white")
    axes.text(0, 1, "on yellow", color=INK, gid=f"{ON_LIGHT}-1")
    axes.text(1, 1, "#0072b2 fill: #222222", color="black")
    html = render_page(page_of(Picture(figure)))
    svg = html[html.index("<svg") : html.index("</svg>")]
    assert "stroke: var(--blue)" in svg
    assert "fill: var(--ink)" in svg
    assert "font-family" not in svg
    # White letters stay, and so does text that looks like a colour.
    assert re.findall(r"#[0-9a-f]{6}", svg) == ["#ffffff", "#0072b2", "#222222"]
    assert "#0072b2 fill: #222222" in Reader(html).text_of("text")
    assert re.search(rf'<g class="{ON_LIGHT}">\s*<text[^>]*>on yellow<', svg)
    assert svg.count(ON_LIGHT) == 1


def luminance(color: str) -> float:
    channels = np.array([int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)])
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def contrast(one: str, other: str) -> float:
    """WCAG 2.2's contrast ratio."""
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_colours_can_be_told_apart(mode: str) -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    css = render_page(page_of())
    light, dark = (
        dict(re.findall(r"--([\w-]+): (#\w{6})", part)) for part in css.split("@media")[:2]
    )
    assert set(light) == set(dark) >= {"ink", "paper", "blue"}
    colors = light if mode == "light" else dark
    text = [("ink", "paper"), ("muted", "paper"), ("ink", "wash"), ("ink", "bad-wash")]
    text += [(status, f"{status}-wash") for status in ("good", "bad", "neutral")]
    for ink, ground in text:
        assert contrast(colors[ink], colors[ground]) >= 4.5, (ink, ground)
    for line in ("blue", "orange", "grey"):
        assert contrast(colors[line], colors["paper"]) >= 3, line


@pytest.mark.slow
def test_no_display_and_no_other_room_is_needed() -> None:
    check = (
        "import sys, steps.reporting.evaluation_report; "
        "print([name for name in sys.modules if name in ('matplotlib.pyplot', 'sklearn', 'mlflow') "
        "or name.startswith(('steps.learning', 'steps.market', 'steps.tracking'))])"
    )
    root = Path(steps.reporting.page.__file__).parents[2]
    shown = subprocess.run(
        [sys.executable, "-c", check], cwd=root, capture_output=True, text=True, check=True
    )
    assert shown.stdout.strip() == "[]"
