"""What is compared on a card is the same work, which a CPU can show as well. No time is asserted."""

import dataclasses

import pytest
import torch

from bench import gpu, replicas, run
from bench.measure import Measurement
from trainables.config import TrialConfig

DATA = {"name": "digits", "train_size": 240}  # 200 to train on
NAMES = ["1 process", "2 processes", "2 replicas", "2 replicas, graph"]


def configure(model):
    return TrialConfig.from_flat({**replicas.MODELS[model], "batch_size": 32, "epochs": 3})


@pytest.fixture(scope="module")
def compared():
    """Each contender after it has trained two seeds."""
    sizes = {"processes": (1, 2), "replicas": (2,), "trials": 2, "graphs": True}
    with replicas.contenders(configure("MLP"), DATA, **sizes) as found:
        for contender in found.values():
            contender()
        yield found


def assert_same_trials(contenders):
    expected = contenders["1 process"].rows
    assert list(expected) == [0, 1]
    for contender in contenders.values():
        assert contender.peak_bytes == 0  # no GPU, none of its memory
        for seed, rows in contender.rows.items():
            assert len(rows) == 3
            for row, alone in zip(rows, expected[seed], strict=True):
                assert {key: value for key, value in row.items() if key != "epoch_seconds"} == pytest.approx(
                    {key: value for key, value in alone.items() if key != "epoch_seconds"}, rel=1e-3, abs=1e-4
                )
            assert "test_accuracy" in rows[-1]


def test_every_contender_trains_the_same_trials(compared):
    assert list(compared) == NAMES
    assert_same_trials(compared)


def test_contenders_with_convolutions_train_the_same_trials():
    sizes = {"processes": (1,), "replicas": (2,), "trials": 2}
    with replicas.contenders(configure("ConvNet"), DATA, **sizes) as found:
        for contender in found.values():
            contender()
    assert_same_trials(found)


def test_the_processes_share_the_seeds_and_compute_what_one_computes(compared):
    one, two = (
        {seed: [row | {"epoch_seconds": 0} for row in rows] for seed, rows in compared[name].rows.items()}
        for name in NAMES[:2]
    )
    assert one == two


@pytest.mark.parametrize(
    "change",
    [
        {"train_nll": 1.1},
        {"val_accuracy": 0.85},
        {"test_nll": None},
        None,
    ],
)
def test_other_work_is_an_error_and_not_a_figure(change):
    row = {"train_nll": 1.0, "val_accuracy": 0.9, "test_nll": 0.3}
    same = {"a": {1: [row, row], 2: [row]}, "b": {1: [row, row]}}
    replicas.check_same_work(same)
    other = {key: value for key, value in (row | (change or {})).items() if value is not None}
    rows = [other, other] if change else [row]
    with pytest.raises(RuntimeError, match="'b' and 'a' did other work with the seed 1"):
        replicas.check_same_work({**same, "b": {1: rows}})


def test_a_setting_has_the_bound_rates_and_peaks(compared, monkeypatch):
    @dataclasses.dataclass
    class Found:
        def __enter__(self):
            return compared

        def __exit__(self, *_):
            return None

    monkeypatch.setattr(gpu, "contenders", lambda *_, **__: Found())
    seconds = {"1 process": 20.0, "2 processes": 12.0, "2 replicas": 4.0, "2 replicas, graph": 1.0}
    monkeypatch.setattr(
        replicas, "alternate", lambda found, rounds: [Measurement(name, 1, seconds[name], "s") for name in found]
    )
    result = gpu.measure_setting("M", configure("MLP"), processes=(1, 2), replicas=(2,), trials=2, rounds=1)
    bound, *rest = result.figures
    assert bound.name == "M: 2 replicas, graph vs M: 2 processes"
    assert (bound.ours, bound.reference, bound.ratio, bound.unit) == (0.5, 6.0, 12.0, "s/trial")
    assert bound.holds is True
    assert [(figure.name, figure.ours, figure.unit) for figure in rest[:4]] == [
        ("M: 1 process", 360.0, "/h"),
        ("M: 2 processes", 600.0, "/h"),
        ("M: 2 replicas", 1800.0, "/h"),
        ("M: 2 replicas, graph", 7200.0, "/h"),
    ]
    assert [figure.name for figure in rest[4:]] == [f"M: {name}, peak" for name in NAMES]


def test_without_a_card_one_line_says_so_and_nothing_is_measured(capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    run.main(["gpu"])
    lines = capsys.readouterr().out.splitlines()
    assert lines.count("gpu: no CUDA device on this machine, so nothing was measured") == 1
    assert not any(line.startswith("gpu  ") for line in lines)
