"""Machines made of namespaces: each has its own network, processes, ``/tmp`` and home, and answers to ssh.

    with Lab(tmp_path) as lab:
        head = lab.add("head", "10.77.0.2")
        lab.laptop.run(["ssh", "10.77.0.2", "hostname"], timeout=10)
        head.kill()

Needs root, and Debian's ``openssh-server rsync iproute2``. Nothing on the host is changed, and nothing outlives the
process that made the lab.
"""

from tests.cluster.lab.laboratory import KEY, LAPTOP, ROOT, SHARED, Lab
from tests.cluster.lab.machine import HOME, Machine, refusal
from tests.cluster.lab.timeline import Timeline, wait_until

__all__ = ["HOME", "KEY", "LAPTOP", "ROOT", "SHARED", "Lab", "Machine", "Timeline", "refusal", "wait_until"]
