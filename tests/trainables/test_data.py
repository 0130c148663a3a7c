"""Datasets by name: the real ones that need no network, the user's own, and what decides a dataset's digest."""

from __future__ import annotations

import pickle
import subprocess
import sys
import types
from dataclasses import replace

import numpy as np
import pytest

from tests.needs import need_fashion_mnist
from trainables.config import InputError
from trainables.data import Dataset, channel_statistics, load_dataset, split_indices

GENERATOR = np.random.default_rng(0)
ARRAYS = {"images": GENERATOR.integers(0, 256, (60, 4, 5, 3), dtype=np.uint8), "labels": np.arange(60) % 3}


@pytest.fixture(scope="module")
def fashion_mnist():
    need_fashion_mnist()
    return load_dataset("fashion-mnist")


@pytest.fixture
def own(monkeypatch):
    """A module whose function ``build`` returns what the test gives."""

    def set_dataset(value):
        def build():
            if isinstance(value, Exception):
                raise value
            return value

        module = types.ModuleType("users_module")
        module.build = build
        monkeypatch.setitem(sys.modules, "users_module", module)
        return "users_module:build"

    return set_dataset


def make_dataset(**changes):
    images = GENERATOR.integers(0, 256, (12, 3, 4, 5), dtype=np.uint8)
    labels = np.arange(12) % 2
    dataset = Dataset("mine", images, labels, images[:4], labels[:4], ("no", "yes"), (0.1, 0.2, 0.3), (1.0, 2.0, 3.0))
    return replace(dataset, **changes)


def test_digits_load_without_torch():
    code = (
        "import sys; from trainables.data import load_dataset; d = load_dataset('digits');"
        "assert (len(d.train_labels), len(d.test_labels)) == (1437, 360), (len(d.train_labels), len(d.test_labels));"
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_digits_have_a_stratified_test_part_fixed_by_the_seed():
    first, again, other = load_dataset("digits", seed=1), load_dataset("digits", seed=1), load_dataset("digits", seed=2)
    assert first.input_shape == (1, 8, 8)
    assert first.num_classes == 10
    assert first.sha256 == again.sha256 != other.sha256
    assert set(np.bincount(first.test_labels)) <= {35, 36, 37}


def test_fashion_mnist_is_the_real_one(fashion_mnist):
    assert fashion_mnist.train_images.shape == (60_000, 1, 28, 28)
    assert fashion_mnist.test_images.shape == (10_000, 1, 28, 28)
    assert np.bincount(fashion_mnist.train_labels).tolist() == [6000] * 10
    assert np.bincount(fashion_mnist.test_labels).tolist() == [1000] * 10
    assert fashion_mnist.class_names[9] == "Ankle boot"
    assert fashion_mnist.train_labels[0] == 9
    assert fashion_mnist.mean == pytest.approx((0.2860,), abs=5e-5)
    assert fashion_mnist.std == pytest.approx((0.3530,), abs=5e-5)


def test_fashion_mnist_with_a_long_tail_and_a_size_keeps_its_test_part(fashion_mnist):
    tailed = load_dataset("fashion-mnist", imbalance=100)
    counts = np.bincount(tailed.train_labels)
    assert (counts[0], counts[9]) == (6000, 60)
    assert counts.tolist() == np.rint(6000 * 100 ** (-np.arange(10) / 9)).astype(int).tolist()
    np.testing.assert_array_equal(tailed.test_labels, fashion_mnist.test_labels)
    small = load_dataset("fashion-mnist", imbalance=100, train_size=500, classes=[0, 6])
    assert len(small.train_labels) == 500
    assert small.class_names == ("T-shirt/top", "Shirt")
    assert np.bincount(small.test_labels).tolist() == [1000, 1000]
    assert np.bincount(small.train_labels).tolist() == [495, 5]


def test_the_split_is_fixed_by_the_seed_and_redrawn_for_another(fashion_mnist):
    labels = fashion_mnist.train_labels
    train, val = split_indices(labels, seed=0)
    assert (len(train), len(val)) == (50_000, 10_000)
    assert np.bincount(labels[val]).tolist() == [1000] * 10
    np.testing.assert_array_equal(val, split_indices(labels, seed=0)[1])
    shared = np.intersect1d(val, split_indices(labels, seed=1)[1]).size
    assert 1400 < shared < 1950  # a sixth of a sixth, 1,667, is what chance shares


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 1.5])
def test_a_split_fraction_outside_0_to_1_is_refused(fraction):
    with pytest.raises(ValueError, match=rf"`fraction` must lie in \(0, 1\); got {fraction}"):
        split_indices(np.zeros(4, dtype=np.int64), seed=0, fraction=fraction)


