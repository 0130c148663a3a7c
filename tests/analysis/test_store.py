import hashlib
import socket
import sqlite3
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from mlflow import MlflowClient

from analysis.load import load_study
from trainables.config import InputError


def test_looking_for_a_missing_file_does_not_create_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(InputError, match=r"mlflow\.db.*does not exist"):
        load_study("any")
    with pytest.raises(InputError, match="not a folder"):
        load_study("any", tracking_uri="mlruns")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"plain text, long enough to be no database header at all"])
def test_a_file_that_is_no_record_is_refused_and_left_alone(tmp_path, content):
    path = tmp_path / "file.db"
    path.write_bytes(content)
    with pytest.raises(InputError, match="No MLflow record"):
        load_study("any", tracking_uri=f"sqlite:///{path}")
    assert path.read_bytes() == content


def test_a_record_of_another_schema_is_one_line(tmp_path):
    path = tmp_path / "mlflow.db"
    MlflowClient(f"sqlite:///{path}")
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '451aebb31d03'")
    connection.close()
    from mlflow.tracking._tracking_service import utils

    utils._tracking_store_registry._get_store_with_resolved_uri.cache_clear()  # as in a process of its own
    with pytest.raises(InputError, match=r"cannot be read: .*schema") as caught:
        load_study("any", tracking_uri=f"sqlite:///{path}")
    assert "\n" not in str(caught.value)


def test_a_server_that_is_down_is_one_line_within_seconds():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    began = time.monotonic()
    for uri in (f"http://me:secret@127.0.0.1:{port}", f"postgresql://me:secret@127.0.0.1:{port}/mlflow"):
        with pytest.raises(InputError, match=r"does not answer|cannot be read") as caught:
            load_study("any", tracking_uri=uri)
        assert "\n" not in str(caught.value)
        assert "secret" not in str(caught.value)
    assert time.monotonic() - began < 5


def write_old_store(uri):
    """The tables of an MLflow of 2019, made by MLflow's own migrations."""
    import sqlalchemy
    from alembic import command
    from mlflow.store.db.utils import _get_alembic_config
    from mlflow.store.tracking.dbmodels.initial_models import Base

    engine = sqlalchemy.create_engine(uri)
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        config = _get_alembic_config(uri)
        config.attributes["connection"] = connection
        command.upgrade(config, "451aebb31d03")
    engine.dispose()


def test_the_store_of_an_older_mlflow_is_named_and_not_upgraded_by_looking(tmp_path):
    path = tmp_path / "mlflow.db"
    uri = f"sqlite:///{path}"
    write_old_store(uri)
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(InputError, match=r"older MLflow; back it up, then run `mlflow db upgrade sqlite:///") as caught:
        load_study("any", tracking_uri=uri)
    assert "\n" not in str(caught.value)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["mlflow.db"]


def answer_with(status, body):
    """A server that gives every request the same answer."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815 - the name that http.server calls

        def log_message(self, *_):
            pass

    return ThreadingHTTPServer(("127.0.0.1", 0), Handler)


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (500, b"oops", "answers 500"),
        (404, b"no such page", "answers 404"),
        (200, b"<html>some other site</html>", "is it MLflow"),
        (200, b"[1, 2]", "is it MLflow"),
    ],
)
def test_a_server_that_is_no_mlflow_or_broken_is_one_line(status, body, says):
    with answer_with(status, body) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(InputError, match=says) as caught:
            load_study("any", tracking_uri=f"http://127.0.0.1:{server.server_port}")
        server.shutdown()
    assert "\n" not in str(caught.value)
