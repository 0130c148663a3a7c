import itertools

import numpy as np
import pandas as pd
import pytest

from analysis import inference
from analysis.compare import compare_to_baseline
from analysis.family import page_p
from analysis.inference import ALPHA
from analysis.pairwise import PAIR_COLUMNS, correct_pairs, pairwise_comparisons, smallest_pair_p

STUDIES, SEEDS, ARMS = 2000, 10, 6
DELTA = 1.0


def build_trials(scores, *, diverged=()):
    """Confirm runs from ``{arm: {seed: accuracy}}``."""
    rows = [
        {
            "arm": arm,
            "phase": "confirm",
            "seed": seed,
            "stop_reason": "diverged" if (arm, seed) in diverged else "completed",
            "start": pd.Timestamp("2026-01-01", tz="UTC"),
            "val_accuracy": 0.1 if (arm, seed) in diverged else score,
            "test_accuracy": np.nan if (arm, seed) in diverged else score,
        }
        for arm, own in scores.items()
        for seed, score in own.items()
    ]
    columns = ["arm", "phase", "seed", "stop_reason", "start", "val_accuracy", "test_accuracy"]
    frame = pd.DataFrame(rows, columns=columns)
    return frame.assign(seed=frame["seed"].astype("Int64"))


def from_points(points):
    """Trials whose scores are 50% plus these points, shape (arms, seeds); the arms are a, b, c and so on."""
    arms = {chr(ord("a") + place): 0.5 + own / 100 for place, own in enumerate(points)}
    return build_trials({arm: dict(enumerate(map(float, own), start=1)) for arm, own in arms.items()})


def differences(points):
    """Of every unordered pair, shape (..., pairs, seeds), from shape (..., arms, seeds)."""
    pairs = itertools.combinations(range(points.shape[-2]), 2)
    return np.stack([points[..., one, :] - points[..., other, :] for one, other in pairs], axis=-2)


def test_every_ordered_pair_has_a_row_and_the_best_arm_comes_first():
    frame = pairwise_comparisons(from_points(np.array([[1.0, 2, 3], [4, 5, 7], [0, 2, 1]])), DELTA)
    assert list(zip(frame["arm"], frame["other"], strict=True)) == [
        ("b", "a"), ("b", "c"), ("a", "b"), ("a", "c"), ("c", "b"), ("c", "a")
    ]  # fmt: skip
    pair = frame.set_index(["arm", "other"]).loc[("a", "c")]
    assert pair["difference_points"] == pytest.approx(1)  # 1, 0 and 2
    assert pair["probability_better"] == pytest.approx(2.5 / 3)
    assert pair["num_seeds"] == 3


def test_the_two_orders_of_a_pair_mirror_each_other():
    frame = pairwise_comparisons(from_points(np.random.default_rng(1).normal(size=(4, 7))), DELTA)
    there = frame.set_index(["arm", "other"])
    back = there.swaplevel().loc[there.index]
    assert (there["difference_points"] == -back["difference_points"]).all()
    assert (there["low_points"] == -back["high_points"]).all()
    assert there["probability_better"].tolist() == pytest.approx((1 - back["probability_better"]).tolist())
    for column in ("p", "p_family", "equivalence_p", "equivalence_p_holm", "differs", "equivalent", "num_seeds"):
        assert (there[column] == back[column]).all()


def test_against_the_baseline_a_pair_says_what_the_comparison_says(load):
    trials = load("truth").trials
    pairs = pairwise_comparisons(trials, DELTA).query("other == 'cross_entropy'").set_index("arm")
    expected = compare_to_baseline(trials, "cross_entropy", DELTA).set_index("arm")
    shared = ["difference_points", "low_points", "high_points", "p", "probability_better", "equivalence_p", "num_seeds"]
    for column in [*shared, "num_diverged"]:
        assert pairs[column].to_dict() == pytest.approx(expected[column].to_dict())


