"""Telling a run the metrics of many steps: seconds by the logger and one by one, as JSON."""

import json
import sys
import time

import mlflow

from steps.tracking.mlflow_logger import MLflowLogger

steps, one_by_one = map(int, sys.argv[1:])
with MLflowLogger(run_name="together") as logger:
    started = time.perf_counter()
    for step in range(steps):
        logger.log_step_metrics(step, log_loss=0.7 - step * 1e-6)
    logger.flush()
    together = time.perf_counter() - started
with mlflow.start_run(run_name="one by one"):
    started = time.perf_counter()
    for step in range(one_by_one):
        mlflow.log_metric("log_loss", 0.7 - step * 1e-6, step=step)
    singly = time.perf_counter() - started
print(json.dumps({"together": together / steps, "singly": singly / one_by_one}))
