"""Runs a step as ``python -m`` does, and holds it where the test wants to do something to it.

    python -m faults.held steps.train --n_estimators=400

The step's own code is what runs. Around two of its doors there is a turnstile: after a round's
metrics were taken by the logger (``FAULTS_ROUNDS=20,300``), and before a file is sent to where
artifacts go (``FAULTS_UPLOADS=snapshot/:2``, the second whose name has that in it).

In the folder ``FAULTS_FOLDER`` there is afterwards a file ``told`` with the number of each round
that the logger has taken, and ``held-20`` as long as the step waits there for ``go-20``.
"""

import os
import runpy
import shutil
import sys
import threading
import time
from pathlib import Path
from typing import Any

from urllib3.connectionpool import HTTPConnectionPool

from steps.tracking.mlflow_logger import MLflowLogger

FOLDER = Path(os.environ["FAULTS_FOLDER"])
ROUNDS = {int(each) for each in os.environ.get("FAULTS_ROUNDS", "").split(",") if each}
PART, _, NUMBER = os.environ.get("FAULTS_UPLOADS", "").partition(":")


def hold(name: str) -> None:
    """Say that it waits, and wait."""
    (FOLDER / f"held-{name}").touch()
    while not (FOLDER / f"go-{name}").exists():
        time.sleep(0.02)


def hold_rounds() -> None:
    log_step_metrics = MLflowLogger.log_step_metrics
    told = (FOLDER / "told").open("a", buffering=1)

    def log_and_hold(logger: MLflowLogger, step: int, **metrics: Any) -> None:
        log_step_metrics(logger, step, **metrics)
        told.write(f"{step}\n")
        if step in ROUNDS:
            hold(str(step))

    MLflowLogger.log_step_metrics = log_and_hold  # type: ignore[method-assign]


def hold_uploads() -> None:
    """Let all but the first few files wait, however they travel: by HTTP, or into a folder."""
    copyfile, urlopen = shutil.copyfile, HTTPConnectionPool.urlopen
    lock, sent = threading.Lock(), [0]

    def count(name: str) -> None:
        if PART in name and "/artifacts/" in name:
            with lock:
                sent[0] += 1
                last = sent[0]
            if last >= int(NUMBER):
                hold("upload")

    def copy_and_hold(source: Any, target: Any, **options: Any) -> Any:
        count(str(target))
        return copyfile(source, target, **options)

    def send_and_hold(pool: Any, method: str, url: str, body: Any = None, **more: Any) -> Any:
        if method in ("PUT", "POST"):
            # Google's API has the name in front of the content, not in the address.
            start = body[:1000].decode(errors="replace") if isinstance(body, bytes) else ""
            count(url + (start if "/upload/" in url else ""))
        return urlopen(pool, method, url, body, **more)

    shutil.copyfile = copy_and_hold  # type: ignore[assignment]
    HTTPConnectionPool.urlopen = send_and_hold  # type: ignore[method-assign]


if __name__ == "__main__":
    hold_rounds()
    if NUMBER:
        hold_uploads()
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
