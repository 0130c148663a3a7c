"""One process for thousands of refusals: what would start Ray or train is in the way, and every refusal is counted."""

import contextlib
import logging
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Executor, Future
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import ray
import torch
import torchvision
from hypothesis import HealthCheck, Phase, settings

from analysis.plain import plain
from study import apart, phases, registry
from tests.bad_input.record import write_record
from tests.bad_input.sites import ROOT, Site, find_sites
from tests.bad_input.workplace import Case, Outcome, call, contents, workplace
from trainables.config import InputError

#: Inputs for each rule; a strategy needs at least so many that differ.
EXAMPLES = 25
LEAST = 20
LOGGERS = ("ray", "study", "mlflow", "alembic", "optuna")

PROFILE = settings(
    max_examples=EXAMPLES,
    derandomize=True,  # the same inputs on every machine; the counts are a result
    database=None,  # nothing is left in the working directory
    phases=[Phase.generate, Phase.shrink],  # explaining a failure takes as long again
    deadline=None,  # a busy machine is not a failure
    suppress_health_check=[
        HealthCheck.too_slow,  # a Python file or an archive of images takes its time to draw
        HealthCheck.filter_too_much,  # most of what can be typed is a good name
    ],
)


class Here(Executor):
    """In place of a process apart: does its work at once, where what is refused is counted."""

    def submit(self, function, /, *arguments):
        """As every executor's; the result is there when this returns."""
        done = Future()
        try:
            done.set_result(function(*arguments))
        except InputError as error:
            done.set_exception(error)
        return done


class Counted:
    """Runs cases and says which rules refused them."""

    def __init__(self, raised: list[Site], addresses: dict[str, str], record: Path) -> None:
        self._raised = raised
        self._addresses = addresses
        self._record = record
        self._recorded = contents(record)

    def refuse(self, case: Case) -> tuple[Outcome, set[Site]]:
        """A case that must be refused in at most three lines and leave nothing; and the sites that did it."""
        self._raised.clear()
        with workplace(case) as (place, environment):
            before = contents(place)
            arguments = tuple(self._filled_in(argument) for argument in case.arguments)
            outcome = call(replace(case, arguments=arguments), place, environment)
            assert contents(place) == before, "something is left on disk"
            if arguments != case.arguments:
                assert contents(self._record) == self._recorded, "something was written to the record"
        assert outcome.code == 2, outcome
        assert outcome.out == ""
        assert 1 <= len(outcome.lines) <= 3
        assert "Traceback" not in outcome.err
        assert outcome.lines == [plain(line) for line in outcome.lines], "a terminal would act on it"
        return outcome, set(self._raised)

    def _filled_in(self, argument: str) -> str:
        for name, address in self._addresses.items():
            argument = argument.replace(name, address)
        return argument


@contextlib.contextmanager
def serving(code: int, content: bytes) -> Iterator[str]:
    """A server that says the same to everybody; its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(code)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args: object) -> None:
            """Not on the error stream that is looked at."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="session")
def all_sites() -> list[Site]:
    return find_sites()


@pytest.fixture(scope="module")
def counted(all_sites, tmp_path_factory):  # noqa: C901 - each stand-in is a line or two
    """The real entry functions, with Ray's start and the trials in the way; only while a module here runs."""
    lines = {(site.path, site.line): site for site in all_sites}
    raised: list[Site] = []

    def note(self, *args):
        frame = sys._getframe(1)
        path = Path(frame.f_code.co_filename)
        site = lines.get((str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else "", frame.f_lineno))
        if site is not None:
            raised.append(site)
        ValueError.__init__(self, *args)

    def start_ray(*_, address=None, **__):
        if address is not None:
            raise ConnectionError(f"nothing at {address}")

    def run_trials(*_, **__):
        raise AssertionError("the study was not refused")

    def load_stored_model(study, **options):
        if study != "stub":
            return load_model(study, **options)
        return registry.StoredModel(torch.nn.Identity(), (1, 4, 5), ("a", "b", "c"), "stub", "mse", 1)

    def download(*_, **__):
        raise RuntimeError("no network")

    load_model = registry.load_stored_model
    record = tmp_path_factory.mktemp("record")
    loggers = [(logger, logger.handlers, logger.propagate, logger.level) for logger in map(logging.getLogger, LOGGERS)]
    with pytest.MonkeyPatch.context() as patch, serving(500, b"") as broken, serving(200, b"<html>") as other:
        patch.setattr(InputError, "__init__", note)
        patch.setattr(ray, "init", start_ray)
        patch.setattr(ray, "shutdown", lambda: None)
        machine = {"NodeID": "0", "NodeManagerHostname": "here", "NodeManagerAddress": "127.0.0.1", "Alive": True}
        patch.setattr(ray, "nodes", lambda: [{**machine, "Resources": {"CPU": 2.0}}])
        patch.setattr(phases, "run_trials", run_trials)
        patch.setattr(apart, "process_apart", lambda: contextlib.nullcontext(Here()))
        patch.setattr(registry, "load_stored_model", load_stored_model)
        for name in ("MNIST", "KMNIST"):
            patch.setattr(torchvision.datasets, name, download)
        patch.setattr(torch.cuda, "is_available", lambda: False)
        patch.setattr(torch.cuda, "device_count", lambda: 0)
        patch.setattr(sys, "dont_write_bytecode", True)
        uri = write_record(record)
        yield Counted(raised, {"{STORE}": uri, "{BROKEN_SERVER}": broken, "{OTHER_SERVER}": other}, record)
    for logger, handlers, propagate, level in loggers:
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)
