"""What a study lets in and gives away: its servers, its password, and names that were made to do harm."""

import base64
import contextlib
import json
import os
import re
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest

from study.cluster import OWNER_FILE, SESSION_PREFIX
from tests.end_to_end.chaos import descendants
from tests.end_to_end.conftest import command
from tests.end_to_end.faulty_proxy import FaultyProxy

USER, PASSWORD = "somebody", "a-s3cret"
# Everything that a shell, a terminal, a browser or the reader of an address might take for its own.
FOLDER = "a b\né '\" $(id) #1 50%41 ?x"
DATA = "it\x1b[31ms.npz"
CLASSES = ("<img src=x onerror=alert(1)>", "\x1b]0;owned\x07")
CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")
#: As /proc/net writes 127.0.0.1 and ::1, and 127.0.0.1 where both are listened to.
LOOPBACK = {"0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F"}
LISTENS = "0A"
LOOK_SECONDS = 0.3

pytestmark = pytest.mark.studies


class GuardedProxy(FaultyProxy):
    """Hands on what comes with the password, and nothing else."""

    def __init__(self, port):
        super().__init__(port, patience=20)
        self.refused = 0
        proxy, wanted = self, "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        handler = self._server.RequestHandlerClass

        class Guard(handler):
            def do_GET(self):  # noqa: N802 - the names that http.server calls
                if self.headers.get("Authorization") == wanted:
                    handler.do_GET(self)
                    return
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                proxy.refused += 1
                self.answer(401, b"who are you?", "text/plain")

            do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815 - likewise

        self._server.RequestHandlerClass = Guard

    def address(self, password=PASSWORD):
        """With the password in it, as people write it."""
        return f"http://{USER}:{password}@127.0.0.1:{self.port}"


class Seen:
    """What could be seen of a study while it ran."""

    def __init__(self):
        self.commands, self.listening, self.logs, self.checkpoints = set(), {}, {}, []

    def look(self, driver, folder):
        """Once more."""
        below = descendants(driver)
        # A process that the study has just forked shows the line that was typed until it becomes what it will be.
        typed = _read(f"/proc/{driver}/cmdline")
        self.commands |= {line for pid in below if (line := _read(f"/proc/{pid}/cmdline")) != typed}
        for pid in (driver, *below):
            self.listening |= {address: _read(f"/proc/{pid}/comm") for address in listening(pid)}
        for owner in Path(tempfile.gettempdir()).glob(f"{SESSION_PREFIX}*/{OWNER_FILE}"):
            if f" {driver} ".encode() in _read(owner):
                for logs in owner.parent.glob("session_2*/logs"):
                    self.logs |= {path: _read(path) for path in _files(logs)}
        files = [path.relative_to(folder) for path in _files(folder / "checkpoints") if ".pt" in path.name]
        self.checkpoints.append([str(path).partition(".pt")[0] for path in files if path.suffix != ".partial"])


def listening(pid):
    """Address and port, as the system writes them, of every TCP socket on which a process listens."""
    found, sockets = set(), set()
    with contextlib.suppress(OSError):  # it has ended
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                sockets.add(str(entry.readlink()))
    for table in ("tcp", "tcp6"):
        for line in _read(f"/proc/net/{table}").decode().splitlines()[1:]:
            _, local, _, state, *_, inode = line.split()[:10]
            if state == LISTENS and f"socket:[{inode}]" in sockets:
                found.add(tuple(local.split(":")))
    return found


def _files(folder):
    """Every file below a folder of which parts may vanish meanwhile (``Path.rglob`` raises an error then)."""
    return [Path(parent, name) for parent, _, names in os.walk(folder) for name in names]


def _read(path):
    try:
        return Path(path).read_bytes()
    except OSError:
        return b""


