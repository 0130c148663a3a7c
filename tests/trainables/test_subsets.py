"""Cuts of a dataset: what is kept, in which proportion, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainables.config import InputError
from trainables.sources import RawData
from trainables.subsets import (
    add_test_part,
    check_classes,
    cut_training_part,
    keep_classes,
    make_long_tailed,
    stratified_split,
    thin_split,
)


def make_raw(counts: list[int], test_counts: list[int] | None = None) -> RawData:
    """Images whose pixels hold their own number, so that a test sees which were kept."""

    def part(sizes: list[int]) -> tuple[np.ndarray, np.ndarray]:
        labels = np.repeat(np.arange(len(sizes)), sizes)
        labels = labels[np.random.default_rng(0).permutation(len(labels))]
        numbers = np.arange(len(labels)) % 256
        return np.broadcast_to(numbers[:, None, None, None], (len(labels), 1, 2, 2)).astype(np.uint8), labels

    images, labels = part(counts)
    names = tuple(f"class {index}" for index in range(len(counts)))
    if test_counts is None:
        return RawData(images, labels, names)
    return RawData(images, labels, names, *part(test_counts))


@given(
    counts=st.lists(st.integers(0, 40), min_size=1, max_size=12),
    fraction=st.floats(0.05, 0.95),
    seed=st.integers(0, 1000),
)
def test_a_split_is_a_partition_with_every_class_of_two_in_both_parts(counts, fraction, seed):
    labels = np.repeat(np.arange(len(counts)), counts)
    rest, aside = stratified_split(np.append(labels, len(counts)), fraction, np.random.default_rng(seed))
    assert sorted([*rest, *aside]) == list(range(len(labels) + 1))
    for index in (rest, aside):
        assert index.dtype == np.int64
        assert (np.diff(index) > 0).all()
    for label, count in enumerate(counts):
        taken = int((labels[aside[aside < len(labels)]] == label).sum())
        assert (0 < taken < count) if count >= 2 else taken == 0
        if 1 <= count * fraction <= count - 1 and min(counts) >= 20:  # no class so small that it shifts the others
            assert abs(taken - count * fraction) < 2


def test_the_part_set_aside_is_rounded_up_as_in_the_studies_numbers():
    digits_like = np.repeat(np.arange(10), [178, 182, 177, 183, 181, 182, 181, 179, 174, 180])
    rest, aside = stratified_split(digits_like, 0.2, np.random.default_rng(0))
    assert (len(rest), len(aside)) == (1437, 360)
    fashion_like = np.repeat(np.arange(10), 6000)
    _, aside = stratified_split(fashion_like, 1 / 6, np.random.default_rng(0))
    assert np.bincount(fashion_like[aside]).tolist() == [1000] * 10


def test_the_test_part_is_a_fifth_fixed_by_the_seed_and_shares_no_example():
    raw = make_raw([50, 100])
    first, again, other = add_test_part(raw, 3), add_test_part(raw, 3), add_test_part(raw, 4)
    assert np.bincount(first.test_labels).tolist() == [10, 20]
    np.testing.assert_array_equal(first.test_images, again.test_images)
    assert not np.array_equal(first.test_images, other.test_images)
    assert not set(first.test_images[:, 0, 0, 0]) & set(first.train_images[:, 0, 0, 0])
    assert len(first.train_labels) == 120


def test_a_test_part_of_its_own_is_kept():
    raw = make_raw([5, 5], [2, 2])
    assert add_test_part(raw, 0) is raw


def test_classes_are_relabelled_in_the_order_given_in_both_parts():
    raw = make_raw([5, 6, 7], [2, 3, 4])
    kept = keep_classes(raw, [2, 0], "toy")
    assert kept.class_names == ("class 2", "class 0")
    assert np.bincount(kept.train_labels).tolist() == [7, 5]
    assert np.bincount(kept.test_labels).tolist() == [4, 2]
    expected = raw.train_images[(raw.train_labels == 2) | (raw.train_labels == 0)]
    np.testing.assert_array_equal(kept.train_images, expected)
    np.testing.assert_array_equal(kept.train_images[kept.train_labels == 0], raw.train_images[raw.train_labels == 2])


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ([0, 3], r"`classes` of 'toy' must be integers from 0 to 2; got 0, 3\."),
        ([-1, 0], r"must be integers from 0 to 2; got -1, 0\."),
        ([0, 1.5], r"must be integers from 0 to 2; got 0, 1\.5\."),
        ([1], r"`classes` must be two or more different classes; got 1\."),
        ([1, 1], r"two or more different classes; got 1, 1\."),
        ([], r"two or more different classes; got none\."),
    ],
)
def test_classes_that_break_the_rule_are_refused(classes, message):
    with pytest.raises(InputError, match=message):
        keep_classes(make_raw([5, 6, 7], [2, 3, 4]), classes, "toy")


def test_a_long_tail_falls_geometrically_to_one_over_the_imbalance():
    tailed = make_long_tailed(make_raw([1000] * 5, [10] * 5), 16, seed=0)
    assert np.bincount(tailed.train_labels).tolist() == [1000, 500, 250, 125, 62]
    assert np.bincount(tailed.test_labels).tolist() == [10] * 5


def test_a_long_tail_starts_as_high_as_the_rarest_class_allows():
    # The last class must hold n_max / 4 and has 10, so n_max is 40 though the first class has 1000.
    tailed = make_long_tailed(make_raw([1000, 1000, 10], [1, 1, 1]), 4, seed=0)
    assert np.bincount(tailed.train_labels).tolist() == [40, 20, 10]


def test_a_long_tail_leaves_two_of_every_class():
    tailed = make_long_tailed(make_raw([100] * 3, [1] * 3), 1e6, seed=0)
    assert np.bincount(tailed.train_labels).tolist() == [100, 2, 2]


def test_an_imbalance_of_one_balances_the_classes():
    tailed = make_long_tailed(make_raw([30, 20, 10], [1, 1, 1]), 1, seed=0)
    assert np.bincount(tailed.train_labels).tolist() == [10, 10, 10]


@pytest.mark.parametrize("imbalance", [0.5, 0, -3, float("nan"), float("inf")])
def test_an_imbalance_below_one_or_not_finite_is_refused(imbalance):
    with pytest.raises(InputError, match=rf"`imbalance` must be a finite number >= 1; got {imbalance}"):
        make_long_tailed(make_raw([5, 5], [1, 1]), imbalance, seed=0)


def test_a_thinned_split_is_a_long_tail_of_its_own_indices_fixed_by_the_seed():
    labels = np.tile(np.arange(5), 120)
    split = np.flatnonzero(np.arange(600) // 5 % 6 != 0)  # 100 of each class; the rest belongs to the validation split
    thinned = thin_split(split, labels, 16, seed=3)
    assert np.bincount(labels[thinned]).tolist() == [100, 50, 25, 12, 6]
    assert set(thinned) < set(split)
    assert (np.diff(thinned) > 0).all()
    np.testing.assert_array_equal(thinned, thin_split(split, labels, 16, seed=3))
    assert not np.array_equal(thinned, thin_split(split, labels, 16, seed=4))


def test_a_split_with_an_imbalance_of_one_stays_whole_even_if_it_is_not_balanced():
    labels = np.repeat(np.arange(3), [50, 20, 10])
    split = np.arange(0, 80, 2)
    np.testing.assert_array_equal(thin_split(split, labels, 1.0, seed=0), split)


def test_a_thinned_split_keeps_two_of_a_class_or_the_one_there_is():
    labels = np.repeat(np.arange(3), [40, 40, 2])
    assert np.bincount(labels[thin_split(np.arange(82), labels, 1000, seed=0)]).tolist()[1:] == [2, 2]
    assert np.bincount(labels[thin_split(np.arange(81), labels, 1000, seed=0)]).tolist()[2] == 1


def test_a_smaller_training_part_keeps_the_proportions_and_the_exact_size():
    raw = make_raw([60, 30, 10], [1, 1, 1])
    cut = cut_training_part(raw, 50, seed=1)
    assert np.bincount(cut.train_labels).tolist() == [30, 15, 5]
    assert len(cut_training_part(raw, 17, seed=1).train_labels) == 17
    assert len(set(cut.train_images[:, 0, 0, 0])) == 50
    np.testing.assert_array_equal(cut.train_images, cut_training_part(raw, 50, seed=1).train_images)
    assert not np.array_equal(cut.train_images, cut_training_part(raw, 50, seed=2).train_images)


def test_examples_left_over_by_rounding_go_to_the_largest_remainders():
    cut = cut_training_part(make_raw([50, 30, 20], [1, 1, 1]), 13, seed=0)  # shares of 6.5, 3.9 and 2.6
    assert np.bincount(cut.train_labels).tolist() == [6, 4, 3]


def test_a_smaller_training_part_keeps_two_of_a_rare_class():
    cut = cut_training_part(make_raw([197, 3], [1, 1]), 10, seed=0)
    assert np.bincount(cut.train_labels).tolist() == [8, 2]


@pytest.mark.parametrize("train_size", [5, 101, -1, 50.0, True])
def test_a_training_size_out_of_bounds_is_refused(train_size):
    with pytest.raises(InputError, match=rf"from 6 \(2 a class\) to 100 \(all there are\); got {train_size}\."):
        cut_training_part(make_raw([60, 30, 10], [1, 1, 1]), train_size, seed=0)


def test_one_class_is_refused():
    with pytest.raises(InputError, match="'toy' has 1 class; a study needs two or more"):
        check_classes(make_raw([9], [1]), "toy")


def test_a_class_without_a_second_training_example_is_refused():
    check_classes(make_raw([2, 2], [1, 0]), "toy")
    with pytest.raises(InputError, match="The class 'class 1' of 'toy' has too few training examples, 1"):
        check_classes(make_raw([9, 1], [1, 1]), "toy")
    # Three examples are the least where the test part takes one of them.
    check_classes(add_test_part(make_raw([3, 3]), 0), "toy")
    with pytest.raises(InputError, match="one more for testing where the dataset has no test part"):
        check_classes(add_test_part(make_raw([3, 2]), 0), "toy")


def test_a_test_part_that_the_chosen_classes_leave_empty_is_refused():
    raw = keep_classes(make_raw([5, 5, 5], [0, 0, 5]), [0, 1], "toy")
    with pytest.raises(InputError, match="has no examples of the classes class 0, class 1"):
        check_classes(raw, "toy")
