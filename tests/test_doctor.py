"""doctor: what is wrong is found, with its remedy, and does not keep the rest from being seen."""

import dataclasses
import sqlite3
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from subprocess import CompletedProcess
from typing import NamedTuple

import mlflow
import pytest
from hypothesis import given
from hypothesis import strategies as st
from services.backends import Backend
from services.postgres import Postgres
from services.s3 import S3
from services.tracking_server import TrackingServer
from tracking.answers import answering

from steps import doctor
from steps.doctor import DoctorParams, examine, in_lines, main, summary
from steps.machine import (
    environment_kind,
    locked_versions,
    look_at_disk,
    look_at_environment,
    look_at_packages,
    look_at_python,
)
from steps.tracking.artifact_probe import ProbeError, probe_artifacts
from steps.tracking.diagnosis import (
    NOT_LOOKED_AT,
    Finding,
    StoreDiagnosis,
    judge_clock,
    look_at_journal,
    look_at_settings,
)
from steps.tracking.heartbeat import OWNER_TAG
from steps.tracking.journal import Journal
from steps.tracking.messages import of_params
from steps.tracking.mlflow_logger import MLflowLogger
from steps.tracking.processes import Owner
from steps.tracking.reachable import call_server

pytestmark = pytest.mark.slow


ROOT = Path(doctor.__file__).parents[1]
CHECKS = [
    *("python", "environment", "packages", "settings", "tracking store", "database schema"),
    *("experiment", "permission", "artifact store", "model registry", "clock", "dead runs"),
    *("journal", "disk"),
]
EXPERIMENT = "stock_prediction"


def diagnose(**params: bool) -> dict[str, Finding]:
    found = {finding.what: finding for finding in examine(DoctorParams(**params))}
    assert list(found) == CHECKS
    return found


def bad(found: dict[str, Finding]) -> set[str]:
    return {what for what, finding in found.items() if finding.status == "bad"}


def skipped(found: dict[str, Finding]) -> set[str]:
    return {what for what, finding in found.items() if finding.found == NOT_LOOKED_AT}


class RecordedRun(NamedTuple):
    client: mlflow.MlflowClient
    run_id: str

    def read(self) -> mlflow.entities.Run:
        return self.client.get_run(self.run_id)

    def status(self) -> str:
        return str(self.read().info.status)


def record_something() -> str:
    """Make the experiment, by the run that would come first; return the run's ID."""
    with MLflowLogger(EXPERIMENT) as logger:
        logger.log_dict_artifact({}, "empty.json")
    return logger.run_id


# -- SQLite and folders -------------------------------------------------------------------------


def test_all_is_well_and_nothing_is_left_behind(database: Path) -> None:
    record_something()
    before = sorted(database.parent.rglob("*"))
    with closing(sqlite3.connect(database)) as connection:
        runs = "SELECT count(*) FROM runs UNION ALL SELECT count(*) FROM experiment_tags"
        counts = connection.execute(runs).fetchall()
        found = diagnose()
        assert connection.execute(runs).fetchall() == counts
    assert {finding.status for finding in found.values()} == {"well"}
    assert found["experiment"].found.startswith(f"{EXPERIMENT}, its artifacts in ")
    assert found["artifact store"].found.endswith(": a file was written, read and deleted")
    assert summary(list(found.values())) == "all is well"
    assert sorted(database.parent.rglob("*")) == before


