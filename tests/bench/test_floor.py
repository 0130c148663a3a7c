"""The floor is the study's own epochs, and the ratio the median of the rounds' own."""

import pytest
import torch

from bench import floor
from bench.epoch import MLP
from bench.measure import Measurement
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


def test_the_ratio_is_the_median_of_the_rounds_own():
    seconds = {floor.OURS: (110.0, 130.0, 240.0), floor.BARE: (100.0, 100.0, 200.0)}
    found = [
        Measurement(name, number, value, "s")
        for name, values in seconds.items()
        for number, value in enumerate(values, 1)
    ]
    figure = floor.judge(found)
    assert figure.ratio == pytest.approx(1.2)
    assert (figure.ours, figure.reference, figure.holds) == (130.0, 100.0, False)
