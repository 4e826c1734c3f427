"""A file of features in, a model out, the scores of each round told one by one."""

import sys
from pathlib import Path

import mlflow
import pandas as pd
import xgboost

sys.path.append(str(Path(__file__).resolve().parents[1]))
from bare_script import PARAMS, names_of, split


class TellEach(xgboost.callback.TrainingCallback):
    """Tells every score as it comes."""

    def after_iteration(self, model: object, epoch: int, evals_log: dict) -> bool:
        del model
        for window, scores in evals_log.items():
            for name, values in scores.items():
                mlflow.log_metric(f"{window}_{name}", values[-1], step=epoch)
        return False


with mlflow.start_run():
    path = mlflow.artifacts.download_artifacts(sys.argv[1])
    train, validation, _ = split(pd.read_parquet(path))
    names = names_of(train)
    mlflow.log_params(PARAMS)
    model = xgboost.XGBClassifier(**PARAMS, callbacks=[TellEach()])
    watched = [(part[names], part["direction"]) for part in (train, validation)]
    model.fit(train[names], train["direction"], eval_set=watched, verbose=False)
    model.callbacks = None  # which would be stored with it
    logged = mlflow.xgboost.log_model(model, name="model", input_example=train[names].head())
    mlflow.set_tag("model_uri", logged.model_uri)
