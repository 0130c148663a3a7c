"""What the README says to type for a cluster."""

import shlex

from tests.cluster.lab import ROOT


def lines():
    """The lines of its section on clusters."""
    section = (ROOT / "README.md").read_text(encoding="utf-8").split("## On a cluster\n")[1].split("\n## ")[0]
    return section.split("```")[1].strip().splitlines()


def commands():
    """The same as arguments, by what each is for."""
    names = ("check", "account", "up", "ui", "submit", "report", "down")
    return dict(zip(names, (shlex.split(line, comments=True) for line in lines()), strict=True))
