"""Addresses of an MLflow record: which one is meant, and how it may be shown. Standard library only."""

from __future__ import annotations

import os
import re
from pathlib import Path

DATABASE_FILE = "mlflow.db"
#: Where `mlflow ui` serves a record unless told otherwise.
LOCAL_SERVER = "http://127.0.0.1:5000"
#: Characters of an error, in a line and not on a page.
MAX_REASON = 300
#: A name and a password; a password may hold an unescaped "@" or "/", a port is none.
PASSWORD = re.compile(r"(://[^/:@\s\[]*):(?!\d+(?:/|\s|$))\S*@")
#: A key without a name, as of a token.
TOKEN = re.compile(r"://[^/:@\s\[]+@")
#: A password among an address's options.
OPTION = re.compile(r"([?&;](?:password|passwd|pwd|token|secret)=)[^&;\s]+", re.IGNORECASE)


def resolve_tracking_uri(tracking_uri: str | None = None) -> str:
    """The address given, else ``MLFLOW_TRACKING_URI``, else a SQLite file in the working directory.

    Paths become absolute: workers run in another directory.
    """
    uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{DATABASE_FILE}"
    for scheme in ("sqlite:///", "file://"):
        path = uri.removeprefix(scheme)
        if path not in (uri, ""):
            return f"{scheme}{Path(path).absolute()}"
    return uri if ":" in uri or uri == "databricks" else Path(uri).absolute().as_uri()


def is_server(tracking_uri: str) -> bool:
    """Whether a tracking server is asked, rather than a database or a folder."""
    return tracking_uri.startswith(("http://", "https://"))


def is_sqlite(tracking_uri: str) -> bool:
    """Whether the record is a database file of this machine, whose calls either succeed or fail."""
    return tracking_uri.startswith("sqlite:///")


def redact(text: str) -> str:
    """A text without the passwords of the addresses in it, for messages and pages."""
    return OPTION.sub(r"\1***", TOKEN.sub("://***@", PASSWORD.sub(r"\1:***@", text)))


def short_reason(error: BaseException) -> str:
    """What an error says, short, on one line, and without passwords."""
    text = redact(" ".join(str(error).split())) or type(error).__name__
    return text if len(text) <= MAX_REASON else f"{text[:MAX_REASON]}…"


def mlflow_command(tracking_uri: str) -> str:
    """How to look at the record."""
    if is_server(tracking_uri):
        return f"open {redact(tracking_uri)}"
    return f"mlflow ui --backend-store-uri '{redact(tracking_uri)}'"