def test_channel_statistics_equal_numpys():
    images = GENERATOR.integers(0, 256, (5000, 2, 3, 3), dtype=np.uint8)
    mean, std = channel_statistics(images)
    np.testing.assert_allclose(mean, (images / 255).mean(axis=(0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(std, (images / 255).std(axis=(0, 2, 3)), rtol=1e-12)


def test_a_constant_channel_is_divided_by_one():
    assert channel_statistics(np.full((3, 1, 2, 2), 51, np.uint8)) == ((pytest.approx(0.2),), (1.0,))


def test_an_npz_file_is_a_dataset(tmp_path):
    np.savez(tmp_path / "mine.npz", **ARRAYS)
    dataset = load_dataset(f"npz:{tmp_path / 'mine.npz'}")
    assert dataset.input_shape == (3, 4, 5)
    assert (len(dataset.train_labels), len(dataset.test_labels)) == (48, 12)


def test_a_function_of_the_users_own_may_return_arrays(own):
    dataset = load_dataset(own(ARRAYS), classes=[2, 1])
    assert dataset.class_names == ("2", "1")
    assert dataset.name == "users_module:build"


def test_a_dataset_of_the_users_own_keeps_its_normalisation_and_its_test_part(own):
    given = make_dataset()
    dataset = load_dataset(own(given))
    assert (dataset.mean, dataset.std) == (given.mean, given.std)
    np.testing.assert_array_equal(dataset.train_images, given.train_images)
    np.testing.assert_array_equal(dataset.test_labels, given.test_labels)
    assert dataset.sha256 == given.sha256


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (3, "'users_module:build' returned int; it must return a Dataset or a mapping"),
        (RuntimeError("no\ndisk"), "'users_module:build' raised RuntimeError: no disk"),
        ({"images": ARRAYS["images"]}, "has no array 'labels'"),
        (make_dataset(train_images=np.zeros((12, 4, 5), np.uint8)), "a Dataset's images are N×C×H×W"),
        (make_dataset(train_images=np.zeros((12, 3, 4, 5))), "have the dtype float64"),
        (
            make_dataset(test_images=np.zeros((4, 3, 5, 5), np.uint8)),
            r"are \(3, 5, 5\) \(C, H, W\); they must be \(3, 4, 5\)",
        ),
        (make_dataset(test_labels=np.array([0, 1, 2, 0])), "contain 2; labels must lie in 0 to 1"),
        (make_dataset(std=(1.0, 0.0, 1.0)), "and `std` must be > 0"),
        (make_dataset(mean=(0.5,)), "one value for each of its 3 channels"),
    ],
)
def test_what_the_users_function_returns_is_checked(own, value, message):
    with pytest.raises(InputError, match=message) as caught:
        load_dataset(own(value))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cifar", "Unknown dataset 'cifar'; choose from cifar10, cifar100, digits, .*folder:DIR.*npz:FILE"),
        ("npz:", "The dataset 'npz:' names no path; write npz:FILE"),
        ("folder:", "The dataset 'folder:' names no path; write folder:DIR"),
        ("npz:absent.npz", "There is no file 'absent.npz'"),
        ("folder:absent", "There is no folder '.*absent'"),
        ("absent_module:build", "The dataset 'absent_module:build' cannot be imported"),
    ],
)
def test_an_unknown_dataset_is_named_with_the_choices(name, message):
    with pytest.raises(InputError, match=message) as caught:
        load_dataset(name)
    assert "\n" not in str(caught.value)


def test_options_that_break_a_rule_are_refused():
    with pytest.raises(InputError, match="`classes` of 'digits' must be integers from 0 to 9; got 0, 10"):
        load_dataset("digits", classes=[0, 10])
    with pytest.raises(InputError, match=r"`train_size` must be an integer from 20 \(2 a class\) to 1437"):
        load_dataset("digits", train_size=1438)
    with pytest.raises(InputError, match="`imbalance` must be a finite number >= 1"):
        load_dataset("digits", imbalance=0.01)


def test_a_dataset_with_one_class_is_refused(own):
    with pytest.raises(InputError, match="has 1 class; a study needs two or more"):
        load_dataset(own({"images": ARRAYS["images"], "labels": np.zeros(60, dtype=np.int64)}))


def test_the_digest_covers_what_decides_the_numbers_and_no_names():
    dataset = make_dataset()
    pixels = dataset.train_images.copy()
    pixels[0, 0, 0, 0] ^= 1
    assert replace(dataset, name="other", class_names=("a", "b")).sha256 == dataset.sha256
    for change in (
        {"train_images": pixels},
        {"train_labels": 1 - dataset.train_labels},
        {"test_images": dataset.test_images[::-1]},
        {"test_labels": 1 - dataset.test_labels},
        {"mean": (0.1, 0.2, 0.4)},
        {"std": (1.0, 2.0, 4.0)},
        {"class_names": ("a", "b", "c")},
        {"train_images": dataset.train_images.reshape(12, 3, 5, 4)},
    ):
        assert replace(dataset, **change).sha256 != dataset.sha256


def test_a_dataset_survives_pickling():
    dataset = make_dataset()
    assert pickle.loads(pickle.dumps(dataset)).sha256 == dataset.sha256
