"""Registered models to test with."""

import mlflow
import numpy as np
import xgboost

from steps.tracking.mlflow_logger import MLflowLogger
from steps.tracking.registry import RegisteredModel
from steps.tracking.stores import absolute_uri, open_store


def make_model(uri: str, name: str) -> RegisteredModel:
    uri = absolute_uri(uri)
    client = open_store(uri)
    mlflow.set_tracking_uri(uri)
    made = RegisteredModel(client, name.replace("[", " ").rstrip("]"))
    made.create()
    return made


def log_model(model: RegisteredModel) -> str:
    data = xgboost.DMatrix(np.eye(4, dtype=np.float32), label=[0, 1, 0, 1])
    with MLflowLogger("registry", tracking_uri=mlflow.get_tracking_uri()) as logger:
        return logger.log_model(xgboost.train({"objective": "binary:logistic"}, data, 1))
