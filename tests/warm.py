"""The command `mlflow` without the wait for its imports: a process that has them is forked."""

import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

_forking = multiprocessing.get_context("forkserver")
_forking.set_forkserver_preload(["mlflow.cli", "mlflow.projects", "mlflow.pyfunc"])


def _become(command: list[str], folder: str, environment: dict[str, str], output: str) -> None:
    """Be the command, in its folder and environment."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for number in (1, 2):
        file = os.open(f"{output}/{number}", os.O_WRONLY | os.O_CREAT)
        os.dup2(file, number)
        os.close(file)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = command
    from mlflow.cli import cli

    cli(command[1:], prog_name=command[0])


def run_mlflow(
    command: list[str], folder: Path, environment: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run ``mlflow …`` to its end, whatever that is."""
    with tempfile.TemporaryDirectory() as output:
        arguments = (command, str(folder), dict(environment), output)
        process = _forking.Process(target=_become, args=arguments)
        process.start()
        process.join(600)
        assert process.exitcode is not None, command
        said = [Path(output, number).read_text() for number in ("1", "2")]
    return subprocess.CompletedProcess(command, process.exitcode, *said)
