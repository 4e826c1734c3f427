"""Several people, or jobs, start in the same empty folder at the same moment."""

import subprocess
import sys
from pathlib import Path

import pytest

from end_to_end.recipe import Recorded, environment

pytestmark = pytest.mark.slow


def test_four_at_once_in_an_empty_folder(project: Path, tmp_path: Path) -> None:
    pipeline = ["steps.pipeline", "--n_estimators=5", "--reuse=none"]
    commands = [pipeline, ["steps.featurize"], ["steps.featurize"], ["steps.train"]]
    started = [
        subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=tmp_path,
            env=environment(PYTHONPATH=str(project)),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for command in commands
    ]
    errors = [process.communicate(timeout=300)[1] for process in started]
    assert [process.returncode for process in started] == [0, 0, 0, 0], errors

    recorded = Recorded(tmp_path)
    statuses = recorded.statuses()
    assert {status for found in statuses.values() for status in found} == {"FINISHED"}
    assert statuses.keys() == {"main", "featurize", "train", "evaluate"}
    assert len(statuses["featurize"]) in (3, 4)  # train makes one unless another was faster
    ids = {run.data.tags["feature_snapshot_id"] for run in recorded.runs()}
    assert len(ids) == 1
    experiments = [each.name for each in recorded.client.search_experiments()]
    assert sorted(experiments) == ["Default", "stock_prediction"]
