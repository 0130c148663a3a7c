"""A committed row of results comes out again: to the bit where the processor and PyTorch are the same."""

import csv
import json
from pathlib import Path

import pytest
import torch

from tests.end_to_end.conftest import launch
from tests.needs import need_fashion_mnist

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "results"
#: On another processor sums are added in another order; what ten epochs make of that stays well below a point.
TOLERANCE = 0.01
ROW = {"regime": "stated", "arm": "tanh-cross_entropy", "seed": "1"}

pytestmark = pytest.mark.studies


def read_rows(path):
    with path.open(encoding="utf-8", newline="") as file:
        return [row for row in csv.DictReader(file) if {key: row[key] for key in ROW} == ROW]


def processor():
    """The type of the first processor, as Linux names it, and the instructions that PyTorch uses on it."""
    first = Path("/proc/cpuinfo").read_text(encoding="utf-8").partition("\n\n")[0]
    known = dict(map(str.strip, line.split(":", 1)) for line in first.splitlines() if ":" in line)
    kinds = [known.get(key, "") for key in ("vendor_id", "cpu family", "model", "model name")]
    return ", ".join([*kinds, torch.backends.cpu.get_cpu_capability()])


def test_a_row_of_the_committed_results_comes_out_again(tmp_path):
    need_fashion_mnist()
    (committed,) = read_rows(RESULTS / "loss_by_activation-fashion-mnist-seeds.csv")
    machine = json.loads((RESULTS / "machine.json").read_text(encoding="utf-8"))
    flags = ("--dataset", "fashion-mnist", "--regime", "stated", "--arms", ROW["arm"], "--seeds", "1")
    study = launch(tmp_path, "--space", "loss_by_activation", *flags)
    assert study.code == 0, study.stderr
    (found,) = read_rows(study.folder / "runs" / study.name / "seeds.csv")
    if machine == {"processor": processor(), "torch": torch.__version__}:
        assert found == committed
    for key in ("accuracy", "train_accuracy", "nll"):
        assert float(found[key]) == pytest.approx(float(committed[key]), abs=TOLERANCE)
    assert (found["epochs"], found["learning_rate"]) == (committed["epochs"], committed["learning_rate"])
