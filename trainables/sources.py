"""Readers of the datasets: each returns the arrays as they lie on disk, checked, before any subset or split.

Only numpy is imported with the module: the driver loads digits without waiting for torch.
"""

from __future__ import annotations

import contextlib
import gzip
import math
import tempfile
import zlib
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np
from numpy.lib.npyio import NpzFile

from trainables.config import InputError
from trainables.files import is_file

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

#: Where Debian's package dataset-fashion-mnist puts the four files.
DEBIAN_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
DIGITS = tuple("0123456789")
FASHION = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
HIRAGANA = ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")

_IDX_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
_IDX_UINT8 = 8
_IDX_MAX_DIMENSIONS = 4
_MAX_CHANNELS = 4
#: What torchvision raises where a download fails: the network, the mirror, the disk, a checksum, an archive.
_DOWNLOAD_ERRORS = (OSError, RuntimeError, HTTPException, EOFError, zlib.error, BadZipFile)


@dataclass(frozen=True, eq=False)
class RawData:
    """A dataset as its reader found it.

    Args:
        train_images: Shape ``(N, C, H, W)``, uint8. All images where there is no test part.
        train_labels: Shape ``(N,)``, int64.
        class_names: One name per class.
        test_images: The dataset's own test part, or None.
        test_labels: Its labels, or None.
        normalisation: Per-channel mean and standard deviation the source insists on, or None to measure them.
    """

    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    test_images: NDArray[np.uint8] | None = None
    test_labels: NDArray[np.int64] | None = None
    normalisation: tuple[tuple[float, ...], tuple[float, ...]] | None = None


def checked_images(value: Any, origin: str) -> NDArray[np.uint8]:
    """Images N×H×W or N×H×W×C as an array of shape ``(N, C, H, W)``.

    Raises:
        InputError: If they are not uint8, have another shape, or there are none.
    """
    images = _array(value, origin)
    if images.dtype != np.uint8:
        raise InputError(f"{origin} have the dtype {images.dtype}; images must be uint8, 0 to 255.")
    if images.ndim not in (3, 4) or 0 in images.shape or (images.ndim == 4 and images.shape[3] > _MAX_CHANNELS):  # noqa: PLR2004
        raise InputError(
            f"{origin} have the shape {images.shape}; images must be N×H×W or N×H×W×C "
            f"with 1 to {_MAX_CHANNELS} channels."
        )
    if images.ndim == 3:  # noqa: PLR2004
        return images[:, None]
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2))


def checked_labels(value: Any, num_images: int, num_classes: int | None, origin: str) -> NDArray[np.int64]:
    """Labels as int64, one per image and in range.

    Args:
        value: What the source holds.
        num_images: How many labels there must be.
        num_classes: The classes there are; None takes as many as the labels show, which must then have no gap.
        origin: What to call the labels in a message.

    Raises:
        InputError: If a rule is broken.
    """
    labels = _array(value, origin)
    if labels.dtype.kind not in "iu":
        raise InputError(f"{origin} have the dtype {labels.dtype}; labels must be integers.")
    if labels.shape != (num_images,):
        raise InputError(f"{origin} have the shape {labels.shape}; one per image would be ({num_images},).")
    lowest, highest = int(labels.min()), int(labels.max())
    if num_classes is not None and (lowest < 0 or highest >= num_classes):
        raise InputError(
            f"{origin} contain {lowest if lowest < 0 else highest}; labels must lie in 0 to {num_classes - 1}."
        )
    if num_classes is None and (lowest < 0 or highest >= np.unique(labels).size):
        raise InputError(
            f"{origin} run from {lowest} to {highest} with {np.unique(labels).size} different values; "
            "they must run from 0 without a gap."
        )
    return labels.astype(np.int64)


