"""A page of findings: what it holds, and how that becomes one self-contained HTML document.

A page is made of sections, a section of blocks. All text is escaped; the page loads nothing from
anywhere and runs no script.
"""

from __future__ import annotations

import numbers as abstract
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from matplotlib.figure import Figure

from steps.reporting.inline_svg import inline_svg
from steps.reporting.style import NOT_KNOWN

Status = Literal["good", "bad", "neutral"]

_MINUS: Final = "\N{MINUS SIGN}"
# Tables of no more rows stay on one sheet of paper; of more, they scroll on the screen.
_SHORT, _TALL = 15, 40


@dataclass(frozen=True)
class Mark:
    """A word with a colour, as a value of `Facts` or a cell of a `Table`."""

    text: str
    status: Status = "neutral"


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str


@dataclass(frozen=True)
class Code:
    """Text to copy, line by line as it is."""

    text: str


@dataclass(frozen=True)
class Notice:
    """A coloured box: a few words and what there is to say about them."""

    title: str
    lines: Sequence[str]
    status: Status = "bad"


@dataclass(frozen=True)
class Facts:
    """Names and their values.

    Attributes
    ----------
    facts : mapping of str to object
        Values as `write_value` takes them, or `Mark`.
    literal : bool
        Whether the values are to be read letter by letter, such as hashes and addresses.
    """

    facts: Mapping[str, object]
    literal: bool = False


@dataclass(frozen=True)
class Table:
    """Rows and columns; the first column names the row.

    Attributes
    ----------
    rows : DataFrame or sequence of mapping
        A DataFrame's index is not shown. Cells are as `write_value` takes them, or `Mark`.
    caption : str
        What the table shows.
    numbers : mapping of str to str
        Columns to set flush right, and how `format` writes their numbers, such as ``".3f"``; ""
        leaves it to `write_value`. Columns that hold numbers alone are set so unasked.
    """

    rows: pd.DataFrame | Sequence[Mapping[str, object]]
    caption: str
    numbers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Picture:
    """A figure: its title above, its label for those who cannot see it.

    Attributes
    ----------
    figure : Figure
        The page's from then on: see `inline_svg`.
    wide : bool
        Whether it takes the page's whole width; others stand in pairs where there is room.
    name : str
        What the figure is to be called as a file beside the page; "" if it is to be none.
    """

    figure: Figure
    wide: bool = False
    name: str = ""


Block = Text | Code | Notice | Facts | Table | Picture


@dataclass(frozen=True)
class Section:
    """A heading, a few words on how to read what follows, and the blocks."""

    title: str
    blocks: Sequence[Block]
    note: str = ""


@dataclass(frozen=True)
class Page:
    """One document.

    Attributes
    ----------
    title : str
        What the page is about.
    kicker : str
        What sort of page it is, and of which time.
    sentence : str
        The finding; the first thing one reads.
    status : {"good", "bad", "neutral"}
        Colour of the badge.
    badge : str
        A word or two beside the sentence, such as "APPROVED".
    sections : sequence of Section
    """

    title: str
    kicker: str
    sentence: str
    status: Status
    badge: str
    sections: Sequence[Section]


def named_figures(page: Page) -> dict[str, Figure]:
    """Return the figures that are to be files, too, by name; to be drawn before the page is."""
    blocks = [block for section in page.sections for block in section.blocks]
    return {each.name: each.figure for each in blocks if isinstance(each, Picture) and each.name}


def render_page(page: Page) -> str:
    """Write a page as HTML.

    Parameters
    ----------
    page : Page

    Returns
    -------
    str
        One document without script, without anything to load; the same for the same page.

    Examples
    --------
    >>> section = Section("One", [Text("1 < 2")])
    >>> page = Page("A & B", "demo", "All is well.", "good", "OK", [section])
    >>> "A &amp; B" in render_page(page), "1 &lt; 2" in render_page(page)
    (True, True)
    """
    counted = iter(range(1, 1 + sum(len(section.blocks) for section in page.sections)))
    sections = [
        {
            "title": section.title,
            "note": section.note,
            "blocks": [_prepared(block, f"block-{next(counted)}") for block in section.blocks],
        }
        for section in page.sections
    ]
    return _template().render(page=page, sections=sections)


