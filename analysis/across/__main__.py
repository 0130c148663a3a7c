"""Several studies side by side: ``python -m analysis.across --study A --study B``.

Built from MLflow alone. Writes ``across.html`` (opens anywhere, needs no network) and ``across.csv``, or prints.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from analysis.across.render import FORMATS, as_csv
from analysis.across.result import Result, conclude
from analysis.across.studies import load_comparison
from analysis.command import OneLineParser, check_text, leave, refusal
from analysis.plain import needs_ascii, plain, to_ascii
from search_spaces.reported import REGIMES
from trainables.config import InputError

#: A folder's name is at most 255 bytes on most systems.
MAX_NAME = 80


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = OneLineParser(
        prog="python -m analysis.across",
        description="Compare studies of one factor: is the ranking of the arms the same, where, and what changed?",
    )
    parser.add_argument(
        "--study", action="append", required=True, metavar="NAME", help="a study's name; repeat it, two or more"
    )
    parser.add_argument(
        "--tracking-uri",
        metavar="URI",
        help="where MLflow keeps the record (default: MLFLOW_TRACKING_URI, else mlflow.db in this folder)",
    )
    parser.add_argument(
        "--regime",
        choices=REGIMES,
        help="of reported studies: as stated or fairly tuned (default: fair where all have it, else stated)",
    )
    parser.add_argument("--output", metavar="DIR", help="folder to write to (default: reports/across-NAMES)")
    parser.add_argument(
        "--format",
        choices=("html", *FORMATS),
        default="html",
        help="html writes across.html and across.csv; the others print and write nothing (default: html)",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; 0 if the comparison stands, 2 if the input breaks a rule."""
    given = sys.argv[1:] if argv is None else list(argv)
    try:
        check_text(given)
        options = build_parser().parse_args(given)
        comparison = load_comparison(options.study, tracking_uri=options.tracking_uri, regime=options.regime)
        result = conclude(comparison)
        content = FORMATS[options.format](result) if options.format in FORMATS else _write(result, options.output)
    except InputError as error:
        print(f"error: {refusal(error)}", file=sys.stderr)  # noqa: T201 - one line, no traceback
        return 2
    sys.stdout.write(to_ascii(content) if needs_ascii(sys.stdout) else content)
    return 0


def _write(result: Result, output: str | None) -> str:
    """Write the files and return what is printed."""
    from analysis.across.page import build_page  # noqa: PLC0415 - draws in plotly, a second on its own
    from analysis.report import folder_name, write_file  # noqa: PLC0415 - likewise

    names = "-".join(folder_name(study.name) for study in result.comparison.studies)
    folder = Path(output) if output is not None else Path("reports") / f"across-{names}"[:MAX_NAME]
    page = write_file(folder / "across.html", build_page(result))
    write_file(folder / "across.csv", as_csv(result))
    return f"{plain(result.verdict)}\n{plain(page)}\n"


if __name__ == "__main__":
    leave(main())