def test_both_families_are_corrected_over_all_unordered_pairs():
    points = np.random.default_rng(2).normal([[0.0], [0.1], [3.0], [3.2]], 0.4, size=(4, 10))
    frame = pairwise_comparisons(from_points(points), DELTA).set_index(["arm", "other"])
    samples = differences(points)
    expected = {
        "p_family": page_p([samples])[0],
        "equivalence_p_holm": inference.holm(inference.equivalence_p(samples, DELTA)),
    }
    for column, corrected in expected.items():
        once = [frame.loc[pair, column] for pair in itertools.combinations("abcd", 2)]
        assert once == pytest.approx(corrected)
    assert frame.loc[("c", "a"), "differs"]
    assert frame.loc[("a", "b"), "equivalent"]
    assert not frame.loc[("a", "b"), "differs"]


def test_a_pair_is_compared_on_the_seeds_that_both_have():
    trials = build_trials({"a": {1: 0.9, 2: 0.8, 3: 0.7}, "b": {2: 0.85, 3: 0.7, 4: 0.1}, "c": {9: 0.5}})
    frame = pairwise_comparisons(trials, DELTA)
    assert set(zip(frame["arm"], frame["other"], strict=True)) == {("a", "b"), ("b", "a")}
    pair = frame.set_index("arm").loc["b"]
    assert (pair["num_seeds"], pair["difference_points"], pair["probability_better"]) == pytest.approx((2, 2.5, 0.75))


def test_a_diverged_seed_counts_with_chance_accuracy_and_is_counted():
    trials = build_trials({"a": {1: 0.9, 2: 0.9}, "b": {1: 0.9, 2: 0.9}}, diverged=[("b", 2)])
    pair = pairwise_comparisons(trials, DELTA).set_index("arm").loc["a"]
    assert pair["difference_points"] == pytest.approx(40)
    assert pair["num_diverged"] == 1


def test_one_seed_shows_nothing():
    pair = pairwise_comparisons(build_trials({"a": {1: 0.9}, "b": {1: 0.8}}), DELTA).iloc[0]
    assert (pair["p_family"], pair["equivalence_p_holm"]) == (1, 1)
    assert not pair["differs"]
    assert not pair["equivalent"]
    assert np.isnan(pair["low_points"])


@pytest.mark.parametrize("scores", [{}, {"a": {1: 0.9}}, {"a": {1: 0.9}, "b": {2: 0.9}}])
def test_no_pair_gives_an_empty_frame_with_its_columns(scores):
    frame = pairwise_comparisons(build_trials(scores), DELTA)
    assert frame.empty
    assert list(frame.columns) == list(PAIR_COLUMNS)


def test_a_single_arm_of_a_study_has_no_pair(load):
    assert pairwise_comparisons(load("alone").trials, DELTA).empty
    assert pairwise_comparisons(load("searching").trials, DELTA).empty


@pytest.mark.parametrize(
    ("studies", "most", "draw"),
    [
        (2000, 0.061, lambda generator, shape: generator.normal(size=shape)),
        (1000, 0.066, lambda generator, shape: generator.standard_t(3, size=shape)),
        (1000, 0.066, lambda generator, shape: -generator.exponential(size=shape)),
        (1000, 0.066, lambda generator, shape: generator.normal(size=shape) - 40 * (generator.random(shape) < 0.05)),
        (1000, 0.066, lambda generator, shape: generator.normal(size=shape) * np.linspace(0.2, 3, shape[1])[:, None]),
    ],
    ids=["normal", "heavy-tailed", "skewed", "one run in twenty collapses", "each arm has its own spread"],
)
def test_false_differences_in_the_family_of_all_pairs_stay_below_five_percent(studies, most, draw):
    # All arms equal: each pair's differences share its arms' noise with the other pairs'. At most 5%, and what so many
    # simulated studies may show of it.
    generator = np.random.default_rng(21)
    points = draw(generator, (studies, ARMS, SEEDS)) + generator.normal(size=(studies, 1, SEEDS))
    found = any_found(points)
    assert np.mean(found) <= most
    for number in np.flatnonzero(found)[:2]:  # the lines above are those that a study runs
        assert pairwise_comparisons(from_points(points[number]), DELTA)["differs"].any()


