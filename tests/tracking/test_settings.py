"""Settings: who decides, what is refused, and what is never told."""

from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import example, given, settings
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
        "MLFLOW_GCS_BUCKET",
        "CANDLEWICK_STATE",
        "CANDLEWICK_PATIENCE",
        "CANDLEWICK_CACHE",
        "CANDLEWICK_CACHE_SIZE",
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


def test_the_remote_backend_takes_a_bucket_of_either_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    write_env(f"MLFLOW_BACKEND=remote\nMLFLOW_POSTGRES_URI={POSTGRES}\n")
    for bucket in ("models", "gs://models", "gs://models/"):
        monkeypatch.setenv("MLFLOW_GCS_BUCKET", bucket)
        assert load_settings().artifact_root == "gs://models"
    monkeypatch.setenv("MLFLOW_S3_BUCKET", "models")
    with pytest.raises(SettingsError, match=r"MLFLOW_S3_BUCKET and MLFLOW_GCS_BUCKET .*unset"):
        load_settings()
    monkeypatch.setenv("MLFLOW_BACKEND", "local")
    assert load_settings().artifact_root is None


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


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("postgresql://db/x?user=q&password=hush&a=b", "postgresql://db/x?user=q&password=***&a=b"),
        ("postgresql://q:hush@db/x?sslpassword=hush", "postgresql://q:***@db/x?sslpassword=***"),
        ("postgresql://q@db/x?password=hush@home:1", "postgresql://q@db/x?password=***"),
        ("postgresql://q:a@db/x?password=hush@home", "postgresql://q:***@***"),
        (
            "GET https://b.s3.example/k?X-Amz-Signature=hush&X-Amz-Expires=60&X-Amz-Credential=hush"
            "&X-Amz-Security-Token=hush",
            "GET https://b.s3.example/k?X-Amz-Signature=***&X-Amz-Expires=60&X-Amz-Credential=***"
            "&X-Amz-Security-Token=***",
        ),
        (
            "https://x.blob.example/c?sv=2024&sig=hush%3D",
            "https://x.blob.example/c?sv=2024&sig=***",
        ),
        ("https://api.example/?token=hush&key=hush#top", "https://api.example/?token=***&key=***"),
        ("https://api.example/?api_key=hush&page=2", "https://api.example/?api_key=***&page=2"),
        ("host=db user=q password='hu\\'sh' dbname=x", "host=db user=q password=*** dbname=x"),
        ("MLFLOW_TRACKING_PASSWORD=hush make", "MLFLOW_TRACKING_PASSWORD=*** make"),
        ("{'Authorization': 'Basic aHVzaA=='}", "{'Authorization': 'Basic ***'}"),
        ("Authorization: Bearer hush.hush", "Authorization: Bearer ***"),
        ("mssql+pyodbc:///?odbc_connect=PWD%3Dhush", "mssql+pyodbc:///?odbc_connect=***"),
    ],
)
def test_redact_hides_what_a_query_or_a_header_holds(text: str, told: str) -> None:
    assert redact(text) == told
    assert redact(told) == told


@pytest.mark.parametrize(
    "text",
    ["https://example.com/?page=2&monkeys=3", "max_depth=3 token=5", "which key? key=value"],
)
def test_redact_knows_a_query_from_other_words(text: str) -> None:
    assert redact(text) == text


SECRETS = {
    "MLFLOW_TRACKING_PASSWORD": "{}",
    "MLFLOW_TRACKING_TOKEN": "{}",
    "AWS_SECRET_ACCESS_KEY": "{}",
    "AWS_SESSION_TOKEN": "{}",
    "PGPASSWORD": "{}",
    "MLFLOW_POSTGRES_URI": "postgresql://quant:{}@db.example/mlflow",
}
NO_SECRETS = ("mlflow", "sqlite", "password", "postgres", "postgresql", "candlewick")
PLANTED = st.text(
    st.characters(codec="utf-8", exclude_categories=["C"], exclude_characters="@"), min_size=6
).filter(lambda text: text.strip() == text and "***" not in text and text not in NO_SECRETS)


@settings(max_examples=40, deadline=None)
@given(PLANTED, st.sampled_from(sorted(SECRETS)), st.sampled_from([str, quote, quote_plus, repr]))
@example("pass word/1+2", "MLFLOW_POSTGRES_URI", quote_plus)
@example("100% sure", "PGPASSWORD", quote)
@example("a\\b'c\"d", "AWS_SECRET_ACCESS_KEY", repr)
def test_redact_hides_the_environments_secrets_wherever_they_stand(
    secret: str, name: str, form: Callable[[str], str]
) -> None:
    with pytest.MonkeyPatch.context() as planting:
        planting.setenv(name, SECRETS[name].format(secret))
        shown = form(secret)
        assert secret not in redact(f"the server said: no {shown} here, nor {secret}/x")
        assert shown.strip("'\"") not in redact(f"no {shown} here")


@settings(max_examples=40, deadline=None)
@given(PLANTED)
def test_a_password_in_the_env_file_is_hidden_wherever_it_stands(secret: str) -> None:
    encoded = quote(secret, safe="")
    write_env(f"MLFLOW_POSTGRES_URI='postgresql://quant:{encoded}@db.example/mlflow'\n")
    load_settings()
    assert secret not in redact(f"wrong: {secret}")
    assert encoded not in redact(f"wrong: {encoded}")


def test_words_of_our_own_are_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://mlflow:mlflow@db/mlflow")
    told = "run `mlflow db upgrade postgresql://mlflow:***@db/mlflow`"
    assert redact(told) == told


@settings(deadline=None)
@given(st.text(alphabet="?&;=:/@ .-_'\"%#ab0passwordtokenkeysig", max_size=80))
def test_redact_twice_is_redact_once(text: str) -> None:
    once = redact(text)
    assert redact(once) == once


def test_redact_takes_each_uri_for_itself() -> None:
    text = "moved from http://a:one@old.example to http://b:two@new.example:5000"
    assert redact(text) == "moved from http://a:***@old.example to http://b:***@new.example:5000"
