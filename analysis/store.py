"""Where the record lies, and whether it can be read: found out without creating, upgrading or waiting."""

from __future__ import annotations

import socket
import sqlite3
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

from mlflow.exceptions import MlflowException
from mlflow.store.db.utils import create_sqlalchemy_engine
from mlflow.store.tracking.dbmodels.models import Base
from mlflow.tracking._tracking_service.utils import _get_store
from mlflow.utils.rest_utils import http_request
from sqlalchemy import inspect
from sqlalchemy.exc import SQLAlchemyError

from analysis.address import redact
from trainables.config import InputError
from trainables.files import is_dir, is_file

PROBE_SECONDS = 5
DATABASE_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}


def check_store(uri: str) -> None:
    """See that the store is there and answers, without creating, upgrading or waiting.

    Raises:
        InputError: If it is not or does not.
    """
    try:
        address = urlsplit(uri)
        port = address.port
    except ValueError as error:
        raise InputError(f"The address {redact(uri)!r} cannot be read: {error}.") from error
    if uri.startswith("sqlite:///"):
        _check_sqlite(Path(uri.removeprefix("sqlite:///")), uri)
    elif address.scheme in {"http", "https"}:
        _check_server(uri)
    elif address.scheme.split("+")[0] in DATABASE_PORTS and address.hostname:
        port = port or DATABASE_PORTS[address.scheme.split("+")[0]]
        with one_line(uri):
            with socket.create_connection((address.hostname, port), timeout=PROBE_SECONDS):
                pass
            engine = create_sqlalchemy_engine(uri)
            _check_tables(inspect(engine).get_table_names(), uri)
            engine.dispose()
    elif address.scheme in {"", "file"} and not is_dir(folder := Path(unquote(address.path))):
        hint = f"; a database is written sqlite:///{folder}" if is_file(folder) else ""
        raise InputError(f"No MLflow record at {uri!r}: not a folder{hint}.")


def _check_sqlite(path: Path, uri: str) -> None:
    # MLflow would create the file, fill an empty one with its tables and retry a wrong one for minutes.
    if not is_file(path):
        raise InputError(f"No MLflow record at {uri!r}: the file does not exist; name another with --tracking-uri.")
    try:
        # Read-write, so that SQLite may undo the unfinished write of a process that was killed; it creates nothing.
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True)) as connection:
            found = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    except sqlite3.Error as error:
        raise InputError(f"No MLflow record at {uri!r}: {error}.") from error
    _check_tables([name for (name,) in found], uri)


def _check_tables(found: Collection[str], uri: str) -> None:
    # MLflow gives a database that lacks a table all that are missing and upgrades the rest, merely by opening it.
    if "experiments" not in found:
        raise InputError(f"No MLflow record at {redact(uri)!r}: the database holds no experiments.")
    if not set(Base.metadata.tables) <= set(found):
        raise InputError(
            f"The MLflow record at {redact(uri)!r} was written by an older MLflow; back it up, then run "
            f"`mlflow db upgrade {redact(uri)}`."
        )


def _check_server(uri: str) -> None:
    # MLflow's own defaults retry a dead server for minutes; one quick question first.
    credentials = _get_store(store_uri=uri).get_host_creds()
    route = "/api/2.0/mlflow/experiments/search"
    try:
        response = http_request(
            credentials,
            route,
            "GET",
            params={"max_results": 1},
            max_retries=0,
            timeout=PROBE_SECONDS,
            raise_on_status=False,
        )
    except MlflowException as error:
        raise InputError(f"The MLflow server at {redact(uri)!r} does not answer; is it running?") from error
    if not response.ok:
        raise InputError(f"The MLflow server at {redact(uri)!r} answers {response.status_code}; is it MLflow?")
    try:
        known = isinstance(response.json(), dict)
    except ValueError:
        known = False
    if not known:
        raise InputError(f"The server at {redact(uri)!r} does not answer as MLflow does; is it MLflow?")


@contextmanager
def one_line(uri: str) -> Iterator[None]:
    """Turn what a store raises into one line.

    Raises:
        InputError: Instead of what MLflow, the database or the network raised.
    """
    try:
        yield
    except InputError:
        raise
    except (MlflowException, SQLAlchemyError, OSError, ImportError, UnicodeError) as error:
        text = " ".join(str(error).replace(uri, redact(uri)).split())
        reason = text if len(text) <= 300 else f"{text[:300]}…"  # noqa: PLR2004 - a line, not a page
        raise InputError(f"The MLflow record at {redact(uri)!r} cannot be read: {reason}") from error
