"""predict: a file of prices in, a file of forecasts out, symbol by symbol."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Annotated, Literal

import pandas as pd
from pydantic import Field, field_validator

from steps.command import progress, say
from steps.entry_point import ParameterError, StepParams, run_step
from steps.market.age import weekdays_old
from steps.market.price_files import could_be_read, without_secrets
from steps.market.price_report import PriceError, counted, first_of
from steps.market.price_stream import open_price_stream
from steps.market.prices import SAMPLE, open_prices
from steps.serving.as_of import AsOf, resolve_as_of
from steps.serving.forecast import MAX_AGE
from steps.serving.forecast_file import FORMATS, ForecastFile
from steps.tracking.mlflow_logger import SNAPSHOT_TAG, MLflowLogger
from steps.tracking.price_model_store import PriceModelVersion, load_price_model
from steps.tracking.project import read_run

_ALL = "all"


class PredictParams(StepParams):
    """Forecast from a file of prices, with a registered model or any other."""

    model_uri: str = Field(
        "models:/stock_direction@champion", description="a model that takes prices"
    )
    prices: str = Field(SAMPLE, description="'sample', or a file, folder, glob or URL")
    output: str = Field("predictions.csv", description="file to write, .csv or .parquet")
    dates: Literal["newest", "all"] = Field(
        "newest", description="forecast from each symbol's newest date, or from all"
    )
    symbols: str = Field(_ALL, description="'all', or symbols with commas between them")
    horizon: int | Literal["auto"] = Field(
        "auto", description="trading days ahead that are expected; 'auto': those of the model"
    )
    as_of: AsOf = Field(
        "today", description="the day ages are counted from; 'newest': the prices' newest date"
    )
    max_age: Annotated[int, Field(ge=0)] | Literal["none"] = Field(
        MAX_AGE, description="weekdays after which prices are stale; 'none': never"
    )

    @field_validator("output")
    @classmethod
    def _check_output(cls, value: str) -> str:
        if not value.endswith(FORMATS):
            raise ValueError(f"expected a file name that ends in {' or '.join(FORMATS)}")
        return value


class StaleError(ValueError):
    """The prices are too old for a forecast of what comes next."""


def predict(params: PredictParams, logger: MLflowLogger) -> Path:
    """Forecast from prices and write the file, which appears when it is complete. Return its path.

    One batch of symbols after the other is in memory, however large the files of prices are.
    """
    path = _output_path(params, logger)
    version = load_price_model(logger.client, params.model_uri)
    logger.set_tags(
        model_uri=version.uri,
        model_version=version.name,
        **{SNAPSHOT_TAG: version.metadata[SNAPSHOT_TAG]},
    )
    _check_horizon(params, version)
    wanted = [] if params.symbols == _ALL else sorted({*map(str.strip, params.symbols.split(","))})
    with open_prices(params.prices) as files, open_price_stream(files) as stream:
        as_of = _as_of(params, stream.last_date)
        output = ForecastFile(path)
        with output, progress("forecasting", stream.rows) as advance:
            for table in stream.tables():
                advance(len(table))
                chosen = table[table["symbol"].isin(wanted)] if wanted else table
                if not chosen.empty:
                    output.write(_answer(params, version, chosen.reset_index(drop=True), as_of))
            _check_all_found(wanted, output.symbols, without_secrets(params.prices))
    _record(output, version, logger)
    return output.path


def _answer(
    params: PredictParams, version: PriceModelVersion, prices: pd.DataFrame, as_of: date
) -> pd.DataFrame:
    answer = version.model.forecast(
        prices,
        every_date=params.dates == "all",
        as_of=as_of,
        max_age=None if params.max_age == "none" else params.max_age,
    )
    answer.insert(len(answer.columns) - 1, "model_version", version.name)
    answer.insert(len(answer.columns) - 1, SNAPSHOT_TAG, version.metadata[SNAPSHOT_TAG])
    return answer


def _output_path(params: PredictParams, logger: MLflowLogger) -> Path:
    """Return where to write, unless that would be lost, or be taken for prices the next time."""
    path = Path(params.output).expanduser()
    tags = read_run(logger.client, logger.run_id).tags
    if "mlflow.source.git.repoURL" in tags and not path.is_absolute():
        raise ParameterError(
            f"output={params.output} would lie in MLflow's copy of the project: give an absolute "
            "path"
        )
    path = path.absolute()
    if could_be_read(path, params.prices):
        raise ParameterError(
            f"output={params.output} is one of the files of prices={params.prices}, or would be "
            "taken for one the next time: write it elsewhere"
        )
    return path


def _check_horizon(params: PredictParams, version: PriceModelVersion) -> None:
    trained_for = int(version.metadata["horizon"])
    if params.horizon not in ("auto", trained_for):
        raise ParameterError(
            f"horizon={params.horizon}, but {version.name} forecasts "
            f"{counted(trained_for, 'trading day')} ahead: name a model that was trained for it, "
            "or leave horizon out"
        )


def _as_of(params: PredictParams, last_date: date) -> date:
    """Return the day that ages are counted from, if the prices are not too old for it."""
    as_of = resolve_as_of(params.as_of, last_date)
    age = int(weekdays_old([str(last_date)], as_of)[0])
    if params.dates == "newest" and params.max_age != "none" and age > params.max_age:
        raise StaleError(
            f"the prices end on {last_date}, {counted(age, 'weekday')} before {as_of}, and "
            f"max_age={params.max_age}: bring newer ones, or forecast from that date all the same "
            "with as_of=newest"
        )
    return as_of


def _check_all_found(wanted: Sequence[str], found: Sequence[str], prices: str) -> None:
    there = set(found)
    missing = [symbol for symbol in wanted if symbol not in there]
    if missing:
        raise PriceError(
            f"{prices} has no prices of {first_of(missing)}: check the spelling of symbols, or "
            "leave them out"
        )


def _record(output: ForecastFile, version: PriceModelVersion, logger: MLflowLogger) -> None:
    """Leave the figures with the run, and tell the terminal."""
    given = output.rows - output.rows_without_forecast
    logger.log_metrics(
        rows=output.rows,
        symbols=len(output.symbols),
        rows_without_forecast=output.rows_without_forecast,
        symbols_with_note=len(output.notes),
        **({"share_up": output.share_up} if given else {}),
    )
    logger.set_tags(output=output.path, output_sha256=output.sha256)
    logger.log_dict_artifact(output.notes, "notes.json")
    up = f", {100 * output.share_up:.0f} % up" if given else ""
    say(
        f"{counted(given, 'forecast')} of {counted(len(output.symbols), 'symbol')} by "
        f"{version.name}{up}: {output.path}"
    )
    if output.notes:
        named = first_of(f"{symbol} ({note})" for symbol, note in output.notes.items())
        say(f"with a note: {named}")


if __name__ == "__main__":
    run_step("predict", predict, PredictParams)