def from_mapping(arrays: Mapping[str, Any], origin: str) -> RawData:
    """Arrays under the keys of an npz file, checked.

    Args:
        arrays: ``images`` and ``labels``; ``test_images`` with ``test_labels``, and ``class_names``, may be absent.
        origin: What to call the source in a message.

    Raises:
        InputError: If a key is missing or an array breaks its rule.
    """
    for key in ("images", "labels"):
        if key not in arrays:
            found = ", ".join(sorted(map(str, arrays))) or "none"
            raise InputError(f"{origin} has no array {key!r}; it needs images and labels, found {found}.")
    if ("test_images" in arrays) != ("test_labels" in arrays):
        present = "test_images" if "test_images" in arrays else "test_labels"
        raise InputError(f"{origin} has {present} alone; test_images and test_labels come together.")
    names = checked_names(arrays["class_names"], origin) if "class_names" in arrays else None
    images = checked_images(arrays["images"], f"The images of {origin}")
    labels = checked_labels(
        arrays["labels"], len(images), None if names is None else len(names), f"The labels of {origin}"
    )
    if names is None:
        names = tuple(str(label) for label in range(int(labels.max()) + 1))
    if "test_images" not in arrays:
        return RawData(images, labels, names)
    test_images = checked_images(arrays["test_images"], f"The test_images of {origin}")
    if test_images.shape[1:] != images.shape[1:]:
        raise InputError(
            f"The test_images of {origin} are {test_images.shape[1:]} (C, H, W); they must be "
            f"{images.shape[1:]} as its images are."
        )
    test_labels = checked_labels(arrays["test_labels"], len(test_images), len(names), f"The test_labels of {origin}")
    return RawData(images, labels, names, test_images, test_labels)


def read_npz(file: Path) -> RawData:
    """An npz file with ``images`` and ``labels`` (see ``from_mapping``); nothing in it is unpickled.

    Raises:
        InputError: If it is missing, is not an npz file, or an array breaks its rule.
    """
    if not is_file(file):
        raise InputError(f"There is no file {str(file)!r}; npz:FILE needs an existing npz file.")
    arrays: dict[str, Any] = {}
    try:
        # Opened here, because np.load leaves a file it cannot read open.
        with file.open("rb") as stream:
            archive = np.load(stream, allow_pickle=False)
            if isinstance(archive, NpzFile):
                arrays = {key: archive[key] for key in archive.files}
    except Exception as error:  # the archive, its compression, the header and the memory each raise their own
        raise InputError(f"{str(file)!r} cannot be read as an npz file of plain arrays: {_line(error)}.") from error
    if not isinstance(archive, NpzFile):
        raise InputError(f"{str(file)!r} holds one bare array; npz:FILE needs an npz file with images and labels.")
    return from_mapping(arrays, repr(str(file)))


def read_digits(data_dir: Path) -> RawData:  # noqa: ARG001  # the embedded dataset needs no folder
    """scikit-learn's 1,797 handwritten digits, 8×8, their 17 grey levels stretched to 0..255."""
    from sklearn.datasets import load_digits  # noqa: PLC0415  # a second of import, for this dataset only

    digits = load_digits()
    levels = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    return RawData(levels[:, None], digits.target.astype(np.int64), DIGITS)


def read_idx_dataset(data_dir: Path, *, name: str, class_name: str, class_names: tuple[str, ...]) -> RawData:
    """MNIST or a dataset laid out like it: four idx files, plain or gzipped.

    They are looked for in ``data_dir`` as torchvision lays them out, in a folder called ``name``, in ``data_dir``
    itself, and for Fashion-MNIST where Debian puts them; else torchvision downloads them.

    Raises:
        InputError: If they can neither be found nor downloaded, or are damaged.
    """
    downloaded = data_dir / class_name / "raw"
    places = [downloaded, data_dir / name, data_dir]
    if name == "fashion-mnist":
        places.append(DEBIAN_FASHION_MNIST)
    files = _find_idx_files(places)
    if files is None:
        _download(name, class_name, [{"train": True}], data_dir)
        files = _find_idx_files([downloaded])
    assert files is not None, "torchvision reported a download that left no files"
    train_images, train_labels, test_images, test_labels = (read_idx(file) for file in files)
    arrays = {"images": train_images, "labels": train_labels, "class_names": class_names}
    return from_mapping(
        {**arrays, "test_images": test_images, "test_labels": test_labels}, f"{name} in {files[0].parent}"
    )


def read_idx(file: Path) -> NDArray[np.uint8]:
    """One idx file, gzipped if its name ends in ``.gz``.

    Raises:
        InputError: If it is damaged, cut short, or does not hold unsigned bytes.

    References:
        LeCun, Cortes & Burges, "The MNIST database", the section on the IDX format.
    """
    try:
        content = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{str(file)!r} cannot be read: {_line(error)}.") from error
    header = 4 + 4 * content[3] if len(content) > 3 else 4  # noqa: PLR2004  # two zeros, the type, the dimensions
    if len(content) < header or content[:2] != b"\0\0" or content[2] != _IDX_UINT8 or content[3] > _IDX_MAX_DIMENSIONS:
        raise InputError(f"{str(file)!r} is not an idx file of unsigned bytes.")
    shape = tuple(int(size) for size in np.frombuffer(content, ">u4", count=content[3], offset=4))
    if len(content) - header != math.prod(shape):
        raise InputError(f"{str(file)!r} holds {len(content) - header} values; its header says {math.prod(shape)}.")
    # A copy, since arrays over bytes are read-only and torch warns about those.
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape).copy()


