"""Prices in, a file of features out."""

import sys
import tempfile
from pathlib import Path

import mlflow
import pandas as pd

sys.path.append(str(Path(__file__).resolve().parents[1]))
from plain_features import features_of_all

with mlflow.start_run(), tempfile.TemporaryDirectory() as folder:
    table = features_of_all(pd.read_parquet(sys.argv[1]).sort_values(["symbol", "date"]))
    path = Path(folder, "features.parquet")
    table.to_parquet(path)
    mlflow.log_artifact(path)
    mlflow.log_metric("row_count", len(table))
