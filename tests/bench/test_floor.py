"""The floor is the study's own epochs, and the ratio the median of the rounds' own."""

import pytest
import torch

from bench import floor
from bench.epoch import MLP
from bench.spaces.long_trials import STUDY
from trainables.config import TrialConfig


def test_the_study_trains_what_the_bare_loop_trains():
    (arm,) = STUDY.arms
    trial = TrialConfig.from_flat({**arm.fixed, "optimizer.learning_rate": MLP["optimizer.learning_rate"]})
    bare = TrialConfig.from_flat(MLP)
    assert (trial.model, trial.loss, trial.batch_size, trial.optimizer.name) == (
        bare.model, bare.loss, bare.batch_size, bare.optimizer.name
    )  # fmt: skip
    assert trial.epochs == floor.EPOCHS
    assert f"{STUDY.trials + STUDY.seeds} trials of {trial.epochs} epochs" in floor.OURS


def test_training_is_that_of_all_trials_over_the_slots(monkeypatch):
    monkeypatch.setattr(floor, "SLOTS", 1)
    monkeypatch.setattr(floor.multiprocessing, "get_context", lambda _: Alone)
    monkeypatch.setattr(floor, "bare_epoch_seconds", lambda dataset, epochs: 0.5)
    assert floor.training_seconds() == 0.5 * 101 * 20


class Alone:
    @staticmethod
    def Pool(_):  # noqa: N802 - as the library's
        return Alone()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def starmap(self, function, arguments, chunksize):
        return [function(*of_one) for of_one in arguments]


def test_an_epoch_of_the_bare_loop_is_timed():
    before = torch.get_num_threads()
    assert floor.bare_epoch_seconds("digits", 2) > 0
    torch.set_num_threads(before)


def test_a_study_is_compared_with_the_bare_loops_around_it(monkeypatch):
    clock = iter((90.0, 110.0, 110.0, 130.0, 90.0, 240.0, 310.0))
    monkeypatch.setattr(floor, "training_seconds", lambda: next(clock))
    monkeypatch.setattr(floor, "study_seconds", lambda: next(clock))
    result = floor.measure(rounds=3)
    (figure,) = result.figures
    assert [(found.contender == floor.OURS, found.round) for found in result.measurements] == [
        (False, 0), (True, 1), (False, 1), (True, 2), (False, 2), (True, 3), (False, 3)
    ]  # fmt: skip
    assert figure.ratio == pytest.approx(1.2), "the median of 1.1, 1.3 and 1.2"
    assert (figure.ours, figure.reference, figure.holds) == (130.0, 100.0, False)
