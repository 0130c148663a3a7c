"""The confirmation: each arm's winner on fresh seeds, the same seeds for every arm, and the negative controls."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from search_spaces.arms import Study
from search_spaces.reported import SEARCH_SEEDS
from study.ledger import CONFIRM, CONTROL, SEARCH, Ledger, Request, TrialRecord, choose_winner
from trainables.bucket import Place
from trainables.config import Scalar

#: The fair regime's search draws its own seeds, far from those that confirm.
FIRST_SEARCH_SEED = 1_000_000
#: Folders of a study's storage.
CHECKPOINTS = "checkpoints"
MODELS = "models"


@dataclass(frozen=True)
class Candidate:
    """A confirm trial whose weights are at hand.

    Args:
        arm: Its arm.
        seed: Its seed.
        run_id: Its MLflow run.
        config: Its flat ``TrialConfig``.
        weights: A state dict written by ``torch.save``.
        val_accuracy: On the validation split at the last epoch, in [0, 1]; the test split chooses nothing.
    """

    arm: str
    seed: int
    run_id: str
    config: Mapping[str, Scalar]
    weights: Path
    val_accuracy: float


def find_winners(study: Study, ledger: Ledger) -> dict[str, TrialRecord | None]:
    """Each arm's winner of the search, None where no trial of the arm completed."""
    found: dict[str, list[TrialRecord]] = {arm.name: [] for arm in study.arms}
    for record in ledger.of_phase(SEARCH):
        if record.request.arm in found:
            found[record.request.arm].append(record)
    return {arm: choose_winner(records) for arm, records in found.items()}


def confirm_seeds(seed: int, count: int) -> list[int]:
    """Seeds that the search, which uses ``seed`` itself, has not seen."""
    return list(range(seed + 1, seed + 1 + count))


def search_seeds(seed: int) -> list[int]:
    """The seeds on which the fair regime's learning rates are compared."""
    return [FIRST_SEARCH_SEED + seed + number for number in range(SEARCH_SEEDS)]


def plan_confirmation(
    study: Study,
    winners: Mapping[str, TrialRecord | None],
    seeds: Sequence[int],
    may_start_round: Callable[[Sequence[Request]], bool],
) -> Iterator[Request]:
    """The requests of the confirmation, seed by seed, so that a study that runs out of time stays paired.

    Args:
        study: The question, with its controls.
        winners: What :func:`find_winners` returned; arms without a winner are left out.
        seeds: The fresh seeds.
        may_start_round: Asked before each seed with its requests; False ends the confirmation.
    """
    for seed in seeds:
        requests = [
            Request(arm.name, CONFIRM, seed, {**winner.request.config, "seed": seed})
            for arm in study.arms
            if (winner := winners[arm.name]) is not None
        ]
        for arm_name, like in study.controls.items():
            winner = winners.get(like)
            if winner is not None:
                own = {study.factor: study.arm(arm_name).fixed[study.factor]}
                requests.append(Request(arm_name, CONTROL, seed, {**winner.request.config, **own, "seed": seed}))
        if not may_start_round(requests):
            return
        yield from requests


def weights_path(storage: Place, arm: str, seed: int) -> str:
    """Where a confirm trial leaves its weights until the arms' best are logged; a path or an object's address."""
    return f"{storage}/{MODELS}/{arm}-{seed}.pt"


def checkpoint_path(storage: Place, key: str) -> str:
    """Where a trial under way keeps what its next epoch depends on; gone when its end is on record."""
    return f"{storage}/{CHECKPOINTS}/{key}.pt"
