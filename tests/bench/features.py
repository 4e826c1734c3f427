"""featurize beside TA-Lib, pandas and packages of indicators, and beside itself."""

from collections.abc import Iterator

from bench.measure import Row, Workplace, alternate, at_most, faster
from bench.prices import write_prices

SYMBOLS, FEW = 500, 20
"""How many symbols everything is measured on, and how many the slow peers are."""


def measure(place: Workplace, *, quick: bool) -> Iterator[Row]:
    """Yield how the CPU seconds compare, per row of prices."""
    many = write_prices(place.folder / "many.parquet", SYMBOLS)
    few = write_prices(place.folder / "few.parquet", FEW)
    finding: list[float] = []

    def ours() -> float:
        told = place.told("ours_featurize.py", many)
        finding.append(told["making"] / told["finding"])
        return float(told["cpu"])

    tasks = {
        "ours": ours,
        "talib": lambda: place.told("talib_loop.py", many, place.folder)["cpu"],
        "pandas": lambda: place.told("pandas_groupby.py", few, place.folder)["cpu"],
        **{
            name: lambda name=name: place.told("indicator_package.py", name, few, place.folder)[
                "cpu"
            ]
            for name in ("pandas-ta-classic", "ta")
        },
    }
    took = alternate(tasks, 2 if quick else 5, warm_up=not quick)
    what = f"featurize, {SYMBOLS} symbols x 2,500 days, CPU"
    yield at_most(what, "TA-Lib in a bare loop, then Parquet", took["ours"] / took["talib"], 1.3)
    for name, title, limit in (
        ("pandas", "pandas, symbol by symbol", 10),
        ("pandas-ta-classic", "pandas-ta-classic", 30),
        ("ta", "ta", 30),
    ):
        against = f"{title} (on {FEW} symbols, per row)"
        yield faster(what, against, took[name] * SYMBOLS / FEW / took["ours"], limit)
    yield faster(
        "a second `main` on the same prices: its featurize",
        "the first one's",
        sorted(finding)[len(finding) // 2],
        20,
    )
