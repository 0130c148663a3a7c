"""The benchmarks measure what they say: contenders do the same work, the arithmetic is right. No time is asserted."""

import contextlib
import os
import pathlib
import resource
import subprocess
import sys
import time
import types

import numpy as np
import pandas as pd
import pytest
import torch

from analysis.load import load_study
from bench import large_study, memory, overhead, proposal, run, start, studies, synthetic
from bench.epoch import CONVNET, MLP, build_bare, build_dataloader, build_ours, open_fashion_mnist
from bench.measure import Figure, Measurement, Result, alternate, compare
from bench.studies import Launched, WorkerMemory, launch, peak_resident_bytes, worker_memory
from search_spaces.table import load_space
from tests.needs import need_fashion_mnist
from trainables.config import TrialConfig
from trainables.data import load_dataset
from trainables.loop import draw_split, load_resident

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def dataset():
    need_fashion_mnist()
    return load_dataset("fashion-mnist", train_size=6000)  # 5,000 to train on, 1,000 to validate on


@pytest.fixture(scope="module")
def data(dataset):
    return load_resident(dataset, CPU)


def mlp_contenders(config, dataset, data):
    return {
        "ours": build_ours(config, data),
        "training alone": build_ours(config, data, whole=False),
        "bare": build_bare(config, data),
        "bare, fused": build_bare(config, data, fused=True),
        "DataLoader": build_dataloader(config, dataset, data),
        "DataLoader, fused": build_dataloader(config, dataset, data, fused=True),
    }


def assert_same_weights(contenders):
    first, *others = [list(contender.model.parameters()) for contender in contenders.values()]
    for other in others:
        for expected, actual in zip(first, other, strict=True):
            torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


def test_all_loops_take_the_same_steps_when_the_order_of_examples_does_not_matter(dataset, data):
    config = TrialConfig.from_flat({**MLP, "batch_size": 5000})
    contenders = mlp_contenders(config, dataset, data)
    initial = next(contenders["ours"].model.parameters()).detach().clone()
    for contender in contenders.values():
        for _ in range(3):  # momentum shows from the second step on
            contender.run()
    assert not torch.allclose(next(contenders["ours"].model.parameters()), initial, atol=1e-3)
    assert_same_weights(contenders)


def test_the_convnet_loops_take_the_same_steps_in_both_memory_formats():
    data = load_resident(load_dataset("digits", train_size=240), CPU)
    config = TrialConfig.from_flat({**CONVNET, "batch_size": 200, "width": 4})
    contenders = {
        "ours": build_ours(config, data),
        "bare": build_bare(config, data, fused=True),
        "bare, channels-last": build_bare(config, data, fused=True, channels_last=True),
    }
    for contender in contenders.values():
        for _ in range(3):
            contender.run()
    assert_same_weights(contenders)


def test_bf16_loops_train_in_bf16_and_agree_to_its_precision():
    data = load_resident(load_dataset("digits", train_size=240), CPU)
    built = {}
    for precision in ("fp32", "bf16"):
        config = TrialConfig.from_flat({**CONVNET, "batch_size": 200, "width": 4, "precision": precision})
        built[precision] = [build_ours(config, data), build_bare(config, data, fused=True)]
        for contender in built[precision]:
            contender.run()
    ours, bare = (torch.cat([p.flatten() for p in c.model.parameters()]) for c in built["bf16"])
    exact = torch.cat([p.flatten() for p in built["fp32"][1].model.parameters()])
    torch.testing.assert_close(ours, bare, rtol=0, atol=1e-3)
    assert not torch.equal(bare, exact)


def accuracy_on_test_images(model, data):
    with torch.no_grad():
        return (model(data.to_input(data.test_images)).argmax(1) == data.test_labels).double().mean().item()


def test_ours_the_bare_loop_and_the_dataloader_reach_the_same_accuracy_after_an_epoch(dataset, data):
    accuracies = {"ours": [], "bare": [], "DataLoader": []}
    for seed in range(6):  # a single short epoch scatters by some points
        config = TrialConfig.from_flat({**MLP, "batch_size": 32, "optimizer.learning_rate": 0.01, "seed": seed})
        contenders = {
            "ours": build_ours(config, data),
            "bare": build_bare(config, data),
            "DataLoader": build_dataloader(config, dataset, data),
        }
        for name, contender in contenders.items():
            contender.run()
            accuracies[name].append(accuracy_on_test_images(contender.model, data))
    means = {name: np.mean(values) for name, values in accuracies.items()}
    assert min(means.values()) > 0.7, accuracies
    assert max(means.values()) - min(means.values()) < 0.05, accuracies


