"""Datasets as resident arrays: the table of names, subsets of a dataset, and the stratified splits.

Images stay uint8 until a batch is drawn: an epoch over an indexed tensor takes a seventh of one through a
``Dataset`` and a ``DataLoader``.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from trainables.config import InputError, resolve
from trainables.folders import cache_home, read_folder
from trainables.sources import (
    DIGITS,
    FASHION,
    HIRAGANA,
    RawData,
    checked_images,
    checked_labels,
    checked_names,
    from_mapping,
    read_cifar,
    read_digits,
    read_idx_dataset,
    read_npz,
    read_svhn,
)
from trainables.subsets import (
    add_test_part,
    check_classes,
    cut_training_part,
    keep_classes,
    make_long_tailed,
    stratified_split,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

#: name -> reader(data_dir)
DATASETS: dict[str, Callable[[Path], RawData]] = {
    "digits": read_digits,
    "fashion-mnist": partial(read_idx_dataset, name="fashion-mnist", class_name="FashionMNIST", class_names=FASHION),
    "mnist": partial(read_idx_dataset, name="mnist", class_name="MNIST", class_names=DIGITS),
    "kmnist": partial(read_idx_dataset, name="kmnist", class_name="KMNIST", class_names=HIRAGANA),
    "cifar10": partial(read_cifar, name="cifar10", class_name="CIFAR10"),
    "cifar100": partial(read_cifar, name="cifar100", class_name="CIFAR100"),
    "svhn": read_svhn,
}

#: prefix -> (what follows its colon, reader(path))
LOCATIONS: dict[str, tuple[str, Callable[[Path], RawData]]] = {
    "npz": ("FILE", read_npz),
    "folder": ("DIR", read_folder),
}

#: Images counted at once.
_CHUNK = 4096


@dataclass(frozen=True, eq=False)
class Dataset:
    """A dataset as a trial sees it, before the split into training and validation.

    Args:
        name: As the user gave it.
        train_images: Shape ``(N, C, H, W)``, uint8.
        train_labels: Shape ``(N,)``, int64, from 0 to ``num_classes - 1``.
        test_images: Shape ``(M, C, H, W)``, uint8.
        test_labels: Shape ``(M,)``, int64.
        class_names: One per class.
        mean: Per channel, of the training images on [0, 1].
        std: Likewise; never 0 (a constant channel has 1).
    """

    name: str
    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.int64]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        _, channels, height, width = self.train_images.shape
        return channels, height, width

    @cached_property
    def sha256(self) -> str:
        """Digest of everything here that decides a trial's numbers; the names do not."""
        digest = hashlib.sha256(repr((self.num_classes, self.mean, self.std)).encode())
        for array in (self.train_images, self.train_labels, self.test_images, self.test_labels):
            digest.update(repr(array.shape).encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


def load_dataset(
    name: str,
    *,
    data_dir: str | Path | None = None,
    classes: Sequence[int] | None = None,
    train_size: int | None = None,
    imbalance: float | None = None,
    seed: int = 0,
) -> Dataset:
    """Read a dataset and cut it to what the study asks for.

    Args:
        name: A line of ``DATASETS``, ``npz:FILE``, ``folder:DIR``, or ``package.module:name`` of a function without
            arguments that returns a ``Dataset`` or a mapping with an npz file's keys.
        data_dir: Where datasets are looked for and downloaded to; the user's cache by default.
        classes: The classes to keep, relabelled 0, 1, … in this order, in the training and the test part.
        train_size: Examples the training part is cut to, every class in its proportion (at least 2 of each).
        imbalance: Size of the commonest class over that of the rarest in the training part, at least 1: class c of C
            keeps n_max · imbalance^(−c/(C−1)) examples, with the largest n_max the data allow and never fewer than 2.
            It comes before ``train_size``; the test part stays as it is.
        seed: Fixes what is drawn, and the test part (a stratified 20%) of a dataset that has none.

    Returns:
        The dataset; ``mean`` and ``std`` are those of the training part after every cut, or what the user's own
        ``Dataset`` says.

    Raises:
        InputError: If the name, an option or the data break a rule.

    References:
        Cui et al., CVPR 2019, arXiv:1901.05555 (the long-tailed profile).
    """
    raw = add_test_part(_read(name, data_dir), seed)
    if classes is not None:
        raw = keep_classes(raw, classes, name)
    check_classes(raw, name)
    if imbalance is not None:
        raw = make_long_tailed(raw, imbalance, seed)
    if train_size is not None:
        raw = cut_training_part(raw, train_size, seed)
    assert raw.test_images is not None
    assert raw.test_labels is not None
    mean, std = raw.normalisation or channel_statistics(raw.train_images)
    return Dataset(
        name, raw.train_images, raw.train_labels, raw.test_images, raw.test_labels, raw.class_names, mean, std
    )


def split_indices(
    labels: NDArray[np.int64], *, seed: int, fraction: float = 1 / 6
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Split examples into training and validation, every class in its proportion.

    Args:
        labels: Shape ``(N,)``.
        seed: Fixes the draw.
        fraction: Share of the validation part, rounded up to whole examples.

    Returns:
        Indices of the training part and of the validation part, each sorted, int64. A class with two examples or
        more is in both; a single example is trained on.

    Raises:
        ValueError: If ``fraction`` is outside (0, 1).
    """
    if not 0 < fraction < 1:
        raise ValueError(f"`fraction` must lie in (0, 1); got {fraction}.")
    return stratified_split(labels, fraction, np.random.default_rng(seed))


def channel_statistics(images: NDArray[np.uint8]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel on [0, 1], exact: from the histogram of the 256 values.

    Args:
        images: Shape ``(N, C, H, W)``.

    Returns:
        The means and the standard deviations; 1 instead of 0 for a constant channel.
    """
    values = np.arange(256) / 255
    means, deviations = [], []
    for channel in range(images.shape[1]):
        histogram = np.zeros(256, dtype=np.int64)
        # In pieces, because bincount works on a copy eight times the size.
        for start in range(0, len(images), _CHUNK):
            histogram += np.bincount(images[start : start + _CHUNK, channel].ravel(), minlength=256)
        share = histogram / histogram.sum()
        mean = float(share @ values)
        constant = np.count_nonzero(histogram) == 1
        means.append(mean)
        deviations.append(1.0 if constant else math.sqrt(float(share @ (values - mean) ** 2)))
    return tuple(means), tuple(deviations)


def _read(name: str, data_dir: str | Path | None) -> RawData:
    prefix, colon, location = name.partition(":")
    if colon and prefix in LOCATIONS:
        placeholder, read_location = LOCATIONS[prefix]
        if not location:
            raise InputError(f"The dataset {name!r} names no path; write {prefix}:{placeholder}.")
        return read_location(_expanded(location))
    known = {**DATASETS, **{f"{key}:{placeholder}": read for key, (placeholder, read) in LOCATIONS.items()}}
    reader = resolve("dataset", name, known)
    if name in DATASETS:
        directory = _expanded(data_dir) if data_dir is not None else cache_home() / "datasets"
        return DATASETS[name](directory)
    return _read_own(name, reader)


def _expanded(path: str | Path) -> Path:
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise InputError(f"{str(path)!r} begins with the home of a user who is not known.") from error


def _read_own(name: str, function: Callable[[], Dataset | Mapping[str, object]]) -> RawData:
    """What the user's own function returns, checked like a file."""
    try:
        returned = function()
    except (Exception, SystemExit) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"The dataset {name!r} raised {type(error).__name__}: {reason}") from error
    if isinstance(returned, Dataset):
        return _raw(returned)
    if isinstance(returned, Mapping):
        return from_mapping(returned, repr(name))
    raise InputError(f"The dataset {name!r} returned {type(returned).__name__}; it must return a Dataset or a mapping.")


def _raw(dataset: Dataset) -> RawData:
    names = checked_names(dataset.class_names, repr(dataset.name))
    train_images, train_labels = _checked_part(dataset, "train", len(names))
    test_images, test_labels = _checked_part(dataset, "test", len(names))
    num_channels = train_images.shape[1]
    if test_images.shape[1:] != train_images.shape[1:]:
        raise InputError(
            f"The test_images of {dataset.name!r} are {test_images.shape[1:]} (C, H, W); they must be "
            f"{train_images.shape[1:]} as its train_images are."
        )
    normalisation = _numbers(dataset.mean), _numbers(dataset.std)
    if not all(len(numbers) == num_channels for numbers in normalisation) or min(normalisation[1]) <= 0:
        raise InputError(
            f"`mean` {dataset.mean} and `std` {dataset.std} of {dataset.name!r} must have one value for each of its "
            f"{num_channels} channels, and `std` must be > 0."
        )
    return RawData(train_images, train_labels, names, test_images, test_labels, normalisation)


def _numbers(values: object) -> tuple[float, ...]:
    """Finite numbers; none if that is not what is given."""
    try:
        numbers = tuple(float(value) for value in values)  # type: ignore[attr-defined]
    except (TypeError, ValueError, OverflowError):
        return ()
    return numbers if all(map(math.isfinite, numbers)) else ()


def _checked_part(dataset: Dataset, part: str, num_classes: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    images = np.asarray(getattr(dataset, f"{part}_images"))
    if images.ndim != 4:  # noqa: PLR2004
        raise InputError(
            f"The {part}_images of {dataset.name!r} have the shape {images.shape}; a Dataset's images are N×C×H×W."
        )
    checked = checked_images(images.transpose(0, 2, 3, 1), f"The {part}_images of {dataset.name!r}")
    labels = getattr(dataset, f"{part}_labels")
    origin = f"The {part}_labels of {dataset.name!r}"
    return checked, checked_labels(labels, len(checked), num_classes, origin)
