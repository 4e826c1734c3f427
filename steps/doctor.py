"""doctor: what is well and what is not, and what to do about it."""

from __future__ import annotations

import os
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from pydantic import Field

from steps.command import command, leave_with, say
from steps.entry_point import ParameterError, StepParams, parse_params
from steps.machine import look_at_disk, look_at_environment, look_at_packages, look_at_python
from steps.tracking.diagnosis import (
    NOT_LOOKED_AT,
    Finding,
    StoreDiagnosis,
    look_at_journal,
    look_at_settings,
)
from steps.tracking.journal import journal_folder
from steps.tracking.mlflow_logger import FAILURE_TAG, MLflowLogger
from steps.tracking.project import PROJECT, step_tags
from steps.tracking.reachable import SilenceError, within
from steps.tracking.settings import SettingsError, redact
from steps.tracking.stores import first_line

_PATIENCE: Final = 8.0  # seconds that a check may take
_WIDTH: Final = 100


class DoctorParams(StepParams):
    """Check the machine, the settings and the place where runs go."""

    end_dead_runs: bool = Field(True, description="end runs whose process is gone, as KILLED")


def examine(params: DoctorParams) -> Iterator[Finding]:
    """Check one thing after the other; none that fails, or hangs, keeps the next from its turn."""
    yield _checked("python", lambda: look_at_python(PROJECT))
    yield _checked("environment", look_at_environment)
    yield _checked("packages", lambda: look_at_packages(PROJECT / "requirements.lock"))
    yield _checked("settings", look_at_settings)
    folders = {"this folder": Path.cwd()}
    try:
        store = StoreDiagnosis()
    except SettingsError:  # which has been told
        yield Finding("tracking store", "bad", "unknown", "correct the settings first")
    else:
        yield _checked("tracking store", store.store)
        yield _checked("database schema", store.schema)
        yield _checked("experiment", store.experiment)
        yield _checked("permission", store.permission)
        yield _checked("artifact store", store.artifacts)
        yield _checked("model registry", store.registry)
        yield _checked("clock", store.clock)
        yield _checked("dead runs", lambda: store.dead_runs(end=params.end_dead_runs))
        yield _checked("journal", look_at_journal)
        folders |= {**store.folders, "state": journal_folder()}
    yield _checked("disk", lambda: look_at_disk(folders))


def _checked(what: str, check: Callable[[], Finding]) -> Finding:
    try:
        return within(_PATIENCE, check)
    except SilenceError as error:
        return Finding(what, "bad", str(error), "see that it answers, then ask again")
    except SettingsError as error:
        return Finding(what, "bad", str(error), "correct it, in the environment or in .env")
    except Exception as error:  # whatever it is, the other checks go on
        reason = f"{type(error).__name__}: {first_line(error)}"
        return Finding(what, "bad", reason, "this should not happen: tell whoever keeps Candlewick")


def in_lines(finding: Finding) -> str:
    """Put a finding into lines of a table: what, whether it is well, what was found, the remedy."""
    head = f"{finding.what:<16} {finding.status:<8} "
    room = _WIDTH - len(head)
    lines = textwrap.wrap(redact(finding.found), room, break_on_hyphens=False) or [""]
    if finding.remedy:
        lines += textwrap.wrap(
            f"-> {redact(finding.remedy)}", room, subsequent_indent="   ", break_on_hyphens=False
        )
    return head + f"\n{'':<{len(head)}}".join(lines)


def summary(findings: Sequence[Finding]) -> str:
    """Count what is not well."""
    bad = [each.what for each in findings if each.status == "bad"]
    skipped = [each.what for each in findings if each.found == NOT_LOOKED_AT]
    odd = [each.what for each in findings if each.status == "warning" and each.what not in skipped]
    counts = [
        f"{len(names)} {word}: {', '.join(names)}"
        for word, names in (("bad", bad), ("to see to", odd), ("not looked at", skipped))
        if names
    ]
    return "; ".join(counts) or "all is well"


def record(findings: Sequence[Finding], params: DoctorParams) -> None:
    """Leave the table in the run that ``mlflow run`` has prepared."""
    table = "\n".join(map(in_lines, findings))
    worst = next(
        (each for each in ("bad", "warning") if each in {finding.status for finding in findings}),
        "well",
    )
    with MLflowLogger(tags=step_tags("doctor")) as logger:
        logger.log_params(**params.model_dump())
        logger.set_tags(doctor=worst, **{"mlflow.note.content": f"```text\n{table}\n```"})
        stored = {finding.what: finding.status for finding in findings}
        if stored.get("artifact store") == "well":
            with tempfile.TemporaryDirectory(prefix="candlewick-") as folder:
                (Path(folder) / "doctor.txt").write_text(f"{table}\n")
                logger.log_artifact_file(Path(folder) / "doctor.txt")
        if worst == "bad":
            logger.set_tags(**{FAILURE_TAG: summary(findings)})
            logger.end_run("FAILED")


def main() -> None:
    """Be the command: a table, and 1 where something is bad."""
    findings = []
    with command("doctor", ParameterError):
        params = parse_params(DoctorParams, sys.argv[1:])
        for finding in examine(params):
            say(in_lines(finding))
            findings.append(finding)
        say(textwrap.fill(summary(findings), _WIDTH))
        if "MLFLOW_RUN_ID" in os.environ:
            try:
                record(findings, params)
            except Exception as error:  # the table is told already
                leave_with(f"candlewick doctor could not leave this: {first_line(error)}", status=1)
    sys.exit(any(finding.status == "bad" for finding in findings))


if __name__ == "__main__":
    main()
