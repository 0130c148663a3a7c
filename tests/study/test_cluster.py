"""Ray's folders of dead studies are taken away, SIGTERM is Ctrl-C, and the log stops nobody."""

import gc
import logging
import signal
import socket
import tempfile
from contextlib import nullcontext

import pytest
import ray
from ray._private.node import Node
from ray._raylet import Config

from study import cluster
from study.process import is_alive, is_dead, this_process
from trainables.config import InputError


@pytest.fixture
def restored_ctrl_c():
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


def test_only_folders_of_dead_processes_are_taken_away(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    owners = {"dead": f"{socket.gethostname()} 1 never", "alive": this_process(), "elsewhere": "elsewhere 1 2"}
    for name, owner in owners.items():
        folder = tmp_path / f"{cluster.SESSION_PREFIX}{name}"
        (folder / "session").mkdir(parents=True)
        (folder / cluster.OWNER_FILE).write_text(owner)
    (tmp_path / f"{cluster.SESSION_PREFIX}nobody").mkdir()
    (tmp_path / "ray-another").mkdir()
    cluster.remove_dead_sessions()
    kept = {path.name.removeprefix(cluster.SESSION_PREFIX) for path in tmp_path.iterdir()}
    assert kept == {"alive", "elsewhere", "nobody", "ray-another"}


def test_a_process_is_told_from_another_that_has_its_number():
    host, pid, started = this_process().split()
    assert is_alive(f"{host} {pid} {started}")
    assert is_dead(f"{host} {pid} {int(started) + 1}")
    assert is_alive(f"{host} {pid} ")  # where the system does not tell when it was started, its number has to do
    assert is_dead(f"{host} {2**22 + 1} 1")  # no system gives so high a number
    for unknown in ("", "elsewhere 1 2"):
        assert not is_dead(unknown)
        assert not is_alive(unknown)


def test_ray_waits_as_long_as_ever_for_its_object_store_and_asks_more_often():
    keys = ("RAY_raylet_client_num_connect_attempts", "RAY_raylet_client_connect_timeout_milliseconds")
    times, milliseconds = (int(cluster.ENVIRONMENT[key]) for key in keys)
    assert times * milliseconds == 10 * 1000  # Ray's own
    assert all(hasattr(Config, key.removeprefix("RAY_")) for key in keys)


@pytest.mark.parametrize("collecting", [True, False])
def test_no_garbage_is_looked_for_while_ray_ends(monkeypatch, collecting):
    seen = []

    def shutdown():
        seen.append(gc.isenabled())
        raise OSError("Ray's own")

    monkeypatch.setattr(ray, "shutdown", shutdown)
    try:
        if not collecting:
            gc.disable()
        with pytest.raises(OSError, match="Ray's own"):
            cluster.disconnect()
        assert (seen, gc.isenabled()) == ([False], collecting)
    finally:
        gc.enable()


@pytest.mark.parametrize("on_ctrl_c", [signal.default_int_handler, signal.SIG_IGN])  # ignored in a script's background
def test_sigterm_interrupts_and_is_what_it_was_afterwards(on_ctrl_c, restored_ctrl_c):
    signal.signal(signal.SIGINT, on_ctrl_c)
    before = signal.getsignal(signal.SIGTERM)

    def be_terminated():
        with cluster._terminated_is_interrupted():
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        be_terminated()
    assert signal.getsignal(signal.SIGTERM) is before


class Starting(Node):
    """Of Ray, as far as it came when it is too slow."""

    def __init__(self, ended, trouble):
        self._ended = ended
        raise RuntimeError(trouble)

    def kill_all_processes(self, check_alive=True, **_):
        self._ended.append(check_alive)


@pytest.mark.parametrize(("slow", "refused"), [(0, False), (2, False), (3, True)])
def test_ray_that_is_too_slow_is_ended_and_started_again(slow, refused, monkeypatch):
    ended, tries = [], []

    def init(**arguments):
        tries.append(arguments["_temp_dir"])
        if len(tries) <= slow:
            Starting(ended, "The current node timed out during startup. This could happen because")

    monkeypatch.setattr("ray.init", init)
    with pytest.raises(InputError, match="3 times; this computer is too busy") if refused else nullcontext():
        cluster._start("folder")
    assert tries == ["folder"] * min(slow + 1, cluster.STARTS)
    assert ended == [False] * slow


def test_ray_that_fails_otherwise_is_not_started_again(monkeypatch):
    monkeypatch.setattr("ray.init", lambda **_: Starting([], "no such folder"))
    with pytest.raises(RuntimeError, match="no such folder"):
        cluster._start("folder")


def test_log_that_cannot_be_opened_costs_no_study(tmp_path, monkeypatch):
    monkeypatch.setattr(logging, "raiseExceptions", False)
    log = cluster._Log(tmp_path / "gone" / "study.log", delay=True)
    a_record = logging.makeLogRecord({"msg": "something"})
    log.handle(a_record)
    (tmp_path / "gone").mkdir()
    log.handle(a_record)
    log.close()
    assert (tmp_path / "gone" / "study.log").read_text() == "something\n"
