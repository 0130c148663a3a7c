"""What every test may count on."""

import sqlite3

import sqlalchemy
from sqlalchemy import event


@event.listens_for(sqlalchemy.Engine, "connect")
def leave_writes_to_the_system(connection, _record):
    """Databases that a test writes by itself need not survive a power cut: half of the time they take is waiting."""
    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA synchronous=OFF")
