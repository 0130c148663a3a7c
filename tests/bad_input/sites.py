"""Every place in the project that refuses something: where it stands and what it says."""

import ast
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("study", "analysis", "search_spaces", "trainables")


@dataclass(frozen=True)
class Site:
    """A line that raises ``InputError``.

    ``says`` is its message with ``{}`` for what is filled in.
    """

    path: str
    line: int
    says: str


def find_sites() -> list[Site]:
    """All of them, in order."""
    files = [file for package in PACKAGES for file in sorted((ROOT / package).rglob("*.py"))]
    return [
        Site(str(file.relative_to(ROOT)), node.exc.lineno, _text(node.exc.args[0]))
        for file in files
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and _name(node.exc) == "InputError"
    ]


def site_of(says: str, sites: list[Site]) -> Site:
    """The one site whose message is or contains these words; ``path: words`` where two files say the same."""
    path, colon, words = says.partition(".py: ")
    wanted, path = (words, f"{path}.py") if colon else (says, "")
    near = [site for site in sites if wanted in site.says and site.path.endswith(path)]
    exact = [site for site in near if site.says == wanted]
    (site,) = exact or near
    return site


def _name(call: ast.Call) -> str:
    return call.func.id if isinstance(call.func, ast.Name) else ""


def _text(node: ast.expr) -> str:
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part) if isinstance(part, ast.Constant) else "{}" for part in node.values)
    return "{}"
