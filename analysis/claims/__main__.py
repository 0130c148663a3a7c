"""Which claims hold: ``python -m analysis.claims --study NAME``, or ``--all`` for everything on record."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from analysis.claims.evaluate import ClaimResult, evaluate_claims
from analysis.claims.evidence import Measured, measure
from analysis.claims.render import FORMATS
from analysis.claims.table import CLAIMS_OF, SPACE_OF
from analysis.command import OneLineParser, check_text, leave, refusal
from analysis.load import list_studies, load_study
from analysis.measures import METRICS
from trainables.config import InputError


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = OneLineParser(
        prog="python -m analysis.claims",
        description="Which claims of the five reports hold, by the studies on record: as stated and fairly tuned.",
    )
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument(
        "--study",
        action="append",
        metavar="NAME",
        help="a study's name, as given to study.launch; repeat it to put several studies together",
    )
    which.add_argument("--all", action="store_true", help="every claim, each from the study on record that says most")
    parser.add_argument("--report", choices=tuple(CLAIMS_OF), help="only this report's claims")
    parser.add_argument(
        "--tracking-uri",
        metavar="URI",
        help="where MLflow keeps the record (default: MLFLOW_TRACKING_URI, else mlflow.db in this folder)",
    )
    parser.add_argument("--format", choices=tuple(FORMATS), default="text", help="what is written (default: text)")
    parser.add_argument("--output", metavar="FILE", help="write to this file instead of the terminal")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; 0 if the table stands, 2 if the input breaks a rule."""
    given = sys.argv[1:] if argv is None else list(argv)
    try:
        check_text(given)
        options = build_parser().parse_args(given)
        if options.all:
            results = claims_on_record(options.report, options.tracking_uri)
        else:
            results = claims_of_studies(options.study, options.report, options.tracking_uri)
        content = FORMATS[options.format](results)
        if options.output:
            from analysis.report import write_file  # noqa: PLC0415 - draws in plotly, a second on its own

            content = f"{write_file(Path(options.output), content)}\n"
    except InputError as error:
        print(f"error: {refusal(error)}", file=sys.stderr)  # noqa: T201 - one line, no traceback
        return 2
    sys.stdout.write(content)
    return 0


def claims_of_studies(names: Sequence[str], report: str | None, tracking_uri: str | None) -> list[ClaimResult]:
    """The claims of these studies' reports, by these studies alone.

    Args:
        names: The studies.
        report: Only this report's claims; None for every report that one of the studies is of.
        tracking_uri: As in :func:`analysis.load.load_study`.

    Raises:
        InputError: If a study is unknown or not a reported one, or none is of the report.
    """
    studies = [_load(name, tracking_uri) for name in dict.fromkeys(names)]
    reports = sorted({study.scope.report for study in studies})
    if report is not None and report not in reports:
        raise InputError(f"`--report {report}`: the studies named are of {', '.join(reports)}.")
    return [result for own in ([report] if report else reports) for result in evaluate_claims(own, studies)]


def claims_on_record(report: str | None, tracking_uri: str | None) -> list[ClaimResult]:
    """Every claim, by the studies on record; one that cannot be read is named on stderr and left out.

    Args:
        report: Only this report's claims; None for all.
        tracking_uri: As in :func:`analysis.load.load_study`.

    Raises:
        InputError: If the record cannot be read.
    """
    reports = [report] if report else list(CLAIMS_OF)
    spaces = {SPACE_OF[own] for own in reports}
    tags = list_studies(tracking_uri=tracking_uri)
    names = dict.fromkeys(own["study"] for own in tags if own.get("space") in spaces and "study" in own)
    studies = []
    for name in names:
        try:
            studies.append(_load(name, tracking_uri))
        except Exception as error:  # noqa: BLE001 - whatever is wrong with one study, the others stand
            reason = " ".join(str(error).split()) or type(error).__name__
            print(f"warning: study {name!r} is left out: {reason}", file=sys.stderr)  # noqa: T201
    return [result for own in reports for result in evaluate_claims(own, studies)]


def _load(name: str, tracking_uri: str | None) -> Measured:
    return measure(load_study(name, tracking_uri=tracking_uri, metrics=METRICS))


if __name__ == "__main__":
    leave(main())
