import pytest

from analysis.address import mlflow_command, redact, resolve_tracking_uri


def test_the_address_comes_from_the_flag_then_the_environment_then_the_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://host:5000")
    assert resolve_tracking_uri("sqlite:///here.db") == f"sqlite:///{tmp_path}/here.db"
    assert resolve_tracking_uri() == "http://host:5000"
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert resolve_tracking_uri() == f"sqlite:///{tmp_path}/mlflow.db"


def test_a_password_is_not_shown():
    assert redact("postgresql://me:secret@host/db") == "postgresql://me:***@host/db"
    assert redact("sqlite:////a/b@c.db") == "sqlite:////a/b@c.db"
    assert redact("python --tracking-uri=http://me:secret@host:5000") == "python --tracking-uri=http://me:***@host:5000"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://me:s@cr/et'x@host:5000/a", "http://me:***@host:5000/a"),
        ("https://a_token@host/a", "https://***@host/a"),
        ("postgresql:///db?user=me&password=secret#&x=1", "postgresql:///db?user=me&password=***&x=1"),
        ("x http://me:1234@host/a and http://you:secret@there/b", "x http://me:***@host/a and http://you:***@there/b"),
        ("http://host:5000/#/runs/1?by=me@host", "http://host:5000/#/runs/1?by=me@host"),
        ("http://host:5000 or me@host", "http://host:5000 or me@host"),
        ("http://[::1]:5000/a@b", "http://[::1]:5000/a@b"),
        ("file:///home/me@host/mlruns", "file:///home/me@host/mlruns"),
    ],
)
def test_a_secret_is_hidden_however_it_is_written_and_nothing_else(text, shown):
    assert redact(text) == shown


@pytest.mark.parametrize("uri", ["file:///a/b", "postgresql://host/db", "databricks"])
def test_an_address_that_means_the_same_everywhere_stays_as_it_is(uri, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert resolve_tracking_uri(uri) == uri


def test_a_folder_becomes_an_absolute_address(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert resolve_tracking_uri("mlruns") == f"file://{tmp_path}/mlruns"


def test_the_command_opens_a_database_or_points_to_a_server():
    assert mlflow_command("sqlite:////a/mlflow.db") == "mlflow ui --backend-store-uri 'sqlite:////a/mlflow.db'"
    assert mlflow_command("http://me:secret@host:5000") == "open http://me:***@host:5000"
