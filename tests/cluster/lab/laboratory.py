"""The lab: machines on one network that exists nowhere else."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.cluster.lab.machine import HOME, Machine, boot

ROOT = Path(__file__).parents[3]
LAPTOP = "10.77.0.1"
PREFIX_LENGTH = 16
#: A folder that all machines share, as by NFS.
SHARED = "/mnt/shared"
#: The private key that opens every machine, on every machine.
KEY = f"{HOME}/.ssh/id_ed25519"
#: Besides root: a user as cloud images have it, who may do everything.
UBUNTU = "ubuntu:x:0:0::/home/ubuntu:/bin/bash"
HOMES = (HOME.removeprefix("/"), "home/ubuntu")

SSHD = """\
HostKey /run/keys/host_key
AuthorizedKeysFile /run/keys/authorized_keys
PidFile none
UsePAM no
PasswordAuthentication no
StrictModes no
PermitRootLogin yes
MaxStartups 100
Subsystem sftp internal-sftp
"""
HOSTS = """\
127.0.0.1 localhost
{address} {name}
"""


class Lab:
    """Machines that come and go while the block runs, and are all gone after it.

    The laptop is there from the start. On every machine are, read-only and where they are outside, this checkout and
    the Python environment that runs; and, to be written to, ``SHARED``. Machines may be added and removed from any
    thread.
    """

    def __init__(self, folder: Path, *, environment: Mapping[str, str] | None = None) -> None:
        """A lab that keeps its machines' files in ``folder``, where they can be read after it.

        Args:
            folder: An existing folder.
            environment: Of all machines, at their command line and over ssh.
        """
        self.folder = folder.resolve()
        self.shared = self.folder / "shared"
        self.machines: dict[str, Machine] = {}
        self._keys = self.folder / "keys"
        self._environment = {
            "PATH": f"{sys.prefix}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": HOME,
            "LANG": "C.UTF-8",
            **(environment or {}),
        }
        self._lock = threading.RLock()
        self._disks = 0

    def __enter__(self) -> Self:
        self.shared.mkdir()
        self._keys.mkdir()
        for name in ("host_key", "id_ed25519"):
            make = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(self._keys / name)]
            subprocess.run(make, check=True)
        self.authorize((self._keys / "id_ed25519.pub").read_text(encoding="ascii"))
        try:
            self._boot_laptop()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def laptop(self) -> Machine:
        """Where a person types; the network's switch is in it."""
        return self.machines["laptop"]

    def authorize(self, public_key: str) -> None:
        """Let another key open every machine, also those that run."""
        with (self._keys / "authorized_keys").open("a", encoding="ascii") as file:
            file.write(public_key.rstrip("\n") + "\n")

    def add(
        self,
        name: str,
        address: str,
        *,
        environment: Mapping[str, str] | None = None,
        given: Sequence[tuple[str, Path, str]] = (),
        disk: Path | None = None,
    ) -> Machine:
        """Switch a machine on.

        Args:
            name: Its host name, which no other running machine has.
            address: In 10.77.0.0/16.
            environment: Added to the lab's.
            given: More files or folders it gets: ``("ro" or "rw", what, where on the machine)``.
            disk: The folder of a machine that was switched off, for one that has what that had in its homes and
                ``/tmp``; an empty one by default.

        Raises:
            RuntimeError: If it does not come up.
            ValueError: If the name is taken.
        """
        self._check_new(name)
        machine = self._boot(name, address, {**self._environment, **(environment or {})}, given, disk)
        try:
            with self._lock:
                self._check_new(name)
                self._connect(machine)
                self.machines[name] = machine
        except BaseException:
            machine.kill()
            raise
        return machine

    def remove(self, name: str) -> None:
        """Switch a machine off, at once; its files stay in the lab's folder."""
        with self._lock:
            machine = self.machines.pop(name)
        machine.kill()

    def close(self) -> None:
        """Switch everything off, the laptop last."""
        with self._lock:
            for name in reversed(list(self.machines)):
                self.remove(name)

    def _check_new(self, name: str) -> None:
        if name in self.machines:
            raise ValueError(f"There is a machine {name!r} already.")

    def _boot_laptop(self) -> None:
        laptop = self._boot("laptop", LAPTOP, self._environment, (), None)
        self.machines["laptop"] = laptop
        _ip(laptop, "link add lab0 type bridge")
        _ip(laptop, f"addr add {LAPTOP}/{PREFIX_LENGTH} dev lab0")
        _ip(laptop, "link set lab0 up")

    def _connect(self, machine: Machine) -> None:
        """A cable from the machine to the laptop's switch; it is never seen outside of the two."""
        port = f"port{machine.pid}"
        # By its address, so that others need not unlearn that of the machine which had it before.
        hardware = "02:00:" + ":".join(f"{int(part):02x}" for part in machine.address.split("."))
        # Both ends are named from outside of the machines, where their process numbers mean something.
        cable = f"ip link add {port} type veth peer name eth0 address {hardware} netns {machine.pid}"
        _check(["nsenter", f"--target={self.laptop.pid}", "--net", *cable.split()])
        _ip(self.laptop, f"link set {port} master lab0 up")
        _ip(machine, f"addr add {machine.address}/{PREFIX_LENGTH} dev eth0")
        _ip(machine, "link set eth0 up")

    def _boot(
        self,
        name: str,
        address: str,
        environment: Mapping[str, str],
        given: Sequence[tuple[str, Path, str]],
        disk: Path | None,
    ) -> Machine:
        folder = disk or self._new_disk(name, environment)
        (folder / "hostname").write_text(f"{name}\n", encoding="ascii")
        (folder / "hosts").write_text(HOSTS.format(address=address, name=name), encoding="ascii")
        known = Path("/etc/passwd").read_text(encoding="utf-8").splitlines()
        users = [line for line in known if not line.startswith("ubuntu:")] + [UBUNTU]
        (folder / "passwd").write_text("\n".join(users) + "\n", encoding="utf-8")
        (folder / "sshd_config").write_text(SSHD, encoding="ascii")
        # A folder comes before what lies in it, such as an environment in the checkout.
        ours = sorted({("ro", path, str(path)) for path in (ROOT, Path(sys.prefix), Path(sys.base_prefix))})
        triples = [*(triple for triple in ours if triple[2] != "/usr"), ("rw", self.shared, SHARED), *given]
        words = [str(word) for triple in triples for word in triple]
        return boot(name, address, folder=folder, keys=self._keys, given=words, environment=environment)

    def _new_disk(self, name: str, environment: Mapping[str, str]) -> Path:
        with self._lock:
            self._disks += 1
            folder = self.folder / f"{self._disks}-{name}"
        for part in ("tmp", *HOMES):
            (folder / part).mkdir(parents=True)
        (folder / "tmp").chmod(0o1777)
        for home in HOMES:
            self._furnish(folder / home, {**environment, "HOME": f"/{home}"})
        return folder

    def _furnish(self, home: Path, environment: Mapping[str, str]) -> None:
        (home / ".ssh").mkdir()
        shutil.copy(self._keys / "id_ed25519", home / ".ssh")
        # The same key on all: a machine that takes over an address is not taken for an intruder.
        public = (self._keys / "host_key.pub").read_text(encoding="ascii")
        (home / ".ssh" / "known_hosts").write_text(f"10.77.* {public}", encoding="ascii")
        lines = "".join(f"export {key}={shlex.quote(value)}\n" for key, value in environment.items())
        # bash reads the first over ssh, the second when it is asked to be a login shell.
        (home / ".bashrc").write_text(lines, encoding="utf-8")
        (home / ".profile").write_text(". ~/.bashrc\n", encoding="utf-8")


def _ip(machine: Machine, arguments: str) -> None:
    _check(machine._inside(["ip", *arguments.split()], None, "/"))


def _check(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr}")
