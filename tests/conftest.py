"""What every test may count on."""

import os
import sqlite3

import sqlalchemy
from sqlalchemy import event

# Ray reads it when it is imported: what a test starts in its own process listens on the loopback interface only.
os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
# A cluster that a test makes after another has used Ray in this process would ask its studies for that one's token.
os.environ.setdefault("RAY_AUTH_MODE", "disabled")


@event.listens_for(sqlalchemy.Engine, "connect")
def leave_writes_to_the_system(connection, _record):
    """Databases that a test writes by itself need not survive a power cut: half of the time they take is waiting."""
    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA synchronous=OFF")
