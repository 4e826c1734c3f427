"""Figures as SVG within a page: they take colours and fonts from it, and no two share an id."""

from __future__ import annotations

import io
import re
import warnings
from typing import Final

from matplotlib import rc_context
from matplotlib.figure import Figure

from steps.reporting.style import BLUE, GREY, GRID, INK, ON_LIGHT, ORANGE, lay_out

RASTER_DPI: Final = 144
"""Dots per inch of the layers that a figure asks to be rasterized."""

# The page defines these variables once for light and once for dark.
_VARIABLES: Final = {
    "#000000": "var(--ink)",
    "#ffffff": "var(--paper)",
    INK.lower(): "var(--ink)",
    GREY.lower(): "var(--grey)",
    GRID.lower(): "var(--grid)",
    BLUE.lower(): "var(--blue)",
    ORANGE.lower(): "var(--orange)",
}
_WHITE: Final = "#ffffff"
# matplotlib escapes > within attributes and text, so a tag ends at the first one.
_TAG: Final = re.compile(r"<[^>]*>")
_ATTRIBUTE: Final = re.compile(r'\s([\w:-]+)="([^"]*)"')
_REFERENCE: Final = re.compile(r"url\(#([^)]*)\)")
_LONG_DECIMAL: Final = re.compile(r"(\.\d\d)\d+")
_POINTS_TO_PIXELS: Final = 4 / 3


def inline_svg(figure: Figure, name: str) -> str:
    """Draw a figure as an `<svg>` element for a page that holds its title and description.

    The figure's own title is left out, its ground is transparent, and the fixed colours of
    `steps.reporting.style` become `var(--ink)`, `var(--paper)`, `var(--grey)`, `var(--grid)`,
    `var(--blue)` and `var(--orange)`. Text stays text, in the page's font.

    Parameters
    ----------
    figure : Figure
        Handed over to the page: its own title stays hidden and its panels stay where they are
        laid out here. Drawn again, it is the same picture; for another use, make another.
    name : str
        Stands before each of the picture's ids: a word that no other picture of the page has.

    Returns
    -------
    str
        The same for the same figure and name.
    """
    buffer = io.StringIO()
    with (
        rc_context({"svg.fonttype": "none", "svg.hashsalt": name}),
        warnings.catch_warnings(),
    ):
        # The reader's browser has letters that matplotlib's font lacks.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        _hide_title(figure)
        lay_out(figure)
        figure.savefig(
            buffer, format="svg", dpi=RASTER_DPI, transparent=True, metadata={"Date": None}
        )
    drawn = buffer.getvalue()
    drawn = drawn[drawn.index("<svg") :]
    drawn = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", drawn, flags=re.S)
    return _Restyler(name).restyle(drawn)


def _hide_title(figure: Figure) -> None:
    title = figure.get_suptitle()
    for text in figure.texts:
        if title and text.get_text() == title:
            text.set_visible(False)


class _Restyler:
    """Rewrites one picture's tags; keeps the ids that are referred to, under new names."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._ids: dict[str, str] = {}

    def restyle(self, drawn: str) -> str:
        referred = _REFERENCE.findall(drawn) + re.findall(r'xlink:href="#([^"]*)"', drawn)
        for old in referred:
            self._ids.setdefault(old, f"{self._name}-{len(self._ids) + 1}")
        restyled = _TAG.sub(lambda found: self._tag(found.group()), drawn)
        return re.sub(r"\s*\n\s*", "\n", restyled).strip()

    def _tag(self, tag: str) -> str:
        kind = re.match(r"</?([\w:]+)", tag)
        if kind is None or tag.startswith("</"):
            return tag
        attributes = dict(_ATTRIBUTE.findall(tag))
        kept = self._of_root(attributes) if kind[1] == "svg" else self._of_part(kind[1], attributes)
        written = "".join(f' {name}="{value}"' for name, value in kept.items() if value)
        return f"<{kind[1]}{written}{'/' if tag.endswith('/>') else ''}>"

    def _of_root(self, attributes: dict[str, str]) -> dict[str, str]:
        width = round(float(attributes["width"].removesuffix("pt")) * _POINTS_TO_PIXELS)
        return {
            "viewBox": attributes["viewBox"],
            "style": f"--natural: {width}px",
            "aria-hidden": "true",
            "focusable": "false",
        }

    def _of_part(self, kind: str, attributes: dict[str, str]) -> dict[str, str]:
        kept = dict(attributes)
        own_id = kept.pop("id", "")
        if own_id in self._ids:
            kept["id"] = self._ids[own_id]
        if own_id.startswith(ON_LIGHT):
            kept["class"] = ON_LIGHT
        if "d" in kept:
            kept["d"] = _LONG_DECIMAL.sub(r"\1", " ".join(kept["d"].split()))
        if "style" in kept:
            kept["style"] = _style(kind, kept["style"])
        if "clip-path" in kept:
            kept["clip-path"] = _REFERENCE.sub(self._renamed, kept["clip-path"])
        if kept.get("xlink:href", "").startswith("#"):
            kept["xlink:href"] = f"#{self._ids[kept['xlink:href'][1:]]}"
        return kept

    def _renamed(self, found: re.Match[str]) -> str:
        return f"url(#{self._ids[found[1]]})"


def _style(kind: str, style: str) -> str:
    declared = dict(part.split(": ", 1) for part in style.split("; ") if ": " in part)
    declared.pop("font-family", None)
    for name, value in declared.items():
        # White letters stand on a dark ground of their own, on any page.
        if not (kind in ("text", "tspan") and value == _WHITE):
            declared[name] = _VARIABLES.get(value, value)
    return "; ".join(f"{name}: {value}" for name, value in declared.items())