@pytest.mark.parametrize("uri", ["sqlite:///new/mlflow.db", "file:./mlruns"])
def test_where_nothing_is_yet_nothing_is_made(
    uri: str, in_empty_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    found = diagnose()
    assert {finding.status for finding in found.values()} == {"well"}
    assert found["experiment"].found == "nothing yet: the first run makes it"
    assert not list(in_empty_folder.iterdir())


def test_a_folder_store_that_is_there(
    in_empty_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "file:./mlruns")
    record_something()
    found = diagnose()
    assert {finding.status for finding in found.values()} == {"well"}
    assert f"experiment {EXPERIMENT} may be written to" in found["permission"].found


def test_a_broken_database_does_not_stop_the_other_checks(in_empty_folder: Path) -> None:
    Path("mlflow.db").write_bytes(b"noise" * 1000)
    found = diagnose()
    assert bad(found) == {"tracking store"}
    assert "file is not a database" in found["tracking store"].found
    assert "set MLFLOW_TRACKING_URI to another one" in found["tracking store"].remedy
    assert skipped(found) == set(CHECKS[5:12])
    told = summary(list(found.values()))
    assert told.startswith("1 bad: tracking store; 7 not looked at: database schema, ")


def test_a_database_of_an_older_mlflow(database: Path) -> None:
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '0584bdc529eb'")
    found = diagnose()
    assert bad(found) == {"database schema"}
    assert f"`mlflow db upgrade sqlite:///{database}`" in found["database schema"].remedy
    assert skipped(found) == set(CHECKS[6:10]) | {"dead runs"}


def test_a_deleted_experiment(database: Path) -> None:
    record_something()
    client = mlflow.MlflowClient(f"sqlite:///{database}")
    experiment = client.get_experiment_by_name(EXPERIMENT)
    client.delete_experiment(experiment.experiment_id)
    found = diagnose()
    assert bad(found) == {"experiment"}
    command = f"`mlflow experiments restore --experiment-id {experiment.experiment_id}`"
    assert found["experiment"].remedy.startswith(command)


def test_an_experiment_keeps_its_artifacts_where_it_began(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record_something()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    monkeypatch.setenv("MLFLOW_BACKEND", "remote")
    monkeypatch.setenv("MLFLOW_S3_BUCKET", "models")
    found = diagnose()["experiment"]
    assert found.status == "warning"
    assert "not in s3://models" in found.found
    assert found.remedy == "set MLFLOW_EXPERIMENT_NAME to a new one"


def test_an_artifact_folder_that_is_a_file(database: Path) -> None:
    client = mlflow.MlflowClient(f"sqlite:///{database}")
    client.create_experiment(EXPERIMENT, artifact_location=f"file://{database}/artifacts")
    found = diagnose()
    assert bad(found) == {"artifact store"}
    assert f"{database} is no folder" in found["artifact store"].found
    assert "make it a folder that you may write to" in found["artifact store"].remedy


def test_a_folder_that_nothing_can_be_written_to() -> None:
    place = next(place for place in ("/proc/self", "/dev/fd") if Path(place).exists())
    with pytest.raises(ProbeError, match=place) as caught:
        probe_artifacts(f"file://{place}", "sqlite:///mlflow.db")
    assert "make room there, and see that you may write" in caught.value.trouble.remedy


def test_a_disk_that_is_full(in_empty_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import resource
    import signal

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))  # bytes a file may have
        with pytest.raises(ProbeError, match="file too large") as caught:
            probe_artifacts(in_empty_folder.as_uri(), "sqlite:///mlflow.db")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert "make room there" in caught.value.trouble.remedy
    assert not list(in_empty_folder.iterdir())


def test_a_store_that_changes_files() -> None:
    with answering(200, "something else") as address, pytest.raises(ProbeError, match="another"):
        probe_artifacts("mlflow-artifacts:/1", address)


# -- dead runs, and what waits ------------------------------------------------------------------


@pytest.fixture
def dead_run(database: Path) -> RecordedRun:
    """A run that is RUNNING, of a process that cannot be."""
    record_something()
    client = mlflow.MlflowClient(f"sqlite:///{database}")
    experiment = client.get_experiment_by_name(EXPERIMENT)
    nobody = dataclasses.replace(Owner.here(), started="before all others")
    run = client.create_run(experiment.experiment_id, tags={OWNER_TAG: nobody.write()})
    return RecordedRun(client, run.info.run_id)


def test_dead_runs_are_ended_and_told(dead_run: RecordedRun) -> None:
    found = diagnose()["dead runs"]
    assert found.status == "warning"
    assert dead_run.run_id in found.found
    assert dead_run.status() == "KILLED"
    assert diagnose()["dead runs"] == Finding("dead runs", "well", "none")


def test_dead_runs_are_only_told_where_that_is_wanted(dead_run: RecordedRun) -> None:
    found = diagnose(end_dead_runs=False)["dead runs"]
    assert found.status == "warning"
    assert dead_run.run_id in found.found
    assert found.remedy == "end them with `--end_dead_runs=true`"
    assert dead_run.status() == "RUNNING"


def test_what_waits_for_a_store_is_told(in_empty_folder: Path) -> None:
    assert look_at_journal() == Finding("journal", "well", "nothing waits")
    journal = Journal("abc", "http://quant:***@db.example")
    journal.append(of_params({"a": "1"}))
    assert look_at_journal().found == "nothing waits; 1 runs are at work and deliver by themselves"
    journal.close()
    found = look_at_journal()
    assert found.status == "warning"
    assert found.found == "1 messages of 1 runs wait for http://quant:***@db.example"
    assert "`python -m steps.sync`" in found.remedy


# -- settings -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "exported", "found", "remedy"),
    [
        (
            "MLFLOW_EXPERIMENT_NAME=a\n",
            {"MLFLOW_EXPERIMENT_NAME": "b"},
            "MLFLOW_EXPERIMENT_NAME is in .env and in the environment, which counts",
            "unset MLFLOW_EXPERIMENT_NAME",
        ),
        (
            "MLFLOW_TRACKING_PASSWORD=hush-hush\n",
            {},
            "MLFLOW_TRACKING_PASSWORD is in .env, where nobody reads it",
            "export it",
        ),
        (
            "MLFLOW_TRACKING_URI=file:./mlruns\n",
            {},
            "MLFLOW_TRACKING_URI is in .env alone, which `mlflow run` does not read",
            "export it",
        ),
        (
            "",
            {"MLFLOW_S3_BUCKET": "models"},
            "a database or bucket is set, and MLFLOW_BACKEND=local leaves it unused",
            "set MLFLOW_BACKEND=remote",
        ),
        (
            "",
            {"MLFLOW_BACKEND": "remote", "MLFLOW_POSTGRES_URI": "postgresql://a:hush-hush@db/x"},
            "MLFLOW_BACKEND=remote without a bucket: artifacts stay in ./mlruns, on this machine",
            "set MLFLOW_S3_BUCKET or MLFLOW_GCS_BUCKET",
        ),
        (
            "",
            {
                "MLFLOW_BACKEND": "remote",
                "MLFLOW_POSTGRES_URI": "postgresql://a:hush-hush@db/x",
                "MLFLOW_TRACKING_URI": "http://mlflow.example",
            },
            "MLFLOW_TRACKING_URI counts, so that MLFLOW_POSTGRES_URI is unused",
            "unset one of the two",
        ),
    ],
)
def test_settings_that_do_not_do_what_somebody_meant(
    written: str,
    exported: dict[str, str],
    found: str,
    remedy: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Path(".env").write_text(written)
    for name, value in exported.items():
        monkeypatch.setenv(name, value)
    assert look_at_settings() == Finding("settings", "warning", found, remedy)


def test_settings_that_cannot_be_read() -> None:
    Path(".env").write_text("MLFLOW_BACKEND=cloud\n")
    found = {finding.what: finding for finding in examine(DoctorParams())}
    assert bad(found) == {"settings", "tracking store"}
    assert "MLFLOW_BACKEND='cloud'" in found["settings"].found
    assert "in the environment or in .env" in found["settings"].remedy
    assert found["disk"].status == "well"


def test_settings_say_where_they_are_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CANDLEWICK_STATE")
    monkeypatch.delenv("CANDLEWICK_CACHE")
    assert look_at_settings() == Finding("settings", "well", "the defaults")
    Path(".env").write_text("MLFLOW_EXPERIMENT_NAME=momentum\nOTHER=1\n")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    assert look_at_settings().found == ".env (1) and the environment (1)"


# -- the machine --------------------------------------------------------------------------------


def test_a_python_that_is_too_old_or_too_new(tmp_path: Path) -> None:
    assert look_at_python(ROOT).status == "well"
    (tmp_path / "pyproject.toml").write_text("[project]\nrequires-python = '>=4'\n")
    found = look_at_python(tmp_path)
    assert (found.status, "needs >=4" in found.found) == ("bad", True)
    assert "`make run`" in found.remedy


@pytest.mark.parametrize(
    ("files", "kind"),
    [
        ({"conda-meta/history": ""}, "made by conda"),
        ({"pyvenv.cfg": "home = /usr/bin\nuv = 0.9.1\n"}, "made by uv"),
        ({"pyvenv.cfg": "home = /usr/bin\nvirtualenv = 20.1\n"}, "made by virtualenv"),
        ({"pyvenv.cfg": "home = /opt/uv = 3/bin\n"}, "made by venv"),
        ({}, "the system's Python"),
    ],
)
def test_what_made_an_environment(files: dict[str, str], kind: str, tmp_path: Path) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    assert environment_kind(tmp_path) == kind


def test_environment_managers_are_those_on_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    found = look_at_environment(tmp_path)
    assert found.status == "warning"
    assert found.found.endswith("`mlflow run --env-manager` can be local")
    assert "`make run`" in found.remedy
    for name in ("uv", "mamba"):
        (tmp_path / name).touch(mode=0o755)
    (tmp_path / "pyvenv.cfg").write_text("uv = 1\n")
    found = look_at_environment(tmp_path)
    assert found.status == "well"
    assert found.found == "made by uv; `mlflow run --env-manager` can be local, uv, conda"


def test_packages_that_are_not_the_locked_ones(tmp_path: Path) -> None:
    lock = tmp_path / "requirements.lock"
    hashes = " \\\n    --hash=sha256:abc\n"
    lock.write_text(f"mlflow[auth]==1.0{hashes}pywin32==3 ; sys_platform == 'win33' {hashes}")
    assert locked_versions(lock.read_text()) == {"mlflow": "1.0"}
    found = look_at_packages(lock)
    assert found.status == "warning"
    assert found.found == f"mlflow {mlflow.__version__} instead of 1.0"
    assert found.remedy == f"`pip install -r {lock}`"
    lock.write_text("no-such-package==1.0\n")
    assert look_at_packages(lock).status == "bad"
    assert look_at_packages(lock).found == "not installed: no-such-package"


def test_every_line_of_the_lock_is_understood() -> None:
    text = (ROOT / "requirements.lock").read_text()
    names = [line.partition("==")[0] for line in text.splitlines() if line[:1].isalpha()]
    known = locked_versions(text)
    assert set(known) <= set(names)
    assert {"mlflow", "psycopg-binary", "pandas"} <= set(known)
    assert len(names) - len(known) < 10  # those of other systems


def test_disks_that_are_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert look_at_disk({"runs": tmp_path / "not" / "yet"}).status == "well"
    monkeypatch.setattr("steps.machine._ENOUGH", 10**18)
    assert look_at_disk({"runs": tmp_path}).status == "warning"
    monkeypatch.setattr("steps.machine._TOO_LITTLE", 10**18)
    found = look_at_disk({"runs": tmp_path})
    assert found.status == "bad"
    assert f"runs ({tmp_path})" in found.found
    assert "TMPDIR and CANDLEWICK_STATE" in found.remedy


@pytest.mark.parametrize(
    ("hours", "status", "word"), [(0.0, "well", ""), (0.1, "warning", ""), (2.0, "bad", "")]
)
@pytest.mark.parametrize(("sign", "direction"), [(-1, "ahead of"), (1, "behind")])
def test_clocks_that_differ(
    hours: float, status: str, word: str, sign: int, direction: str
) -> None:
    now = datetime.now(UTC)
    there = now + sign * timedelta(hours=hours)
    found = judge_clock(now, there, now + timedelta(seconds=1))
    assert found.status == status
    if status != "well":
        assert f" s {direction} the store's" in found.found
        assert "NTP" in found.remedy


def test_a_servers_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    yesterday = format_datetime(datetime.now(UTC) - timedelta(days=1), usegmt=True)
    with answering(200, "{}", {"Date": yesterday}) as address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        store = StoreDiagnosis()
        store.store()
        found = store.clock()
    assert found.status == "bad"
    assert "ahead of the store's" in found.found


def test_a_server_of_another_version(monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(200, '{"answers": "everything"}') as address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        found = StoreDiagnosis().store()
    assert found.status == "warning"
    assert f"while this environment has {mlflow.__version__}" in found.found
    assert "requirements.lock" in found.remedy


# -- the command --------------------------------------------------------------------------------


def test_a_check_that_hangs_or_fails_does_not_stop_the_others(
    in_empty_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> Finding:
        raise ZeroDivisionError("s3cr3t://a:s3cr3t@b")

    monkeypatch.setattr(doctor, "look_at_settings", fail)
    found = diagnose()
    assert bad(found) == {"settings"}
    assert found["settings"].found == "ZeroDivisionError: s3cr3t://a:***@b"
    end = threading.Event()
    monkeypatch.setattr(doctor, "_PATIENCE", 0.01)
    hung = doctor._checked("settings", lambda: Finding("settings", "well", str(end.wait())))
    end.set()
    assert hung == Finding(
        "settings", "bad", "no answer within 0.01 s", "see that it answers, then ask again"
    )


WORDS = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), max_size=300)


@given(st.lists(WORDS, min_size=1), WORDS, st.sampled_from(["well", "warning", "bad"]))
def test_the_table_has_its_columns_and_fits_into_a_hundred(
    found: list[str], remedy: str, status: str
) -> None:
    lines = in_lines(Finding("artifact store", status, " ".join(found), remedy)).split("\n")  # type: ignore[arg-type]
    assert max(map(len, lines)) <= 100
    assert lines[0].startswith(f"artifact store   {status:<8}")
    assert all(line.startswith(" " * 26) for line in lines[1:])


def run_doctor(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["doctor", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_the_command_leaves_with_0_where_nothing_is_bad(
    in_empty_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_doctor(monkeypatch) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line[:17].strip() for line in lines if line[:1].strip()][:-1] == CHECKS
    assert lines[-1] == "all is well"
    assert run_doctor(monkeypatch, "--end_dead_run=true") == 1
    assert "did you mean end_dead_runs?" in capsys.readouterr().err


def test_the_command_tells_no_secret(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(
        "MLFLOW_TRACKING_URI", "postgresql://quant:hush%2Fhush@127.0.0.1:9/x?password=hush-2"
    )
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "hush-hush-3")
    assert run_doctor(monkeypatch) == 1
    told = "".join(capsys.readouterr())
    assert "postgresql://quant:***@127.0.0.1:9/x?password=***" in told.replace("\n" + " " * 26, "")
    assert "hush" not in told


@pytest.fixture
def prepared_run(database: Path, monkeypatch: pytest.MonkeyPatch) -> RecordedRun:
    """A run that `mlflow run` has prepared."""
    record_something()
    client = mlflow.MlflowClient(f"sqlite:///{database}")
    experiment = client.get_experiment_by_name(EXPERIMENT)
    run_id = client.create_run(experiment.experiment_id).info.run_id
    client.log_param(run_id, "end_dead_runs", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    monkeypatch.setenv("MLFLOW_RUN_ID", run_id)
    return RecordedRun(client, run_id)


def test_under_mlflow_run_the_table_is_left_in_the_run(
    prepared_run: RecordedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_doctor(monkeypatch) == 0
    run = prepared_run.read()
    assert run.info.status == "FINISHED"
    assert run.data.tags["doctor"] == "well"
    assert "\njournal          well     nothing waits\n" in run.data.tags["mlflow.note.content"]
    stored = Path(run.info.artifact_uri.removeprefix("file://")) / "doctor.txt"
    assert "\njournal          well     nothing waits\n" in stored.read_text()


def test_under_mlflow_run_the_run_fails_where_something_is_bad(
    prepared_run: RecordedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("pyproject.toml").write_text("[project]\nrequires-python = '>=4'\n")
    monkeypatch.setattr(doctor, "PROJECT", Path.cwd())
    assert run_doctor(monkeypatch) == 1
    run = prepared_run.read()
    assert run.info.status == "FAILED"
    assert run.data.tags["doctor"] == "bad"
    assert run.data.tags["failure"] == "2 bad: python, packages"


@pytest.mark.slow
def test_the_command_by_itself(run_python: Callable[..., CompletedProcess[str]]) -> None:
    done = run_python("-m", "steps.doctor", MLFLOW_TRACKING_URI="http://quant:hush@127.0.0.1:9")
    assert done.returncode == 1
    assert "connection refused" in done.stdout
    assert "hush" not in done.stdout + done.stderr
    assert "\n1 bad: tracking store; 7 not looked at: " in done.stdout


# -- real servers -------------------------------------------------------------------------------


def set_all(monkeypatch: pytest.MonkeyPatch, settings: dict[str, str]) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)


@pytest.mark.thorough
def test_a_server_with_users(
    server_with_users: TrackingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server_with_users.uri)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "doctors")
    found = diagnose()
    assert bad(found) == {"tracking store"}
    assert "error 401: it wants to know who asks" in found["tracking store"].found
    assert found["tracking store"].remedy.startswith("set MLFLOW_TRACKING_USERNAME and ")

    set_all(monkeypatch, server_with_users.environment_of("admin"))
    with MLflowLogger("doctors"):
        pass
    found = diagnose()
    assert bad(found) == set()
    assert found["permission"].found.startswith("user admin, an administrator; experiment doctors")
    assert found["tracking store"].found.endswith(f", MLflow {mlflow.__version__}")
    assert found["artifact store"].found.endswith(": a file was written, read and deleted")

    set_all(monkeypatch, server_with_users.environment_of("writer"))
    found = diagnose()
    assert bad(found) == set()
    assert found["permission"].found.startswith("user writer; experiment doctors may be written")
    assert "whoever may write may not delete" in found["artifact store"].found
    address = "/api/2.0/mlflow-artifacts/artifacts"
    folder = found["artifact store"].found.partition(": a file")[0].partition(":/")[2]
    files = call_server(server_with_users.uri, address, params={"path": folder}).json()["files"]
    assert len(files) == 1  # and not one more each time
    diagnose()
    assert (
        call_server(server_with_users.uri, address, params={"path": folder}).json()["files"]
        == files
    )

    set_all(monkeypatch, server_with_users.environment_of("reader"))
    found = diagnose()
    assert bad(found) == {"permission", "artifact store"}
    for what in ("permission", "artifact store"):
        assert "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD" in found[what].remedy

    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "hush-hush-hush")
    found = diagnose()
    assert bad(found) == {"tracking store"}
    assert "does not accept this user and password" in found["tracking store"].found
    assert found["tracking store"].remedy.startswith("correct MLFLOW_TRACKING_USERNAME and ")
    assert "hush" not in str(found)


@pytest.mark.thorough
@pytest.mark.parametrize("backend", ["server+postgres+s3"], indirect=True)
def test_a_server_whose_database_or_bucket_is_gone(
    backend: Backend, postgres_server: Postgres, s3_server: S3
) -> None:
    record_something()
    assert bad(diagnose()) == set()
    try:
        s3_server.stop()
        found = diagnose()
        assert bad(found) == {"artifact store"}
        assert "the store it keeps artifacts in" in found["artifact store"].remedy
        s3_server.ensure_running()
        postgres_server.stop()
        found = diagnose()
        assert bad(found) == {"tracking store"}
        assert "server's log" in found["tracking store"].remedy
    finally:
        s3_server.ensure_running()
        postgres_server.ensure_running()
    assert bad(diagnose()) == set()


@pytest.mark.thorough
@pytest.mark.parametrize("backend", ["postgres+s3"], indirect=True)
def test_a_database_and_a_bucket(
    backend: Backend, s3_server: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = diagnose()
    assert bad(found) == set()
    assert found["database schema"].found == f"that of MLflow {mlflow.__version__}"
    assert found["clock"].found == "agrees with the store's"
    assert found["artifact store"].found.endswith(": a file was written, read and deleted")
    assert backend.artifacts
    assert backend.artifacts.names() == []
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush-hush-hush")
    found = diagnose()
    assert bad(found) == {"artifact store"}
    assert found["artifact store"].remedy == "correct AWS_SECRET_ACCESS_KEY"
    set_all(monkeypatch, s3_server.read_only_environment())
    found = diagnose()
    assert bad(found) == {"artifact store"}
    assert "right to read and write the bucket" in found["artifact store"].remedy
    monkeypatch.setenv("MLFLOW_S3_BUCKET", "nobodys")
    assert "create the bucket" in diagnose()["artifact store"].remedy
    backend.stop()
    found = diagnose()
    assert bad(found) == {"tracking store", "artifact store"}
    assert "see that it runs" in found["tracking store"].remedy


@pytest.mark.thorough
@pytest.mark.parametrize("backend", ["postgres+gcs"], indirect=True)
def test_a_database_and_a_bucket_of_google(backend: Backend) -> None:
    found = diagnose()
    assert bad(found) == set()
    assert found["artifact store"].found.startswith("gs://")
    assert found["artifact store"].found.endswith(": a file was written, read and deleted")
    assert backend.artifacts
    assert backend.artifacts.names() == []
