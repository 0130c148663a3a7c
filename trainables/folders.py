"""The reader of ``folder:DIR``: images by class, decoded once into a memory-mapped cache."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from trainables.config import InputError
from trainables.files import is_dir
from trainables.sources import RawData

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm"})

#: Written into the cache's index, so that a cache of another layout is decoded anew.
_CACHE_VERSION = 1
_CACHE_NAME = ".study-cache"
_GREYSCALE_MODES = frozenset({"1", "L", "LA"})
_MODES = _GREYSCALE_MODES | {"P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "HSV"}
#: Of a class: one to train on, one to validate on, one to test on.
_MIN_IMAGES = 3
#: Images decoded between two writes: enough to keep every core busy, few enough to stay small in memory.
_BATCH = 256


@dataclass(frozen=True)
class _Format:
    """What every image is converted to."""

    width: int
    height: int
    channels: int

    @property
    def mode(self) -> str:
        return "L" if self.channels == 1 else "RGB"


def cache_home() -> Path:
    """The project's folder in the user's cache: below ``$XDG_CACHE_HOME``, else ``~/.cache``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "training-choice-study"


def read_folder(directory: Path) -> RawData:
    """Images in ``DIR/<class>/``, or in ``DIR/train/<class>/`` and ``DIR/test/<class>/``.

    Classes are the folders' names in alphabetical order. All images take the most common size (others are stretched
    to it, without keeping their aspect) and are grey if every one of them is, else RGB; transparency is dropped. The
    decoded images are kept in ``DIR/.study-cache``, or in the user's cache where ``DIR`` cannot be written, and are
    decoded again when a file was added, removed or changed.

    Raises:
        InputError: If the folder is missing, holds no classes, a class holds no images, or a file is not an image.
    """
    # Not Path.resolve, which raises where links go round in a circle.
    directory = Path(os.path.realpath(directory))
    if not is_dir(directory):
        raise InputError(f"There is no folder {str(directory)!r}; folder:DIR needs a folder of images by class.")
    try:
        return _read(directory)
    except OSError as error:
        raise InputError(f"The folder {str(directory)!r} cannot be read: {error.strerror or error}.") from error


def _read(directory: Path) -> RawData:
    has_test_part = (directory / "train").is_dir() and (directory / "test").is_dir()
    train = _list_images(directory / "train" if has_test_part else directory)
    test = _list_images(directory / "test") if has_test_part else {}
    if unknown := sorted(set(test) - set(train)):
        raise InputError(f"The class {unknown[0]!r} is in {str(directory / 'test')!r} only; it must be in train too.")
    names = tuple(train)
    if len(names) == 1:  # said before anything is decoded and kept
        raise InputError(f"The folder {str(directory)!r} has 1 class; a study needs two or more.")
    least = _MIN_IMAGES - has_test_part
    for name, listed in train.items():
        if len(listed) < least:
            raise InputError(
                f"The class {name!r} of {str(directory)!r} has {len(listed)} training images; every class needs"
                f" {least}, where there is {'a' if has_test_part else 'no'} test part."
            )
    train_labels = np.repeat(np.arange(len(names)), [len(train[name]) for name in names])
    test_labels = np.repeat(np.arange(len(names)), [len(test.get(name, ())) for name in names])
    files = [file for part in (train, test) for name in names for file in part.get(name, ())]
    images = _open_cache(directory, files)
    num_train = len(train_labels)
    if not has_test_part:
        return RawData(images, train_labels, names)
    return RawData(images[:num_train], train_labels, names, images[num_train:], test_labels)


def _list_images(root: Path) -> dict[str, list[Path]]:
    """The image files of each class, both in alphabetical order."""
    folders = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not folders:
        raise InputError(f"{str(root)!r} holds no folders; folder:DIR needs one folder of images for each class.")
    listing = {folder.name: sorted(path for path in folder.iterdir() if _is_image(path)) for folder in folders}
    for name, files in listing.items():
        if not files:
            raise InputError(f"{str(root / name)!r} holds no images; known are {', '.join(sorted(SUFFIXES))}.")
    return listing


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()


