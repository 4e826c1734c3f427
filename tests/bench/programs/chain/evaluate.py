"""A model and a file of features in, scores and pictures out."""

import sys
import tempfile
from pathlib import Path

import mlflow
import pandas as pd

sys.path.append(str(Path(__file__).resolve().parents[1]))
from bare_script import draw, names_of, score, split

with mlflow.start_run(), tempfile.TemporaryDirectory() as folder:
    path = mlflow.artifacts.download_artifacts(sys.argv[1])
    _, _, test = split(pd.read_parquet(path))
    model = mlflow.xgboost.load_model(sys.argv[2])
    proba = model.predict_proba(test[names_of(test)])[:, 1]
    for name, value in score(test["direction"], proba).items():
        mlflow.log_metric(name, value)
    draw(model, test, proba, Path(folder))
    mlflow.log_artifacts(folder)
