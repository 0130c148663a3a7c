import itertools
import runpy
from pathlib import Path

import numpy as np
import pytest

from analysis.confusions import confusion_cells, confusion_counts, joint_p

SYNTHETIC = runpy.run_path(str(Path(__file__).with_name("synthetic_final.py")))
build = SYNTHETIC["build_final_record"]
SEEDS = range(1, 11)


def cells_of(record):
    return confusion_cells(confusion_counts(record), record.protocol["baseline"])


def test_shares_are_of_all_images_of_a_class_over_all_seeds():
    counts = {1: [[8, 2], [5, 5]], 2: [[6, 4], [9, 1]]}
    record = build({"base": {seed: {"final": {"confusion": c}} for seed, c in counts.items()}}, num_classes=2)
    cells = cells_of(record).set_index(["true", "predicted"])
    assert cells["percent"].to_dict() == pytest.approx({(0, 0): 70, (0, 1): 30, (1, 0): 70, (1, 1): 30})
    assert cells["num_seeds"].unique().tolist() == [2]
    assert cells["difference"].isna().all()


def test_a_confusion_that_an_arm_adds_is_found_where_it_is():
    extra = {"extra_errors": ((6, 0, 5),)}  # five of the hundred images of class 6
    record = build(
        {
            "base": {seed: {} for seed in SEEDS},
            "other": {seed: dict(extra) for seed in SEEDS},
            "same": {seed: {} for seed in SEEDS},
        }
    )
    cells = cells_of(record)
    found = cells[cells["p"] < 0.05]
    assert found[["arm", "true", "predicted"]].to_numpy().tolist() == [["other", 6, 0]]
    assert found["difference"].item() == pytest.approx(5)
    assert found["p"].item() == pytest.approx(2 * 2 / 2**10)  # two arms, ten seeds
    recall = cells.query("arm == 'other' and true == 6 and predicted == 6")
    assert recall["difference"].item() == pytest.approx(-5)
    assert recall["p"].isna().all()
    assert cells.query("arm == 'base'")["difference"].isna().all()


def test_differences_are_paired_and_need_a_shared_seed():
    arms = {
        "base": {1: {"accuracy": 0.8}, 2: {"accuracy": 0.9}, 3: {"diverged": True}},
        "other": {2: {"accuracy": 0.8}, 3: {"accuracy": 0.8}, 4: {"accuracy": 0.1}},
        "apart": {7: {}},
    }
    cells = cells_of(build(arms)).query("true == 0 and predicted == 1").set_index("arm")
    assert cells.loc["other", "difference"] == pytest.approx(10)  # on seed 2 alone
    assert cells["num_pairs"].to_dict() == {"base": 0, "other": 1, "apart": 0}
    assert cells["num_seeds"].to_dict() == {"base": 2, "other": 3, "apart": 1}
    assert np.isnan(cells.loc["other", "low"])
    assert cells.loc["other", "p"] == 1
    assert np.isnan(cells.loc["apart", "difference"])


def test_a_class_without_images_has_no_shares():
    record = build({arm: {1: {"final": {"confusion": [[5, 5], [0, 0]]}}} for arm in ("base", "other")}, num_classes=2)
    cells = cells_of(record)
    assert cells.query("true == 1")[["percent", "difference", "p"]].isna().all(axis=None)
    assert cells.query("true == 0")["percent"].tolist() == [50, 50, 50, 50]


@pytest.mark.parametrize(
    "odd", [None, [], [[1, 2]], [[1], [2, 3]], [[1, float("nan")], [0, 1]], "counts", np.eye(3).tolist()]
)
def test_counts_that_fit_no_other_are_left_out(odd):
    runs = {1: {"final": {"confusion": [[5, 5], [1, 9]]}}, 2: {"final": {"confusion": [[4, 6], [1, 9]]}}}
    counts = confusion_counts(build({"base": {**runs, 3: {"final": {"confusion": odd}}}}, num_classes=2))
    assert list(counts["base"]) == [1, 2]


def test_no_counts_give_an_empty_frame():
    record = build({"base": {1: {"diverged": True}}})
    assert cells_of(record).empty
    assert "percent" in cells_of(record)


def test_the_joint_p_counts_all_flips():
    differences = np.random.default_rng(0).normal(0.3, 1, (5, 2, 3))
    flips = [np.tensordot(signs, differences, axes=1) for signs in itertools.product((1, -1), repeat=5)]
    largest = np.array([np.abs(flip).max() for flip in flips])
    observed = np.abs(differences.sum(axis=0))
    expected = [[np.mean(largest >= value - 1e-12) for value in row] for row in observed]
    assert joint_p(differences).tolist() == pytest.approx(np.array(expected))
    assert joint_p(-differences).tolist() == pytest.approx(np.array(expected))
    missing = differences.copy()
    missing[2, 1, 1] = np.nan
    assert np.isnan(joint_p(missing)).tolist() == [[False, False, False], [False, True, False]]


def test_many_seeds_draw_their_flips_alike_each_time():
    differences = np.random.default_rng(1).normal(0, 1, (30, 6)) + np.array([0, 0, 0, 0, 0, 3])
    p = joint_p(differences)
    assert p.tolist() == joint_p(differences).tolist()
    assert p[-1] == pytest.approx(1 / 1000)
    assert p[:-1].min() > 0.05


def test_false_findings_over_all_confusions_of_all_arms_stay_at_five_percent():
    # Differences to one baseline, so arms go together, and entries of a seed too; tails are heavy, spreads differ.
    random = np.random.default_rng(7)
    num_studies, num_arms, spread = 2000, 3, np.array([0.1, 0.3, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5])
    false = 0
    for _ in range(num_studies):
        runs = (random.standard_t(3, (num_arms + 1, 8, 12)) + random.normal(0, 1, (num_arms + 1, 8, 1))) * spread
        false += min(num_arms * joint_p(runs[arm] - runs[0]).min() for arm in range(1, num_arms + 1)) < 0.05
    assert 0.02 <= false / num_studies <= 0.061
