"""How every picture looks: colours, frame, title, and a description in words."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.transforms import Bbox
from numpy.typing import NDArray

# Okabe and Ito's colours, told apart by colour-blind readers too.
BLUE, ORANGE, GREY, INK = "#0072B2", "#D55E00", "#8A8A8A", "#222222"
GRID = "#E6E6E6"
# Artists whose gid begins so stand on a light ground of their own, and stay dark on dark pages.
ON_LIGHT = "on-light"
LONGEST_NAME = 40
_TITLE_INCHES = 0.3
NOT_KNOWN = "\N{EN DASH}"


def percent(share: float) -> str:
    """Write a share as per cent, with one decimal."""
    return f"{with_minus(100 * share, '.1f')} %"


def with_minus(value: float, spec: str) -> str:
    """Format a number with a minus sign where `format` puts a hyphen, as axes do; NaN is a dash."""
    if value != value:
        return NOT_KNOWN
    return format(value, spec).replace("-", "\N{MINUS SIGN}")


def on_one_line(text: str, most: int) -> str:
    r"""Shorten a name to `most` letters; what is no letter to print becomes a space.

    Examples
    --------
    >>> on_one_line("a_rather\nlong_name", most=12)
    'a_rather lo…'
    """
    printable = "".join(letter if letter.isprintable() else " " for letter in text)
    return printable if len(printable) <= most else printable[: most - 1] + "…"


def plain(text: str) -> str:
    r"""Keep matplotlib from reading what stands between two dollar signs as a formula.

    Examples
    --------
    >>> print(plain("costs $1 or $2"))
    costs \$1 or \$2
    """
    return text.replace("$", r"\$")


def name_of(thing: object) -> str:
    """Write a name, of a symbol or a feature, beside an axis."""
    return plain(on_one_line(str(thing), LONGEST_NAME))


def new_figure(kind: str, title: str, inches: tuple[float, float]) -> tuple[Figure, Axes]:
    """Open a figure with one panel; see `new_panels`."""
    figure, panels = new_panels(kind, title, inches, heights=[1])
    return figure, panels[0]


def new_panels(
    kind: str, title: str, inches: tuple[float, float], heights: list[int]
) -> tuple[Figure, list[Axes]]:
    """Open a figure with panels one above the other, which share their horizontal axis.

    Parameters
    ----------
    kind, title : str
        What sort of picture it is, and what it found; the title stands above it, and both
        make its description for those who cannot see it.
    inches : tuple of float
        Width and height.
    heights : list of int
        The panels' heights, in proportion to one another.
    """
    figure = _new(kind, title, inches)
    panels = figure.subplots(len(heights), sharex=True, height_ratios=heights, squeeze=False)
    for axes in panels[:, 0]:
        _style(axes)
    return figure, list(panels[:, 0])


def new_grid(
    kind: str, title: str, inches: tuple[float, float], count: int, columns: int
) -> tuple[Figure, list[Axes]]:
    """Open a figure with `count` panels that share no axis, row by row; see `new_panels`."""
    figure = _new(kind, title, inches)
    rows = -(-count // columns)
    panels = figure.subplots(rows, min(count, columns), squeeze=False).ravel()
    for axes in panels[count:]:
        axes.set_visible(False)
    for axes in panels[:count]:
        _style(axes)
    return figure, list(panels[:count])


def _new(kind: str, title: str, inches: tuple[float, float]) -> Figure:
    layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.1)
    figure = Figure(figsize=inches, layout=layout, facecolor="white")
    # Above the figure's own ground, so that with the title or without it the rest stays in place.
    figure.suptitle(
        plain(title),
        **{"fontsize": 12.5, "fontweight": "bold", "color": INK},
        **{"x": 0.02, "y": 1.0, "ha": "left", "va": "bottom"},
    )
    figure.set_label(f"{kind}. {title}.")
    return figure


def with_title(figure: Figure) -> Bbox:
    """Return what to draw, in inches, for the title to be on it."""
    width, height = figure.get_size_inches()
    return Bbox([[0, 0], [width, height + _TITLE_INCHES]])


def lay_out(figure: Figure) -> None:
    """Place the panels, for good: left to `savefig`, that would take a drawing of its own."""
    layout = figure.get_layout_engine()
    if layout is not None:
        FigureCanvasSVG(figure)  # Texts are as wide as they will be drawn on the page.
        layout.execute(figure)
        figure.set_layout_engine(None)


def _style(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.grid(visible=True, color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, labelsize=9.5)


def label(axes: Axes, x: str, y: str) -> None:
    """Name both axes."""
    axes.set_xlabel(x, color=INK, fontsize=10.5)
    axes.set_ylabel(y, color=INK, fontsize=10.5)


def legend_above(axes: Axes, columns: int = 2) -> None:
    """Name the lines where none of them can pass."""
    axes.legend(
        frameon=False,
        ncols=columns,
        loc="lower right",
        bbox_to_anchor=(1, 1),
        borderaxespad=0.2,
    )


def as_days(dates: pd.Index | pd.Series) -> NDArray[np.datetime64]:
    """Read dates as an axis takes them."""
    return pd.to_datetime(pd.Series(dates)).to_numpy("datetime64[s]")
