"""The lab's machines are machines, and nothing of them is left."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cluster.lab import HOME, SHARED, Lab

HEAD, WORKER = "10.77.0.2", "10.77.3.4"


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    with Lab(tmp_path_factory.mktemp("lab"), environment={"FLAVOUR": "plain 'words'"}) as lab:
        lab.add("head", HEAD)
        lab.add("worker", WORKER, environment={"ONLY": "here"})
        yield lab


def said(machine, *command, timeout=20, **options):
    done = machine.run(command, timeout=timeout, **options)
    assert done.returncode == 0, done.stdout
    return done.stdout.strip()


def outside():
    """What a lab could leave on the host: mounts, interfaces, processes of its own."""
    mounts = Path("/proc/self/mounts").read_text()
    interfaces = sorted(path.name for path in Path("/sys/class/net").iterdir())
    return mounts, interfaces


@pytest.mark.parametrize(
    ("origin", "target"), [("laptop", HEAD), ("laptop", WORKER), ("head", WORKER), ("worker", HEAD)]
)
@pytest.mark.parametrize("user", ["root", "ubuntu"])
def test_every_machine_opens_every_other_by_ssh(lab, origin, target, user):
    name = {HEAD: "head", WORKER: "worker"}[target]
    assert said(lab.machines[origin], "ssh", f"{user}@{target}", "hostname; echo $HOME") == f"{name}\n/" + (
        "root" if user == "root" else "home/ubuntu"
    )


def test_files_are_copied_by_rsync(lab):
    head, worker = lab.machines["head"], lab.machines["worker"]
    head.write("/tmp/there/letter", "hello\n")
    said(head, "rsync", "-r", "/tmp/there", f"{WORKER}:/tmp/")
    assert said(worker, "cat", "/tmp/there/letter") == "hello"


def test_the_shared_folder_is_one_and_tmp_and_home_are_each_machines_own(lab):
    head, worker = lab.machines["head"], lab.machines["worker"]
    for folder in (SHARED, "/tmp", HOME, "/home/ubuntu", "/dev/shm", "/run", "/var/log", "/mnt"):
        head.write(f"{folder}/mark", folder)
    assert said(worker, "cat", f"{SHARED}/mark") == SHARED
    assert (lab.shared / "mark").read_text() == SHARED
    for folder in ("/tmp", HOME, "/home/ubuntu", "/dev/shm", "/run", "/var/log", "/mnt"):
        assert worker.run(["cat", f"{folder}/mark"], timeout=5).returncode == 1
        assert not Path(folder, "mark").exists()


def test_the_checkout_and_the_environment_are_there_to_be_read(lab):
    head = lab.machines["head"]
    root = Path(__file__).parents[2]
    assert said(head, "python", "-c", "import study, sys; print(study.__file__, sys.prefix)", folder=str(root)) == (
        f"{root}/study/__init__.py {sys.prefix}"
    )
    for folder in (root, sys.prefix):
        refused = head.run(["touch", f"{folder}/mark"], timeout=5)
        assert (refused.returncode, "Read-only" in refused.stdout) == (1, True)


def test_a_login_shell_a_command_over_ssh_and_run_have_the_machines_environment(lab):
    worker = lab.machines["worker"]
    print_it = 'echo "$FLAVOUR, $ONLY"; command -v ray'
    expected = f"plain 'words', here\n{sys.prefix}/bin/ray"
    assert said(worker, "sh", "-c", print_it) == expected
    assert said(lab.laptop, "ssh", WORKER, print_it) == expected
    # The way Ray asks for it.
    assert said(lab.laptop, "ssh", "-qtt", WORKER, f"bash --login -c -i '{print_it}'").replace("\r", "") == expected
    assert said(lab.laptop, "sh", "-c", 'echo "$FLAVOUR, $ONLY"') == "plain 'words',"


def test_nothing_outside_is_within_reach(lab):
    for machine in lab.machines.values():
        routes = said(machine, "ip", "route")
        assert routes.splitlines() == [line for line in routes.splitlines() if line.startswith("10.77.0.0/16")]
        called = machine.run(["bash", "-c", "exec 3<>/dev/tcp/192.0.2.1/80"], timeout=5)
        assert "unreachable" in called.stdout
        assert said(machine, "ps", "-p", "1", "-o", "comm=") == "sshd"
    assert "10.77." not in Path("/proc/net/fib_trie").read_text()


def test_a_machine_that_is_killed_is_gone_with_its_processes_and_its_address_can_be_taken_again(lab):
    first = lab.add("spot", "10.77.0.9")
    sleeper = first.start(["sleep", "1000"])
    for folder in ("/tmp", HOME):
        first.write(f"{folder}/mark", folder)
    ports = said(lab.laptop, "ip", "-o", "link").count("port")
    first.kill()
    first.kill()
    assert sleeper.wait(5) != 0
    assert not Path(f"/proc/{first.pid}").exists()
    assert not first.alive
    assert lab.laptop.run(["ssh", "-o", "ConnectTimeout=1", "10.77.0.9", "true"], timeout=10).returncode == 255
    assert first.run(["true"], timeout=5).returncode != 0
    lab.remove("spot")
    assert (first.folder / "tmp" / "mark").read_text() == "/tmp"
    lab.add("spot", "10.77.0.9", disk=first.folder)
    assert said(lab.laptop, "ssh", "10.77.0.9", f"cat /tmp/mark {HOME}/mark") == f"/tmp{HOME}"
    lab.remove("spot")
    second = lab.add("spot", "10.77.0.9")
    assert second.run(["cat", "/tmp/mark"], timeout=5).returncode == 1
    assert said(lab.laptop, "ssh", "10.77.0.9", "hostname") == "spot"
    end = time.monotonic() + 10
    while said(lab.laptop, "ip", "-o", "link").count("port") > ports:  # the kernel takes the old cable away in its time
        assert time.monotonic() < end
        time.sleep(0.05)
    lab.remove("spot")


def test_a_command_that_takes_too_long_is_killed(lab):
    head = lab.machines["head"]
    with pytest.raises(subprocess.TimeoutExpired):
        head.run(["sleep", "1001"], timeout=0.5)
    end = time.monotonic() + 5
    while "sleep 1001" in said(head, "ps", "ax"):
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_name_is_given_once(lab):
    with pytest.raises(ValueError, match="There is a machine 'head' already"):
        lab.add("head", "10.77.0.8")
    assert len(list(filter(_is_power, Path("/proc").glob("[0-9]*")))) == len(lab.machines)


def test_a_machine_that_does_not_boot_says_why_and_leaves_the_others(lab, tmp_path):
    with pytest.raises(RuntimeError, match=r"(?s)The machine odd did not come up: .*no-such-file"):
        lab.add("odd", "10.77.0.7", given=[("ro", tmp_path / "no-such-file", "/etc/odd/no-such-file/x")])
    assert set(lab.machines) == {"laptop", "head", "worker"}
    assert said(lab.laptop, "ssh", HEAD, "hostname") == "head"


def _is_power(process):
    try:
        words = (process / "cmdline").read_bytes().split(b"\0")
        parent = (process / "stat").read_text().rpartition(")")[2].split()[1]
    except OSError:
        return False
    return words[0] == b"unshare" and int(parent) == os.getpid()


def test_an_error_in_the_block_leaves_no_process_mount_or_interface(tmp_path):
    before = outside()
    machines = []
    with pytest.raises(subprocess.TimeoutExpired), Lab(tmp_path) as lab:  # noqa: PT012 - it is the block that is tried
        machines += [lab.laptop, lab.add("one", "10.77.0.2"), lab.add("two", "10.77.0.3")]
        machines[1].start(["sleep", "1000"])
        machines[2].run(["sleep", "1000"], timeout=0.2)
    assert not any(machine.alive or Path(f"/proc/{machine.pid}").exists() for machine in machines)
    assert outside() == before


HELD = """\
import sys, time
from pathlib import Path
from tests.cluster.lab import Lab
with Lab(Path(sys.argv[1])) as lab:
    machine = lab.add("one", "10.77.0.2")
    print(lab.laptop.pid, machine.pid, machine.start(["sleep", "1000"]).pid, flush=True)
    time.sleep(1000)
"""


def test_machines_go_with_the_process_that_made_them_even_if_it_is_killed(tmp_path):
    before = outside()
    root = Path(__file__).parents[2]
    holder = subprocess.Popen([sys.executable, "-c", HELD, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=root)
    pids = [int(word) for word in holder.stdout.readline().split()]
    assert len(pids) == 3
    assert all(Path(f"/proc/{pid}").exists() for pid in pids)
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    holder.stdout.close()
    end = time.monotonic() + 10
    while any(_runs(pid) for pid in pids):
        assert time.monotonic() < end
        time.sleep(0.05)
    assert outside() == before


def _runs(pid):
    """Whether it does; one that has ended may wait for a parent that never asks."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
