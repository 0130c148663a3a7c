"""The command ``python -m study.predict``: a study's registered winner on images of the user's own."""

from __future__ import annotations

import argparse
import csv
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.command import OneLineParser, check_text, leave, refusal
from analysis.plain import plain
from trainables.config import InputError
from trainables.files import is_file

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from study.registry import StoredModel

DESCRIPTION = """\
Predicts the classes of images with the model that a study registered in MLflow.

The model is the one with the highest validation accuracy among the retrained winners of the study's arms;
--arm takes that of one arm instead. It normalises the images itself: give raw pixels, as in training.
"""
EPILOG = """\
the input, an npz file:
  images        uint8, N×H×W or N×H×W×C, of the size and channels that the study was trained on
  labels        optional, integers, shape N: 0, 1, … in the order of the model's classes; the accuracy is printed
  class_names   optional; where given beside labels they must be the model's

the output, one row per image: index, predicted (the class's name), probability, and probability_<class> for each class

examples:
  python -m study.predict --study full-digits-20250101-120000 --input new.npz
  python -m study.predict --study my-study --arm focal --input new.npz --output predictions.csv

environment, below the flag: MLFLOW_TRACKING_URI
exit codes: 0 done, 2 bad input (one line says what), 130 interrupted
"""
BATCH_SIZE = 1024
#: Lines of the summary's table at most; the CSV has every class.
MAX_LINES = 20