def read_cifar(data_dir: Path, *, name: str, class_name: str) -> RawData:
    """CIFAR-10 or CIFAR-100 through torchvision, downloaded to ``data_dir`` if it is not there."""
    train, test = _open_torchvision(name, class_name, [{"train": True}, {"train": False}], data_dir)
    arrays = {"images": train.data, "labels": train.targets, "class_names": train.classes}
    return from_mapping({**arrays, "test_images": test.data, "test_labels": test.targets}, name)


def read_svhn(data_dir: Path) -> RawData:
    """Street View House Numbers through torchvision, downloaded to ``data_dir`` if it is not there."""
    train, test = _open_torchvision("svhn", "SVHN", [{"split": "train"}, {"split": "test"}], data_dir)
    # torchvision has already put the channels first and the digit 0, stored as 10, back to 0.
    return RawData(train.data, train.labels.astype(np.int64), DIGITS, test.data, test.labels.astype(np.int64))


def checked_names(value: Any, origin: str) -> tuple[str, ...]:
    """Names of classes, which differ and are text that can be written down.

    Raises:
        InputError: If a rule is broken.
    """
    names = _array(value, f"The class_names of {origin}")
    if names.ndim != 1 or names.size == 0 or names.dtype.kind not in "US":
        raise InputError(
            f"The class_names of {origin} are {names.dtype} of shape {names.shape}; they must be a list of strings."
        )
    try:
        decoded = tuple(name.decode() if isinstance(name, bytes) else str(name) for name in names.tolist())
        "".join(decoded).encode()
    except (ValueError, SystemError) as error:  # NumPy hands Python characters that there are none of
        raise InputError(f"The class_names of {origin} are not text: {_line(error)}.") from error
    if len(set(decoded)) != len(decoded):
        raise InputError(f"The class_names of {origin} are {', '.join(decoded)}; they must differ.")
    return decoded


def _array(value: Any, origin: str) -> NDArray[Any]:
    try:
        return np.asarray(value)
    except Exception as error:  # a user's own object may raise anything
        raise InputError(f"{origin} are no array: {_line(error)}.") from error


def _find_idx_files(places: Sequence[Path]) -> list[Path] | None:
    for place in places:
        files = [_plain_or_gzipped(place / name) for name in _IDX_FILES]
        found = [file for file in files if file is not None]
        if len(found) == len(files):
            return found
    return None


def _plain_or_gzipped(file: Path) -> Path | None:
    return next((path for path in (file, file.with_name(f"{file.name}.gz")) if is_file(path)), None)


def _open_torchvision(name: str, class_name: str, parts: Sequence[Mapping[str, Any]], data_dir: Path) -> list[Any]:
    try:
        from torchvision import datasets  # noqa: PLC0415  # imports torch: seconds the other datasets do not need

        build = getattr(datasets, class_name)
        return [build(root=data_dir, download=False, **part) for part in parts]
    except (RuntimeError, ImportError):  # missing or damaged files; a torchvision that does not fit torch
        _download(name, class_name, parts, data_dir)
        return [build(root=data_dir, download=False, **part) for part in parts]


def _download(name: str, class_name: str, parts: Sequence[Mapping[str, Any]], data_dir: Path) -> None:
    """Download into a scratch folder, then move: what is cut short leaves nothing that looks like the dataset."""
    made: list[Path] = []
    try:
        from torchvision import datasets  # noqa: PLC0415  # see above

        made = [folder for folder in (data_dir, *data_dir.parents) if not folder.exists()]
        data_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".download-", dir=data_dir) as scratch:
            for part in parts:
                getattr(datasets, class_name)(root=scratch, download=True, **part)
            for file in sorted(path for path in Path(scratch).rglob("*") if path.is_file()):
                target = data_dir / file.relative_to(scratch)
                target.parent.mkdir(parents=True, exist_ok=True)
                file.replace(target)
    except (*_DOWNLOAD_ERRORS, ImportError) as error:
        for folder in made:
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise InputError(
            f"The dataset {name!r} is not in {str(data_dir)!r} and could not be downloaded ({_line(error)}); "
            "name the folder that holds its files with --data-dir."
        ) from error


def _line(error: BaseException) -> str:
    """The error on one line, without its full stop."""
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