def test_skewed_noise_of_a_size_of_its_own_in_every_arm_is_beyond_the_test():
    # As `inference` says of the intervals of skewed differences: here they are skewed, and each by another amount.
    generator = np.random.default_rng(27)
    points = (1 - generator.exponential(size=(400, ARMS, SEEDS))) * np.linspace(0.2, 3, ARMS)[:, None]
    assert 0.1 < np.mean(any_found(points)) < 0.25


def test_where_half_of_the_arms_are_better_they_are_told_from_the_others_and_not_from_each_other():
    generator = np.random.default_rng(25)
    points = generator.normal(3.0 * (np.arange(10) < 5)[:, None], 1.0, size=(200, 10, SEEDS))
    real = np.array([(one < 5) != (other < 5) for one, other in itertools.combinations(range(10), 2)])
    found = np.array([page_p([study])[0] < ALPHA for study in differences(points)])
    assert np.mean(found[:, real]) > 0.9
    assert np.mean(found[:, ~real].any(axis=1)) <= 0.1  # 5%, and what 200 studies may show of it


def any_found(points):
    """Whether a study, of shape (studies, arms, seeds), finds any two of its arms different."""
    return np.array([(page_p([study])[0] < ALPHA).any() for study in differences(points)])


def any_survives(p):
    """Whether any of a study's p, shape (studies, pairs), survives: Holm's first step decides."""
    return p.shape[1] * p.min(axis=1) < ALPHA


def corrected(equivalence_p):
    return correct_pairs(pd.DataFrame({"equivalence_p": equivalence_p}), np.zeros((len(equivalence_p), SEEDS)))


def test_equivalence_is_claimed_at_a_true_difference_of_delta_five_times_in_a_hundred():
    # Two arms exactly delta apart: the family is this one pair.
    generator = np.random.default_rng(22)
    points = generator.normal([[0.0], [DELTA]], 0.4, size=(STUDIES, 2, SEEDS))
    p = inference.equivalence_p(differences(points), DELTA)
    claimed = any_survives(p)
    assert [bool(corrected(raw)["equivalent"].any()) for raw in p[:40]] == claimed[:40].tolist()
    assert 0.03 <= np.mean(claimed) <= 0.061


def test_false_equivalences_in_the_family_of_all_pairs_stay_below_five_percent():
    # Arms delta apart from the next: five of the fifteen pairs lie exactly at delta, the others beyond.
    generator = np.random.default_rng(23)
    points = generator.normal(DELTA * np.arange(ARMS)[:, None], 0.4, size=(STUDIES, ARMS, SEEDS))
    p = inference.equivalence_p(differences(points), DELTA)
    claimed = any_survives(p)
    assert 0 < np.mean(claimed) <= 0.061
    assert np.mean((p < ALPHA).any(axis=1)) > 0.061  # uncorrected, the family would claim too often
    number = int(np.flatnonzero(claimed)[0])
    assert pairwise_comparisons(from_points(points[number]), DELTA)["equivalent"].any()


@pytest.mark.parametrize("seeds", [6, 10, 12, 40])
def test_the_smallest_p_is_what_a_difference_in_every_seed_gives(seeds):
    best = np.random.default_rng(26).normal(100, 1, size=(1, seeds))
    points = np.concatenate([best, np.random.default_rng(27).normal(size=(4, seeds))])
    pairs = pd.DataFrame({"equivalence_p": np.ones(10)})
    assert correct_pairs(pairs, differences(points))["p_family"].min() == pytest.approx(smallest_pair_p(seeds))


def test_ten_seeds_are_enough_for_many_arms():
    # Holm's correction would leave 45 or 153 pairs nothing below 0.05.
    assert smallest_pair_p(5) >= ALPHA
    assert smallest_pair_p(6) < ALPHA
    generator = np.random.default_rng(28)
    frame = pairwise_comparisons(from_points(generator.normal(np.arange(18)[:, None] * 5.0, 0.5, (18, SEEDS))), DELTA)
    assert frame["differs"].all()
