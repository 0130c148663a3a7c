"""Machines of the lab that come and go as EC2's double says."""

from __future__ import annotations

import json
import re
import sys
import threading
from collections.abc import Mapping
from typing import Any

from tests.cluster.aws.double import ACCOUNT, ADDRESS, FIRST, PORT
from tests.cluster.lab import ROOT, Lab, Timeline, wait_until

__all__ = ["ACCOUNT", "Cloud", "environment"]

#: The system's own: that `ray` is found at all is the work of the set-up commands.
BARE = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
#: As a system that is shut down: everybody is told, and has as long as systemd grants.
SHUT_DOWN = """
kill -TERM -1
for _ in $(seq 900); do pgrep -f "[s]tudy.backup" > /dev/null || break; sleep 0.1; done
"""


def environment(region: str) -> dict[str, str]:
    """What every machine is told of the double; the real ones know AWS by themselves."""
    return {**FIRST, "AWS_ENDPOINT_URL": f"http://{ADDRESS}:{PORT}", "AWS_DEFAULT_REGION": region}


class Cloud:
    """EC2, IAM and S3 on the laptop of a lab, and one machine of the lab for every instance that runs."""

    def __init__(self, lab: Lab, timeline: Timeline, *, region: str, image: str) -> None:
        self._lab, self._timeline = lab, timeline
        self._switched: dict[str, str] = {}  # instance → host name, while it runs
        self._taken: set[str] = set()
        self._keys: set[str] = set()
        self.trouble: BaseException | None = None
        self._log = (lab.folder / "double.log").open("w")
        command = [sys.executable, "-m", "tests.cluster.aws.double", region, image]
        self._double = lab.laptop.start(command, folder=str(ROOT), stdin=-1, stdout=-1, stderr=self._log)
        self._listener = threading.Thread(target=self._listen, daemon=True)
        first = self._double.stdout.readline()
        assert first, (lab.folder / "double.log").read_text()
        self._listener.start()

    def close(self) -> None:
        self._double.kill()
        self._listener.join()
        self._double.stdin.close()
        self._double.stdout.close()
        self._log.close()

    def ask(self, code: str, *, timeout: float = 60) -> Any:
        """What Python on the laptop makes of ``answer``; it has ``boto3``, and ``ec2``, ``s3`` and ``iam`` to ask."""
        clients = "\n".join(f"{name} = boto3.client({name!r})" for name in ("ec2", "s3", "iam"))
        program = f"import boto3, json\n{clients}\n{code}\nprint(json.dumps(answer, default=str))"
        done = self._lab.laptop.run([sys.executable, "-c", program], timeout=timeout)
        assert done.returncode == 0, done.stdout
        return json.loads(done.stdout.splitlines()[-1])

    def instances(self) -> list[dict[str, Any]]:
        """Every instance there ever was, as EC2 describes it."""
        return self.ask("answer = [i for r in ec2.describe_instances()['Reservations'] for i in r['Instances']]")

    def requests(self, path: str) -> list[tuple[str, str]]:
        """Who asked for an object whose key ends so, and what for: address and method, in order."""
        told = (self._lab.folder / "double.log").read_text(encoding="utf-8", errors="replace")
        line = rf'^(\S+) .*"(?:\x1b\S*?m)*(\w+) \S*{re.escape(path)} '  # some are coloured
        return [found.groups() for found in re.finditer(line, told, re.MULTILINE)]

    def take_back(self, address: str) -> str:
        """As AWS does with a spot instance, from a machine that does not listen to its warning; its host name."""
        host = self.host({"PrivateIpAddress": address})
        (instance,) = [instance for instance, name in self._switched.items() if name == host]
        self._taken.add(instance)
        self._double.stdin.write(f"{instance}\n")
        self._double.stdin.flush()
        wait_until(lambda: instance not in self._switched, 20, "The machine is still there.")
        return host

    def host(self, instance: Mapping[str, Any]) -> str:
        """The name of an instance's machine."""
        return f"ip-{instance['PrivateIpAddress'].replace('.', '-')}"

    def _listen(self) -> None:
        try:
            for line in self._double.stdout:
                self._make_true(json.loads(line))
        except BaseException as error:  # noqa: BLE001 - for the test to find
            self.trouble = error

    def _make_true(self, instances: Mapping[str, Any]) -> None:
        for name, instance in instances.items():
            host = self.host({"PrivateIpAddress": instance["address"]})
            if instance["running"] and name not in self._switched:
                if instance["key"] not in self._keys:
                    self._lab.authorize(instance["key"])
                    self._keys.add(instance["key"])
                self._lab.add(host, instance["address"], environment=BARE)
                self._switched[name] = host
                self._timeline.mark(f"{host} boots")
            elif not instance["running"] and name in self._switched:
                if name not in self._taken:
                    self._lab.machines[host].run(["sh", "-c", SHUT_DOWN], timeout=120)
                self._lab.remove(host)
                del self._switched[name]
                self._timeline.mark(f"{host} is gone")