def test_torchvision_reads_back_the_images_that_ours_trains_on(dataset, data):
    train_indices, _ = draw_split(data.labels, 0)
    images = open_fashion_mnist(dataset, train_indices.numpy())
    assert len(images) == 5000
    ours = data.to_input(data.images[train_indices])
    for position in (0, 1, 2500, 4999):
        pixels, label = images[position]
        torch.testing.assert_close(pixels, ours[position])
        assert label == data.labels[train_indices[position]]


def test_contenders_alternate_and_the_first_round_does_not_count():
    calls = []
    measurements = alternate({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, rounds=3)
    assert "".join(calls) == "ab" + "ab" + "ba" + "ab"
    assert [(item.contender, item.round) for item in measurements] == [
        *[("a", 1), ("b", 1)],
        *[("b", 2), ("a", 2)],
        *[("a", 3), ("b", 3)],
    ]
    assert all(item.value >= 0 and item.unit == "s" for item in measurements)


def timed(**values):
    return [Measurement(name, i, value, "s") for name, row in values.items() for i, value in enumerate(row, start=1)]


def test_the_ratio_is_the_median_of_the_rounds_against_the_fastest_reference():
    # Round 2 was slow for both; the ratio of the medians would be 2.2 / 2.0.
    measurements = timed(ours=[2.2, 9.0, 2.2], slow=[3.0, 9.0, 3.0], fast=[2.0, 6.0, 2.0])
    figure = compare(measurements, "ours", ["slow", "fast"], at_most=1.15)
    assert figure.name == "ours vs fast"
    assert (figure.ours, figure.reference) == (2.2, 2.0)
    assert figure.ratio == pytest.approx(1.1)
    assert figure.holds is True
    rounds_decide = timed(ours=[1.0, 4.0, 9.0], fast=[1.0, 2.0, 3.0])
    assert compare(rounds_decide, "ours", ["fast"]).ratio == 2.0


def test_a_lower_bound_turns_the_ratio_into_times_faster():
    measurements = timed(ours=[1.0, 1.0, 1.0], loader=[4.0, 4.5, 5.5])
    figure = compare(measurements, "ours", ["loader"], at_least=5)
    assert figure.ratio == 4.5
    assert figure.holds is False


@pytest.mark.parametrize(
    ("figure", "holds"),
    [
        (Figure(name="f", ours=0.1, unit="s", at_most=0.1), True),
        (Figure(name="f", ours=0.11, unit="s", at_most=0.1), False),
        (Figure(name="f", ours=9, unit="s", reference=8, ratio=1.125, at_most=1.15), True),
        (Figure(name="f", ours=1, unit="s", reference=5, ratio=5, at_least=5), True),
        (Figure(name="f", ours=1, unit="s"), None),
    ],
)
def test_a_bound_applies_to_the_ratio_or_without_a_reference_to_ours(figure, holds):
    assert figure.holds is holds


def trials(starts, ends, training):
    origin = pd.Timestamp("2025-01-01", tz="UTC")
    seconds = {"start": origin + pd.to_timedelta(starts, unit="s"), "end": origin + pd.to_timedelta(ends, unit="s")}
    return pd.DataFrame({**seconds, "training_seconds": training})


def test_overhead_is_slot_time_without_training():
    # Two slots, three trials each, back to back: a trial has its slot for 1.5 s and trains for 1.2 s of them.
    frame = trials([0, 0, 1.5, 1.5, 3, 3], [1.5, 1.5, 3, 3, 4.5, 4.5], [1.0, 1.4, 1.2, 1.2, 1.1, 1.3])
    cost = overhead.trial_cost(frame, slots=2)
    assert cost.slot_seconds == pytest.approx(1.5)
    assert cost.training_seconds == pytest.approx(1.2)
    assert cost.overhead_seconds == pytest.approx(0.3)


def test_a_slot_that_waits_between_trials_counts_as_overhead():
    frame = trials([0, 2, 4], [1, 3, 5], [1.0, 1.0, 1.0])
    assert overhead.trial_cost(frame, slots=1).overhead_seconds == pytest.approx(2 / 3)


def test_the_warm_up_is_left_out_by_start_time_in_whatever_order_the_record_comes():
    frame = trials([10, 0, 11], [11, 9, 12], [0.5, 0.5, 0.5])
    assert overhead.trial_cost(frame, slots=1, skip=1).slot_seconds == pytest.approx(1.0)
    with pytest.raises(ValueError, match="got 3"):
        overhead.trial_cost(frame, slots=1, skip=3)


def test_the_short_trials_leave_a_hundred_after_the_warm_up():
    study = load_space(str(overhead.SPACE))
    assert len(study.arms) == 2
    assert len(study.arms) * study.trials - overhead.WARM_UP_TRIALS >= 100
    assert study.seeds == 1


def test_a_study_that_ends_badly_is_an_error_and_not_a_figure(tmp_path):
    with pytest.raises(RuntimeError, match="exit code 2") as caught:
        launch(tmp_path, "--space", "nonsense")
    assert "Unknown space 'nonsense'" in str(caught.value)


def test_peak_memory_is_the_kernels_own_and_zero_for_a_process_that_is_gone():
    block = np.ones(25_000_000)  # 200 MB, touched
    peak = peak_resident_bytes(os.getpid())
    assert peak > block.nbytes
    assert peak == pytest.approx(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, rel=0.05)
    assert peak_resident_bytes(2**22 + 1) == 0  # above the kernel's largest process id


SHARING = """
import mmap, sys
with open(sys.argv[1], "r+b") as file:
    pages = mmap.mmap(file.fileno(), 0)
sum(pages[::4096])
print(flush=True)
sys.stdin.read()
"""


def test_what_processes_share_is_not_their_own(tmp_path):
    size = 100_000_000
    before = worker_memory(os.getpid())
    block = np.ones(size, dtype=np.uint8)
    grown = worker_memory(os.getpid())
    assert grown.own - before.own == pytest.approx(size, rel=0.2)
    (tmp_path / "data").write_bytes(block)
    command = [sys.executable, "-c", SHARING, str(tmp_path / "data")]
    with contextlib.ExitStack() as stack:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        sharing = [stack.enter_context(subprocess.Popen(command, **pipes)) for _ in range(2)]
        for process in sharing:
            process.stdout.readline()  # it has read all pages
        for process in sharing:
            seen = worker_memory(process.pid)
            assert seen.resident > size
            assert seen.resident - seen.share > 0.4 * size
            assert seen.own < 0.3 * size
        for process in sharing:
            process.stdin.close()
    assert worker_memory(2**22 + 1) == WorkerMemory(own=0, share=0, resident=0)


def test_workers_are_the_processes_below_a_study_that_run_its_trials():
    names = ("ray::ClassifierTrainable", "ray::_Inner.train", "ray::IDLE", "ray::DashboardAgent")
    waits, trains, *others = started = [subprocess.Popen([name, "60"], executable="/bin/sleep") for name in names]
    try:
        assert set(studies.find_workers(os.getpid())) == {waits.pid, trains.pid}
        assert studies.find_workers(others[-1].pid) == []
    finally:
        for process in started:
            process.kill()
            process.wait()


def test_each_slot_has_a_peak_of_each_kind():
    workers = (WorkerMemory(own=1_000_000_000, share=2_000_000_000, resident=3_000_000_000), WorkerMemory(1, 1, 1))
    found = memory.slot_measurements("digits", Launched(pathlib.Path(), 0.0, 1.0, 1, workers))
    assert [(item.contender, item.round, item.value) for item in found if item.round == 1] == [
        ("slot, digits: own", 1, 1.0),
        ("slot, digits: share", 1, 2.0),
        ("slot, digits: resident", 1, 3.0),
    ]
    assert len(found) == 6


@pytest.fixture
def _made_up_benchmark(monkeypatch):
    measurements = timed(ours=[2.0, 2.0], bare=[1.0, 1.0])
    figures = [
        compare(measurements, "ours", ["bare"], at_most=1.15),
        Figure(name="start", ours=11.5, unit="s", at_most=12),
        Figure(name="training", ours=0.25, unit="s"),
    ]
    module = types.SimpleNamespace(measure=lambda: Result(figures, measurements))
    monkeypatch.setitem(run.BENCHMARKS, "made-up", "nothing")
    monkeypatch.setattr(run.importlib, "import_module", {"bench.made-up": module}.__getitem__)


@pytest.mark.usefixtures("_made_up_benchmark")
def test_the_table_says_which_bounds_hold_and_a_broken_one_is_no_failure(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run.main(["made-up"])
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "made-up ours vs bare 2 s 1 s 2.00 <= 1.15 no" in lines
    assert "made-up start 11.5 s <= 12 s yes" in lines
    assert "made-up training 0.25 s" in lines
    version = torch.__version__.partition("+")[0]
    assert any(line.startswith("software: Python") and f"torch {version}" in line for line in lines)
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("_made_up_benchmark")
def test_output_keeps_every_raw_measurement(tmp_path):
    run.main(["made-up", "--output", str(tmp_path / "results")])
    kept = pd.read_csv(tmp_path / "results" / "made-up.csv")
    assert kept.to_dict("list") == {
        "contender": ["ours", "ours", "bare", "bare"],
        "round": [1, 2, 1, 2],
        "value": [2.0, 2.0, 1.0, 1.0],
        "unit": ["s"] * 4,
    }


def test_every_benchmark_named_in_help_can_be_imported_and_measures():
    for name in run.BENCHMARKS:
        module = run.importlib.import_module(f"bench.{name}")
        assert callable(module.measure)


def test_an_unknown_benchmark_is_refused_with_the_choices(capsys):
    with pytest.raises(SystemExit) as caught:
        run.main(["speed"])
    assert caught.value.code == 2
    assert (
        f"unknown benchmark 'speed'; choose from epoch, overhead, {', '.join(list(run.BENCHMARKS)[2:])}"
        in capsys.readouterr().err
    )


def test_the_large_study_has_a_thousand_trials_of_forty_epochs_and_twenty_metrics():
    trials = large_study.plan_trials(1.0)
    assert len(trials) == len({trial.key for trial in trials}) == 1000
    assert len(synthetic.METRICS) == len(set(synthetic.METRICS)) == 20
    assert len(synthetic.draw_histories(trials[0])["val_f1_macro"]) == 40


def test_a_part_of_the_large_study_loads_as_a_launched_one_would(tmp_path):
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    num_values = large_study.write_large_study(uri, tmp_path / "artifacts", share=0.02)
    record = load_study(large_study.NAME, tracking_uri=uri)
    assert record.trials.groupby("phase").size().to_dict() == {"confirm": 20, "control": 2, "search": 20}
    assert int(record.epochs.drop(columns=list(record.epochs.columns[:7])).notna().sum().sum()) == num_values
    assert len(record.epochs) == 42 * 40
    assert set(record.finals) == set(record.trials.query("phase != 'search'")["run_id"])
    confirm = record.trials.query("phase == 'confirm' and arm == 'loss_3' and seed == 2").iloc[0]
    drawn = next(trial for trial in large_study.plan_trials(0.02) if trial.key == confirm["trial_id"])
    assert confirm["test_accuracy"] == synthetic.draw_histories(drawn)["val_accuracy"][-1]
    assert record.protocol["baseline"] == "loss_0"


def test_processor_time_of_a_group_is_that_of_its_processes():
    from bench.server import group_seconds

    own = group_seconds(os.getpgid(0))
    assert own >= time.process_time() * 0.9  # this process is one of the group
    assert group_seconds(None) == 0
    assert group_seconds(2**22 + 1) == 0


def test_a_proposal_is_timed_as_often_as_it_says(monkeypatch):
    monkeypatch.setattr(proposal, "COUNTS", (10, 20, 30))
    monkeypatch.setattr(proposal, "NEAR", 5)
    result = proposal.measure()
    assert [measurement.round for measurement in result.measurements] == list(range(1, 31))
    assert all(measurement.value >= 0 for measurement in result.measurements)
    *counted, growth = result.figures
    assert len(counted) == 3
    assert growth.ratio == pytest.approx(counted[2].ours / counted[1].ours)


def test_words_without_a_study_are_timed_and_must_end_as_they_should():
    flags, code = start.WORDS["a bad flag"]
    assert start.seconds_of_words(flags, code) > 0
    with pytest.raises(RuntimeError, match=r"ended with 2: study.launch: `--trials` must be >= 1"):
        start.seconds_of_words(flags, 0)
