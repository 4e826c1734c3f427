"""Settings: who decides, what is refused, and what is never told."""

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import SecretStr
from sqlalchemy import make_url

from steps.tracking.settings import Settings, SettingsError, load_settings, redact

POSTGRES = "postgresql://quant:s3cr3t@db.example:5432/mlflow"


def write_env(text: str) -> None:
    Path(".env").write_text(text)


def test_defaults_record_in_the_working_folder() -> None:
    settings = load_settings()
    assert settings.MLFLOW_TRACKING_URI is None
    assert settings.MLFLOW_BACKEND == "local"
    assert settings.MLFLOW_EXPERIMENT_NAME == "stock_prediction"
    assert settings.tracking_uri == "sqlite:///mlflow.db"
    assert settings.artifact_root is None


def test_the_guides_names_are_the_settings_names() -> None:
    assert set(Settings.model_fields) == {
        "MLFLOW_TRACKING_URI",
        "MLFLOW_EXPERIMENT_NAME",
        "MLFLOW_BACKEND",
        "MLFLOW_POSTGRES_URI",
        "MLFLOW_S3_BUCKET",
    }


def test_environment_over_env_file_over_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    write_env("MLFLOW_TRACKING_URI=file:./from_file\nMLFLOW_EXPERIMENT_NAME=from_file\n")
    assert load_settings().tracking_uri == "file:./from_file"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "file:./from_environment")
    settings = load_settings()
    assert settings.tracking_uri == "file:./from_environment"
    assert settings.MLFLOW_EXPERIMENT_NAME == "from_file"
    assert settings.MLFLOW_BACKEND == "local"


def test_an_empty_variable_decides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    write_env("MLFLOW_EXPERIMENT_NAME=from_file\n")
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_BACKEND"):
        monkeypatch.setenv(name, "")
    settings = load_settings()
    assert settings.tracking_uri == "sqlite:///mlflow.db"
    assert settings.MLFLOW_EXPERIMENT_NAME == "from_file"


def test_remote_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    write_env(f"MLFLOW_BACKEND=remote\nMLFLOW_POSTGRES_URI={POSTGRES}\n")
    assert load_settings().tracking_uri == POSTGRES
    assert load_settings().artifact_root is None
    for bucket in ("models", "s3://models", "s3://models/"):
        monkeypatch.setenv("MLFLOW_S3_BUCKET", bucket)
        assert load_settings().artifact_root == "s3://models"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://mlflow.example")
    assert load_settings().tracking_uri == "https://mlflow.example"


def test_local_backend_leaves_the_remote_settings_alone() -> None:
    write_env(f"MLFLOW_POSTGRES_URI={POSTGRES}\nMLFLOW_S3_BUCKET=models\n")
    assert load_settings().tracking_uri == "sqlite:///mlflow.db"
    assert load_settings().artifact_root is None


def test_remote_backend_without_address_says_what_is_missing() -> None:
    write_env("MLFLOW_BACKEND=remote\n")
    with pytest.raises(SettingsError, match=r"MLFLOW_BACKEND=remote needs MLFLOW_POSTGRES_URI"):
        _ = load_settings().tracking_uri


def test_unknown_backend_is_refused_by_name() -> None:
    write_env("MLFLOW_BACKEND=cloud\n")
    with pytest.raises(SettingsError, match=r"MLFLOW_BACKEND='cloud': .*'local' or 'remote'"):
        load_settings()


def test_a_password_in_the_wrong_variable_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_BACKEND", POSTGRES)
    with pytest.raises(SettingsError, match="MLFLOW_BACKEND") as caught:
        load_settings()
    assert "s3cr3t" not in str(caught.value)


def test_nothing_else_in_the_env_file_matters() -> None:
    write_env(
        "# our cluster\r\n"
        "export MLFLOW_EXPERIMENT_NAME='momentum: \"2026\"'\r\n"
        "mlflow_backend=no such thing\n"
        "AWS_SECRET_ACCESS_KEY=abc\n"
        "MLFLOW_TRACKING_PASSWORD=hunter2\n"
        'WÄHRUNG="€"\n'
        "EMPTY=\n"
        "\n"
    )
    assert load_settings().MLFLOW_EXPERIMENT_NAME == 'momentum: "2026"'


def test_an_env_file_that_is_no_text_is_named() -> None:
    Path(".env").write_bytes("# Währung\nMLFLOW_BACKEND=local\n".encode("latin-1"))
    with pytest.raises(SettingsError, match=r"\.env is not UTF-8"):
        load_settings()


def test_settings_do_not_print_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_POSTGRES_URI", POSTGRES)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", POSTGRES)
    settings = load_settings()
    assert isinstance(settings.MLFLOW_POSTGRES_URI, SecretStr)
    for text in (repr(settings), str(settings), f"{settings}"):
        assert "s3cr3t" not in text
        assert "stock_prediction" in text


PASSWORD = st.text(st.characters(codec="utf-8", exclude_categories=["Z", "C"]), min_size=1)
USER = st.text(st.characters(codec="utf-8", exclude_characters=":/", exclude_categories=["Z", "C"]))


@given(PASSWORD, USER)
@example("p@ss:w/rd", "quant")
@example("12/3@", "")
@example("@", "user@tenant")
@example("://a:b@c", "quant")
@example("***", "quant")
def test_redact_hides_every_password(password: str, user: str) -> None:
    text = f"no route to 'postgresql://{user}:{password}@db.example:5432/mlflow', giving up"
    expected = f"no route to 'postgresql://{user}:***@db.example:5432/mlflow', giving up"
    assert redact(text) == expected
    assert redact(expected) == expected


@given(st.text(st.characters(codec="ascii", exclude_characters="@"), min_size=1))
@example("a/b:c")
def test_redact_hides_what_sqlalchemy_reads_as_password(password: str) -> None:
    uri = f"postgresql://quant:{password}@db.example/mlflow".replace(" ", "%20")
    try:
        read = make_url(uri)
    except ValueError:
        return
    if not any(character.isspace() for character in uri):
        assert read.password
        assert redact(uri) == "postgresql://quant:***@db.example/mlflow"


@pytest.mark.parametrize(
    "text",
    [
        "http://localhost:5000/#/experiments/1",
        "sqlite:////home/a:b/mlflow.db",
        "file:///home/user@host:1/mlruns",
        "https://user@mlflow.example/path",
        "http://localhost:5000 is down: write to ops@example.com",
        "12:30 at a@b",
    ],
)
def test_redact_leaves_the_rest_alone(text: str) -> None:
    assert redact(text) == text


def test_redact_takes_each_uri_for_itself() -> None:
    text = "moved from http://a:one@old.example to http://b:two@new.example:5000"
    assert redact(text) == "moved from http://a:***@old.example to http://b:***@new.example:5000"
