"""Where claims are found by the number of their report, and which space re-runs it."""

from __future__ import annotations

from analysis.claims import report_000, report_001, report_002, report_003, report_004
from analysis.claims.model import Claim

CLAIMS_OF: dict[str, tuple[Claim, ...]] = {
    "000": report_000.CLAIMS,
    "001": report_001.CLAIMS,
    "002": report_002.CLAIMS,
    "003": report_003.CLAIMS,
    "004": report_004.CLAIMS,
}
ALL_CLAIMS: tuple[Claim, ...] = tuple(claim for claims in CLAIMS_OF.values() for claim in claims)
#: Report → the space that runs it.
SPACE_OF: dict[str, str] = {
    "000": "loss_by_optimizer",
    "001": "loss_metrics",
    "002": "one_factor_at_a_time",
    "003": "loss_by_activation",
    "004": "loss_by_depth",
}