def write_value(value: object, spec: str = "") -> str:
    r"""Write a value for people; what is not known is a dash.

    Parameters
    ----------
    value : object
        A number, date, truth value, text, or a mapping or sequence of such.
    spec : str
        How `format` writes it if it is a number; text stays as it is.

    Examples
    --------
    >>> [write_value(value) for value in (1234567, 0.123456, True, "as it is")]
    ['1,234,567', '0.1235', 'yes', 'as it is']
    >>> write_value(float("nan")) == write_value(None) == "\N{EN DASH}"
    True
    >>> write_value(0.1234, ".1%") == "12.3\N{NO-BREAK SPACE}%"
    True
    >>> [write_value(pd.Timestamp("2024-03-01")), write_value({"name": "x", "horizon": 5})]
    ['2024-03-01', 'name: x, horizon: 5']
    """
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        parts = [f"{name}: {write_value(each, spec)}" for name, each in value.items()]
        return ", ".join(parts) or "none"
    if isinstance(value, (Sequence, np.ndarray)):
        return ", ".join(write_value(each, spec) for each in value) or "none"
    if value is None or value is pd.NA or value is pd.NaT or value != value:
        return NOT_KNOWN
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if isinstance(value, (datetime, np.datetime64)):
        at = pd.Timestamp(value)
        return f"{at:%Y-%m-%d}" if at == at.normalize() else f"{at:%Y-%m-%d %H:%M}"
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, abstract.Real):
        return _number(value, spec)
    return str(value)


def _number(value: abstract.Real, spec: str) -> str:
    amount = float(value)
    if np.isinf(amount):
        written = "∞" if amount > 0 else "-∞"
    elif spec:
        written = format(value, spec)
    elif isinstance(value, abstract.Integral):
        written = f"{int(value):,}"
    else:
        written = f"{amount:,.4g}" if abs(amount) < 1e4 else f"{amount:,.0f}"
    return written.replace("-", _MINUS).replace("%", "\N{NO-BREAK SPACE}%")


def _prepared(block: Block, name: str) -> dict[str, Any]:
    """Bring a block into the form in which the template writes it."""
    match block:
        case Text(text):
            return {"kind": "text", "text": text}
        case Code(text):
            return {"kind": "code", "text": text}
        case Notice():
            return {"kind": "notice", "notice": block}
        case Facts(facts, literal):
            cells = [(term, _cell(value)) for term, value in facts.items()]
            return {"kind": "facts", "facts": cells, "literal": literal}
        case Table():
            return {"kind": "table", **_prepared_table(block)}
        case Picture(figure, wide=wide):
            return {
                "kind": "picture",
                "wide": wide,
                "title": figure.get_suptitle().replace(r"\$", "$"),
                "label": str(figure.get_label()),
                # Of our own making: the texts within were escaped when it was drawn.
                "svg": inline_svg(figure, name),
            }


def _prepared_table(table: Table) -> dict[str, Any]:
    names, rows = _names_and_rows(table.rows)
    columns = [
        {"name": name, "number": name in table.numbers or _all_numbers(rows, name)}
        for name in names
    ]
    cells = [[_cell(row.get(name), table.numbers.get(name, "")) for name in names] for row in rows]
    return {
        "caption": table.caption,
        "columns": columns,
        "rows": cells,
        "length": "short" if len(rows) <= _SHORT else "tall" if len(rows) > _TALL else "",
    }


def _names_and_rows(
    rows: pd.DataFrame | Sequence[Mapping[str, object]],
) -> tuple[list[str], Sequence[Mapping[str, object]]]:
    if isinstance(rows, pd.DataFrame):
        names = [str(name) for name in rows.columns]
        return names, [
            dict(zip(names, row, strict=True)) for row in rows.itertuples(index=False, name=None)
        ]
    return list(dict.fromkeys(name for row in rows for name in row)), rows


def _all_numbers(rows: Sequence[Mapping[str, object]], name: str) -> bool:
    known = [row[name] for row in rows if row.get(name) is not None]
    return bool(known) and all(
        isinstance(value, abstract.Real) and not isinstance(value, bool) for value in known
    )


def _cell(value: object, spec: str = "") -> Mark | str:
    return value if isinstance(value, Mark) else write_value(value, spec)


def tidy(text: str) -> str:
    r"""Set the numbers of a sentence as in print: a minus for a hyphen, no break before "%".

    Examples
    --------
    >>> tidy("from 2024-01-05 on: -0.1 to 5 %") == (
    ...     "from 2024-01-05 on: \N{MINUS SIGN}0.1 to 5\N{NO-BREAK SPACE}%"
    ... )
    True
    """
    return re.sub(r"(?<=\d) %", "\N{NO-BREAK SPACE}%", re.sub(r"(?<![\w-])-(?=\d)", _MINUS, text))


@cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["tidy"] = tidy
    return environment.get_template("page.html")