@pytest.fixture(scope="module")
def watched(server, tmp_path_factory):
    """A study in a folder with such a name, on such data, its record behind a password; and what was seen of it."""
    folder = tmp_path_factory.mktemp("odd") / FOLDER
    folder.mkdir()
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 2, 6000)
    images = generator.integers(0, 90, (6000, 12, 12)).astype(np.uint8)
    images[labels == 1, 2:8, 2:8] += 120
    np.savez(folder / DATA.removesuffix(".npz"), images=images, labels=labels, class_names=np.array(CLASSES))
    seen = Seen()
    with GuardedProxy(server.port) as proxy:
        arguments = (
            "--space", "smoke", "--arms", "cross_entropy,focal", "--trials", "2", "--seeds", "2", "--name", "s",
            "--stopping", "none", "--max-concurrent", "2", "--no-models", "--dataset", f"npz:{DATA}",
            "--tracking-uri", proxy.address(),
        )  # fmt: skip
        with (folder / "out").open("w") as out, (folder / "err").open("w") as err:
            process = subprocess.Popen(**command(folder, *arguments), stdout=out, stderr=err)
            try:
                while process.poll() is None:
                    seen.look(process.pid, folder / "runs" / "s")
                    time.sleep(LOOK_SECONDS)
            finally:  # no study goes on beside the tests that follow
                process.terminate()
                process.wait()
        # With another password, and with no server any more.
        failing = [listed(folder, proxy.address("another-s3cret"))]
        refused = proxy.refused
    failing.append(listed(folder, proxy.address()))
    return process.returncode, folder, seen, refused, failing


def listed(folder, uri):
    done = subprocess.run(
        **command(folder, "--list", "--tracking-uri", uri, MLFLOW_HTTP_REQUEST_MAX_RETRIES="0"),
        capture_output=True, timeout=120, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def test_the_study_ran_and_its_record_took_the_password(watched):
    code, folder, _, refused, _ = watched
    assert code == 0, (folder / "err").read_text()
    assert refused > 0  # nobody is let in without it
    assert (folder / "runs" / "s" / "report.html").is_file()


def test_no_server_of_a_study_is_heard_of_by_the_network(watched):
    _, _, seen, _, _ = watched
    names = {name.decode().strip() for name in seen.listening.values()}
    assert {"gcs_server", "raylet"} <= names
    assert {address for address, _ in seen.listening} <= LOOPBACK, seen.listening


def test_the_password_is_in_no_process_list_log_record_or_page(watched, server):
    _, folder, seen, _, failing = watched
    secret = PASSWORD.encode()
    assert any(b"raylet" in typed for typed in seen.commands)
    assert not [typed for typed in seen.commands if secret in typed]
    assert len(seen.logs) > 5
    assert not [path for path, content in seen.logs.items() if secret in content]
    kept = [path for place in (folder, server.database.parent) for path in place.rglob("*") if path.is_file()]
    assert not [path for path in kept if secret in path.read_bytes()]
    assert {"mlflow.db", "report.html", "study.json", "server.log"} <= {path.name for path in kept}
    (protocol,) = [path for path in kept if path.name == "study.json" and b"s.npz" in path.read_bytes()]
    assert f"http://{USER}:***@127.0.0.1" in " ".join(json.loads(protocol.read_text())["arguments"])
    for code, said in failing:
        assert code == 2
        assert said.count("\n") == 1
        assert f"http://{USER}:***@" in said
        assert "s3cret" not in said


def test_no_name_of_a_folder_a_file_or_a_class_acts_on_the_terminal_or_the_page(watched):
    _, folder, _, _, _ = watched
    for name in ("out", "err"):
        assert not CONTROL.search((folder / name).read_text()), name
    assert "it\\x1b[31ms.npz" in (folder / "err").read_text()
    assert FOLDER.replace("\n", "\\n") in (folder / "out").read_text()
    page = (folder / "runs" / "s" / "report.html").read_text()
    assert "onerror=alert(1)" in page
    assert "<img src=x" not in page


def test_a_trial_under_way_keeps_two_checkpoints_and_a_finished_study_none(watched):
    _, folder, seen, _, _ = watched
    assert max(map(len, seen.checkpoints)) > 0
    # Those of a trial that has ended go when its end is on record.
    assert all(files.count(trial) <= 2 for files in seen.checkpoints for trial in files)
    assert not list((folder / "runs").rglob("*.pt*"))