def _open_cache(directory: Path, files: Sequence[Path]) -> NDArray[np.uint8]:
    """The decoded files, shape ``(N, C, H, W)``, memory-mapped; decoded now if the cache does not hold them."""
    states = [(str(file.relative_to(directory)), file.stat()) for file in files]
    index = json.dumps(
        {"version": _CACHE_VERSION, "files": [(name, state.st_size, state.st_mtime_ns) for name, state in states]}
    )
    key = hashlib.sha256(index.encode()).hexdigest()[:16]
    places = [
        directory / _CACHE_NAME,
        cache_home() / "folders" / hashlib.sha256(str(directory).encode()).hexdigest()[:16],
    ]
    for place in places:
        if (images := _map(place, key, index)) is not None:
            return images
    for place in places:
        try:
            place.mkdir(parents=True, exist_ok=True)
            scratch = tempfile.TemporaryDirectory(prefix=".decoding-", dir=place)
        except OSError as error:
            reason = error
            continue
        with _removed_if_empty(place), scratch as folder:
            _decode(files, Path(folder) / "images.npy")
            (Path(folder) / "index.json").write_text(index)
            # The index goes last: it is what makes the images valid.
            (Path(folder) / "images.npy").replace(place / f"{key}.npy")
            (Path(folder) / "index.json").replace(place / f"{key}.json")
        _remove_others(place, key)
        images = _map(place, key, index)
        assert images is not None, "the cache just written reads back"
        return images
    raise InputError(
        f"The decoded images can be kept neither in {str(places[0])!r} nor in {str(places[1])!r}: {reason}."
    )


@contextlib.contextmanager
def _removed_if_empty(place: Path) -> Iterator[None]:
    """Nothing stays in the user's folder where nothing was kept in it."""
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            place.rmdir()


def _map(place: Path, key: str, index: str) -> NDArray[np.uint8] | None:
    try:
        if (place / f"{key}.json").read_text() != index:
            return None
        # Copy on write: the file stays as it is, and torch does not warn about a read-only array.
        images: NDArray[np.uint8] = np.asarray(np.load(place / f"{key}.npy", mmap_mode="c"))
    except (OSError, ValueError):  # absent, or damaged: decode again
        return None
    return images


def _remove_others(place: Path, key: str) -> None:
    """Delete what earlier states of the folder left; a process that still maps one keeps its pages."""
    for path in place.iterdir():
        if path.suffix in {".npy", ".json"} and path.stem != key:
            path.unlink(missing_ok=True)


def _decode(files: Sequence[Path], target: Path) -> None:
    """Write all images as one npy file; by plain writes, since a full disk kills a process that fills a map."""
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool, target.open("wb") as stream:
        common = _common_format(list(pool.map(_probe, files)))
        shape = (len(files), common.channels, common.height, common.width)
        description = {"descr": np.dtype(np.uint8).str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(stream, description)
        for start in range(0, len(files), _BATCH):
            for pixels in pool.map(lambda file: _load(file, common), files[start : start + _BATCH]):
                stream.write(pixels.tobytes())


def _probe(file: Path) -> tuple[tuple[int, int], str]:
    """Size (width, height) and mode from the header alone."""
    from PIL import Image  # noqa: PLC0415  # only folders need it

    try:
        with Image.open(file) as image:
            size, mode = image.size, image.mode
    except Exception as error:  # each format's reader raises its own at a damaged file
        raise InputError(f"{str(file)!r} cannot be read as an image.") from error
    if mode not in _MODES:
        raise InputError(f"{str(file)!r} has the mode {mode}; images must have 8 bits a channel.")
    return size, mode


def _common_format(probes: Sequence[tuple[tuple[int, int], str]]) -> _Format:
    sizes = Counter(size for size, _ in probes)
    width, height = max(sizes, key=lambda size: (sizes[size], size))  # of equally common sizes, the largest
    grey = all(mode in _GREYSCALE_MODES for _, mode in probes)
    return _Format(width, height, 1 if grey else 3)


def _load(file: Path, common: _Format) -> NDArray[np.uint8]:
    """One image in the common format, shape ``(C, H, W)``."""
    from PIL import Image  # noqa: PLC0415  # only folders need it

    try:
        with Image.open(file) as image:
            converted = image.convert(common.mode)
            if converted.size != (common.width, common.height):
                converted = converted.resize((common.width, common.height), Image.Resampling.BILINEAR)
            pixels = np.asarray(converted, dtype=np.uint8)
    except Exception as error:  # each format's reader raises its own at a damaged file
        raise InputError(f"{str(file)!r} cannot be read as an image: it is damaged.") from error
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)  # noqa: PLR2004  # grey has no channel axis
