"""Cuts of a dataset before a trial sees it: the test part, chosen classes, a long tail, fewer examples, the split.

Every draw takes so many random examples of each class, by largest remainders where a share is not whole.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from trainables.config import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from trainables.sources import RawData

#: Share of the examples set aside for testing where a dataset has no test part of its own.
TEST_FRACTION = 0.2

# One stream of random numbers for each draw, so that one option does not change what another draws.
_TEST_STREAM, _IMBALANCE_STREAM, _SUBSET_STREAM, _TRIAL_IMBALANCE_STREAM = 1, 2, 3, 4
#: A class needs this many training examples: one to train on and one to validate on.
_MIN_PER_CLASS = 2
_MIN_CLASSES = 2


def stratified_split(
    labels: NDArray[np.int64], fraction: float, generator: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Sorted indices of the rest and of the ``fraction`` of the examples, rounded up, that is set aside.

    A class with two examples or more is in both parts; a single example is in the first.
    """
    counts = np.bincount(labels)
    # Less a hair, so that a sixth of 60,000 is not rounded up to 10,001.
    total = math.ceil(len(labels) * fraction - 1e-9)
    lowest, highest = np.minimum(counts // 2, 1), np.maximum(counts - 1, 0)
    aside = _draw(labels, _apportion(total, counts, lowest, highest), generator)
    remains = np.ones(len(labels), dtype=bool)
    remains[aside] = False
    return np.flatnonzero(remains), aside


def add_test_part(raw: RawData, seed: int) -> RawData:
    """Set a stratified part aside for testing, unless the dataset has one of its own."""
    if raw.test_images is not None:
        return raw
    train, test = stratified_split(raw.train_labels, TEST_FRACTION, np.random.default_rng([seed, _TEST_STREAM]))
    return replace(_training_part(raw, train), test_images=raw.train_images[test], test_labels=raw.train_labels[test])


def keep_classes(raw: RawData, classes: Sequence[int], name: str) -> RawData:
    """Keep some classes in both parts, relabelled 0, 1, … in the order given."""
    chosen, num_classes = list(classes), len(raw.class_names)
    shown = ", ".join(str(label) for label in chosen)
    if len(set(chosen)) != len(chosen) or len(chosen) < _MIN_CLASSES:
        raise InputError(f"`classes` must be two or more different classes; got {shown or 'none'}.")
    if not all(isinstance(label, int) and 0 <= label < num_classes for label in chosen):
        raise InputError(f"`classes` of {name!r} must be integers from 0 to {num_classes - 1}; got {shown}.")
    assert raw.test_images is not None
    assert raw.test_labels is not None
    new_labels = np.full(num_classes, -1, dtype=np.int64)
    new_labels[chosen] = np.arange(len(chosen))
    train, test = new_labels[raw.train_labels], new_labels[raw.test_labels]
    return replace(
        raw,
        train_images=raw.train_images[train >= 0],
        train_labels=train[train >= 0],
        class_names=tuple(raw.class_names[label] for label in chosen),
        test_images=raw.test_images[test >= 0],
        test_labels=test[test >= 0],
    )


def check_classes(raw: RawData, name: str) -> None:
    """Refuse data a classifier cannot be trained, validated and tested on.

    Raises:
        InputError: If there are fewer than two classes, a class has too few examples, or nothing is left to test on.
    """
    num_classes = len(raw.class_names)
    if num_classes < _MIN_CLASSES:
        raise InputError(f"The dataset {name!r} has {num_classes} class; a study needs two or more.")
    counts = np.bincount(raw.train_labels, minlength=num_classes)
    rarest = int(np.argmin(counts))
    if counts[rarest] < _MIN_PER_CLASS:
        raise InputError(
            f"The class {raw.class_names[rarest]!r} of {name!r} has too few training examples, {counts[rarest]}; every "
            f"class needs {_MIN_PER_CLASS}, and one more for testing where the dataset has no test part."
        )
    if raw.test_labels is None or len(raw.test_labels) == 0:
        raise InputError(f"The test part of {name!r} has no examples of the classes {', '.join(raw.class_names)}.")


def make_long_tailed(raw: RawData, imbalance: float, seed: int) -> RawData:
    """Thin the training part to a long tail that every later split shares, see :func:`long_tail`."""
    if not (math.isfinite(imbalance) and imbalance >= 1):
        raise InputError(f"`imbalance` must be a finite number >= 1; got {imbalance}.")
    generator = np.random.default_rng([seed, _IMBALANCE_STREAM])
    return _training_part(raw, long_tail(raw.train_labels, len(raw.class_names), imbalance, generator))


def thin_split(
    train_indices: NDArray[np.int64], labels: NDArray[np.int64], imbalance: float, seed: int
) -> NDArray[np.int64]:
    """A trial's training split thinned to a long tail, see :func:`long_tail`; an imbalance of 1 keeps all of it.

    Args:
        train_indices: The split, sorted.
        labels: Labels of all the examples, in which every class occurs.
        imbalance: Ratio of the commonest to the rarest class, >= 1.
        seed: Of the trial.
    """
    if imbalance == 1:
        return train_indices
    generator = np.random.default_rng([seed, _TRIAL_IMBALANCE_STREAM])
    return train_indices[long_tail(labels[train_indices], int(labels.max()) + 1, imbalance, generator)]


def long_tail(
    labels: NDArray[np.int64], num_classes: int, imbalance: float, generator: np.random.Generator
) -> NDArray[np.int64]:
    """Sorted indices of a long tail: class c of C keeps n_max · imbalance^(−c/(C−1)) examples, at least 2.

    n_max is the largest number that every class can follow; a class with fewer than 2 examples keeps what it has.

    References:
        Cui et al., Class-Balanced Loss Based on Effective Number of Samples, CVPR 2019, arXiv:1901.05555.
    """
    profile = imbalance ** (-np.arange(num_classes) / (num_classes - 1))
    counts = np.bincount(labels, minlength=num_classes)
    largest = math.floor(float((counts / profile).min()) + 1e-9)
    kept = np.maximum(np.rint(largest * profile).astype(np.int64), _MIN_PER_CLASS)
    return _draw(labels, kept, generator)


def cut_training_part(raw: RawData, train_size: int, seed: int) -> RawData:
    """Thin the training part to ``train_size`` examples, every class in its proportion but at least 2 of each."""
    available, least = len(raw.train_labels), _MIN_PER_CLASS * len(raw.class_names)
    if isinstance(train_size, bool) or not isinstance(train_size, int) or not least <= train_size <= available:
        raise InputError(
            f"`train_size` must be an integer from {least} ({_MIN_PER_CLASS} a class) to {available} (all there are); "
            f"got {train_size}."
        )
    counts = np.bincount(raw.train_labels)
    kept = _apportion(train_size, counts, np.full_like(counts, _MIN_PER_CLASS), counts)
    return _training_part(raw, _draw(raw.train_labels, kept, np.random.default_rng([seed, _SUBSET_STREAM])))


def _training_part(raw: RawData, indices: NDArray[np.int64]) -> RawData:
    return replace(raw, train_images=raw.train_images[indices], train_labels=raw.train_labels[indices])


def _apportion(
    total: int, counts: NDArray[np.int64], lowest: NDArray[np.int64], highest: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Examples per class: ``total`` in proportion to ``counts`` by largest remainders, within bounds per class."""
    total = min(max(total, int(lowest.sum())), int(highest.sum()))
    shares = total * counts / counts.sum()
    taken: NDArray[np.int64] = np.clip(np.floor(shares).astype(np.int64), lowest, highest)
    while (missing := total - int(taken.sum())) != 0:
        step = 1 if missing > 0 else -1
        free = taken < highest if step > 0 else taken > lowest
        taken[np.argmax(np.where(free, step * (shares - taken), -np.inf))] += step
    return taken


def _draw(
    labels: NDArray[np.int64], num_per_class: NDArray[np.int64], generator: np.random.Generator
) -> NDArray[np.int64]:
    """Sorted indices of so many random examples of each class."""
    order = generator.permutation(len(labels))
    drawn = [order[labels[order] == label][:count] for label, count in enumerate(num_per_class)]
    indices: NDArray[np.int64] = np.sort(np.concatenate(drawn))
    return indices
