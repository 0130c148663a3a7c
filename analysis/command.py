"""The command line of every entry point: what it refuses is one line, and no terminal acts on it."""

from __future__ import annotations

import argparse
import atexit
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from analysis.address import redact
from analysis.plain import plain
from trainables.config import InputError


class OneLineParser(argparse.ArgumentParser):
    """A command line whose refusals are one line like every other."""

    def error(self, message: str) -> NoReturn:
        """One clear line, without the usage in front of it."""
        raise InputError(message[:1].upper() + message[1:])


def check_text(arguments: Sequence[str]) -> None:
    """Every argument can be written down; a byte that is not UTF-8 comes as half a character.

    Raises:
        InputError: If one cannot.
    """
    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError:
            raise InputError(f"Arguments must be UTF-8 text; got {argument!r}.") from None


def refusal(error: InputError) -> str:
    """What is said of a bad input: one line, without passwords."""
    return plain(redact(" ".join(str(error).split())))


def leave(code: int) -> NoReturn:
    """End the process with a code, as soon as its threads and what was registered for its exit are done.

    Python would go on to take every module apart, which after a study takes a second and in which libraries complain
    of each other's leaks.
    """
    _codes.append(code)
    sys.exit(code)


_codes: list[int] = []


# What is registered first runs last, and the package imports this module before any other.
@atexit.register
def _end() -> None:
    if not _codes:
        return
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        return  # Python says so, in its own way out.
    os._exit(_codes[-1])