@dataclass(frozen=True, eq=False)
class Images:
    """What the input file holds.

    Args:
        pixels: Shape ``(N, C, H, W)``, uint8.
        labels: As in the file, not yet checked, or None.
        class_names: Likewise.
    """

    pixels: NDArray[np.uint8]
    labels: NDArray[Any] | None
    class_names: tuple[str, ...] | None


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = OneLineParser(
        prog="python -m study.predict",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--study", required=True, metavar="NAME", help="the study's name, also that of its model")
    parser.add_argument("--input", required=True, type=Path, metavar="FILE.npz", help="the images; see below")
    parser.add_argument("--arm", metavar="ARM", help="the best model of this arm (default: of all arms)")
    parser.add_argument("--output", type=Path, metavar="FILE.csv", help="where the predictions go (default: a summary)")
    parser.add_argument(
        "--tracking-uri",
        metavar="URI",
        help="the MLflow record (default: MLFLOW_TRACKING_URI, else mlflow.db in the working directory)",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    given = sys.argv[1:] if argv is None else list(argv)
    try:
        check_text(given)
        return _run(build_parser().parse_args(given))
    except InputError as error:
        print(f"study.predict: {refusal(error)}", file=sys.stderr)  # noqa: T201 - the message
        return 2
    except KeyboardInterrupt:
        print("study.predict: interrupted.", file=sys.stderr)  # noqa: T201
        return 130


def _run(flags: argparse.Namespace) -> int:
    if flags.output is not None:
        check_output(flags.output)
    images = read_images(flags.input)
    from analysis.address import resolve_tracking_uri  # noqa: PLC0415
    from analysis.store import check_store  # noqa: PLC0415 - MLflow, after what fails at once

    tracking_uri = resolve_tracking_uri(flags.tracking_uri)
    check_store(tracking_uri)
    from study.registry import load_stored_model  # noqa: PLC0415 - torch

    model = load_stored_model(flags.study, arm=flags.arm, tracking_uri=tracking_uri)
    labels = check_fit(images, model, flags.input)
    probabilities = predict_probabilities(model, images.pixels)
    if flags.output is not None:
        write_predictions(flags.output, probabilities, model.class_names)
    for line in summary_lines(model, probabilities, labels):
        print(plain(line))  # noqa: T201 - the answer
    if flags.output is not None:
        print(plain(f"Predictions: {flags.output}"))  # noqa: T201
    return 0


def check_output(file: Path) -> None:
    """See that the predictions can be written, before anything is computed.

    Raises:
        InputError: If they cannot.
    """
    try:
        is_folder = file.is_dir()
    except OSError as error:
        raise InputError(f"`--output` {str(file)!r} cannot be a file: {error.strerror}.") from error
    if is_folder:
        raise InputError(f"`--output` {str(file)!r} is a folder; it must be a file.")
    if not file.parent.is_dir():
        raise InputError(f"`--output` {str(file)!r} lies in a folder that does not exist.")
    if not os.access(file.parent, os.W_OK):
        raise InputError(f"`--output` {str(file)!r} lies in a folder that cannot be written.")


def read_images(file: Path) -> Images:
    """Read an npz file; nothing in it is unpickled.

    Raises:
        InputError: If it is missing, is not an npz file, or its images break a rule.
    """
    from trainables.sources import checked_images, checked_names  # noqa: PLC0415 - NumPy, after the flags

    if not is_file(file):
        raise InputError(f"There is no file {str(file)!r}; `--input` needs an npz file with images.")
    arrays = _read_arrays(file)
    if "images" not in arrays:
        found = ", ".join(sorted(arrays)) or "none"
        raise InputError(f"{str(file)!r} has no array 'images'; found {found}.")
    names = arrays.get("class_names")
    return Images(
        checked_images(arrays["images"], f"The images of {str(file)!r}"),
        arrays.get("labels"),
        None if names is None else checked_names(names, repr(str(file))),
    )


def _read_arrays(file: Path) -> Mapping[str, NDArray[Any]]:
    import numpy as np  # noqa: PLC0415
    from numpy.lib.npyio import NpzFile  # noqa: PLC0415

    try:
        # Opened here, because np.load leaves a file it cannot read open.
        with file.open("rb") as stream:
            archive = np.load(stream, allow_pickle=False)
            if isinstance(archive, NpzFile):
                wanted = ("images", "labels", "class_names")
                return {key: archive[key] if key in wanted else np.empty(0) for key in archive.files}
    except Exception as error:  # the archive, its compression, the header and the memory each raise their own
        reason = " ".join(str(error).split()).rstrip(".")
        raise InputError(f"{str(file)!r} cannot be read as an npz file of plain arrays: {reason}.") from error
    raise InputError(f"{str(file)!r} holds one bare array; `--input` needs an npz file with images.")


def check_fit(images: Images, model: StoredModel, file: Path) -> NDArray[np.int64] | None:
    """See that the file's images and labels are of the model's kind.

    Returns:
        The labels, or None if the file has none.

    Raises:
        InputError: If the sizes, the channels, the labels or the class names differ.
    """
    from trainables.sources import checked_labels  # noqa: PLC0415

    shape = images.pixels.shape[1:]
    if shape != model.input_shape:
        raise InputError(
            f"The images of {str(file)!r} are {shape} (channels, height, width); the model of the study "
            f"{model.study!r} takes {model.input_shape}."
        )
    if images.labels is None:
        return None
    if images.class_names is not None and images.class_names != model.class_names:
        raise InputError(
            f"The class_names of {str(file)!r} are {_listed(images.class_names)}; beside labels they must be the "
            f"model's: {_listed(model.class_names)}."
        )
    return checked_labels(images.labels, len(images.pixels), len(model.class_names), f"The labels of {str(file)!r}")


def predict_probabilities(model: StoredModel, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Class probabilities, shape ``(N, num_classes)``, of raw images ``(N, C, H, W)``, in batches."""
    import numpy as np  # noqa: PLC0415
    import torch  # noqa: PLC0415

    parts = []
    with torch.inference_mode():
        for start in range(0, len(pixels), BATCH_SIZE):
            batch = torch.from_numpy(pixels[start : start + BATCH_SIZE].astype(np.float32))
            parts.append(model.module(batch).softmax(dim=1).numpy())
    return np.concatenate(parts)


def write_predictions(file: Path, probabilities: NDArray[np.float32], class_names: Sequence[str]) -> None:
    """Write one row per image, whole or not at all.

    Args:
        file: Replaced if it is there.
        probabilities: Shape ``(N, num_classes)``.
        class_names: One per column.

    Raises:
        InputError: If the file cannot be written.
    """
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        with temporary.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(["index", "predicted", "probability", *(f"probability_{name}" for name in class_names)])
            for index, row in enumerate(probabilities):
                best = int(row.argmax())
                writer.writerow([index, class_names[best], f"{row[best]:.6g}", *(f"{value:.6g}" for value in row)])
        temporary.replace(file)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise InputError(f"`--output` {str(file)!r} cannot be written: {error.strerror}.") from error


def summary_lines(
    model: StoredModel, probabilities: NDArray[np.float32], labels: NDArray[np.int64] | None
) -> list[str]:
    """The model, how many images went to each class, and the accuracy where there are labels."""
    import numpy as np  # noqa: PLC0415

    predicted = probabilities.argmax(axis=1)
    counts = np.bincount(predicted, minlength=len(model.class_names))
    confidence = probabilities.max(axis=1)
    shown = [int(index) for index in np.argsort(-counts, kind="stable") if counts[index]]
    width = max(len("class"), *(len(model.class_names[index]) for index in shown))
    lines = [
        f"Model: study {model.study}, arm {model.arm}, seed {model.seed}",
        f"{'class':<{width}}  images  mean probability",
    ]
    for index in shown[:MAX_LINES]:
        mean = confidence[predicted == index].mean()
        lines.append(f"{model.class_names[index]:<{width}}  {counts[index]:>6}  {mean:>16.3f}")
    if len(shown) > MAX_LINES:
        lines.append(f"and {len(shown) - MAX_LINES} more classes")
    if labels is not None:
        correct = int((predicted == labels).sum())
        lines.append(f"Accuracy: {100 * correct / len(labels):.2f}% ({correct} of {len(labels)})")
    return lines


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - MAX_LINES} more" if len(names) > MAX_LINES else ""
    return ", ".join(names[:MAX_LINES]) + more


if __name__ == "__main__":
    leave(main())
