"""``final.json`` of a confirm run whose truth is known: what :mod:`trainables.evaluation` leaves, without training."""

import numpy as np
import pandas as pd

from analysis.load import EPOCH_COLUMNS, StudyRecord
from trainables.corruptions import SEVERITIES, drop_area

NUM_BINS = 15
#: Bins that hold examples; they lie so that an over- or underconfidence of up to 0.16 stays within [0, 1].
FILLED = range(6, 13)


def final_record(
    accuracy: float,
    *,
    num_classes: int,
    num_test: int,
    drop: float = 0.2,
    overconfidence: float = 0.02,
    extra_errors: tuple = (),
    class_names: tuple = (),
) -> dict:
    """The whole of ``final.json``.

    Args:
        accuracy: On the clean test images, a fraction.
        num_classes: Number of classes.
        num_test: Number of test images.
        drop: Accuracy lost at the strongest severity of every corruption, a fraction; it grows in proportion.
        overconfidence: Confidence minus accuracy in every bin that holds examples.
        extra_errors: ``(true, predicted, count)``: so many more images of a class are taken for another.
        class_names: By default the numbers of the classes.
    """
    return {
        "confusion": confusion(accuracy, num_classes, num_test, extra_errors),
        "reliability": reliability(num_test, overconfidence),
        "corruptions": {
            name: {
                "severities": list(severities),
                "accuracy": [accuracy - drop * severity / severities[-1] for severity in severities],
            }
            for name, severities in SEVERITIES.items()
        },
        "class_names": list(class_names) or [str(label) for label in range(num_classes)],
    }


def confusion(accuracy: float, num_classes: int, num_test: int, extra_errors: tuple = ()) -> list[list[int]]:
    """Counts of about that accuracy; every class is taken for its neighbour, the first two classes the most."""
    per_class = num_test // num_classes
    counts = np.zeros((num_classes, num_classes), dtype=int)
    for label in range(num_classes):
        errors = round((1 - accuracy) * per_class)
        other = label ^ 1 if (label ^ 1) < num_classes else 0
        counts[label, label] = per_class - errors
        counts[label, other] = errors if label < 2 else errors // 2
        counts[label, (label + 3) % num_classes] += 0 if label < 2 else errors - errors // 2
    for true, predicted, count in extra_errors:
        counts[true, predicted] += count
        counts[true, true] -= count
    return counts.tolist()


def reliability(num_test: int, overconfidence: float) -> dict:
    """Bins whose expected calibration error is ``abs(overconfidence)``; an empty bin says 0, as on record."""
    edges = np.linspace(0, 1, NUM_BINS + 1)
    counts, confidence, accuracy = np.zeros(NUM_BINS, dtype=int), np.zeros(NUM_BINS), np.zeros(NUM_BINS)
    counts[list(FILLED)] = num_test // len(FILLED)
    counts[FILLED[-1]] += num_test - counts.sum()
    confidence[list(FILLED)] = (edges[:-1] + edges[1:])[list(FILLED)] / 2
    accuracy[list(FILLED)] = confidence[list(FILLED)] - overconfidence
    values = {"edges": edges, "counts": counts, "confidence": confidence, "accuracy": accuracy}
    return {key: value.tolist() for key, value in values.items()}


def corruption_area(drop: float) -> float:
    """``test_corruption_area`` of such a record: the mean over the Gaussian noise of a loss in proportion to it."""
    severities = SEVERITIES["gaussian_noise"]
    return drop_area(1.0, severities, [1 - drop * severity / severities[-1] for severity in severities])


def build_final_record(
    arms: dict, *, baseline: str = "base", num_classes: int = 10, num_test: int = 1000, **protocol
) -> StudyRecord:
    """A study of confirm runs alone, in memory.

    Args:
        arms: Arm → seed → what ``final_record`` is given, and where they are not to follow from it: ``diverged``,
            ``final``, ``stop_reason``, ``test_accuracy``.
        baseline: The arm to compare with.
        num_classes: Number of classes.
        num_test: Number of test images.
        protocol: Further keys of ``study.json``.
    """
    rows, finals = [], {}
    for arm, seeds in arms.items():
        for seed, given in seeds.items():
            run = {"accuracy": 0.8} | given
            asked = {key: run[key] for key in ("drop", "overconfidence", "extra_errors") if key in run}
            made = final_record(run["accuracy"], num_classes=num_classes, num_test=num_test, **asked)
            diverged = bool(run.get("diverged"))
            row = {"run_id": f"run-{len(rows)}", "arm": arm, "phase": "confirm", "regime": "search", "seed": int(seed)}
            row |= {"number": int(seed), "start": pd.Timestamp(len(rows), unit="s", tz="UTC"), "epochs_done": 3}
            row |= {"end": row["start"] + pd.Timedelta(seconds=1), "node": "here", "nodes": "", "node_seconds": ""}
            row |= {"stop_reason": run.get("stop_reason", "diverged" if diverged else "completed")}
            row |= {"diverged": float(diverged), "val_accuracy": 1 / num_classes if diverged else run["accuracy"]}
            row |= {"test_accuracy": 1 / num_classes if diverged else run.get("test_accuracy", run["accuracy"])}
            row |= {"test_corruption_area": np.nan if diverged else corruption_area(run.get("drop", 0.2))}
            rows.append(row)
            finals[row["run_id"]] = run.get("final", {} if diverged else made)
    dataset = {"name": "toy", "num_classes": num_classes, "num_test": num_test}
    described = [{"name": arm, "fixed": {}, "parameters": []} for arm in arms]
    return StudyRecord(
        name="toy",
        run_id="parent",
        experiment_id="1",
        tracking_uri="memory",
        tags={},
        protocol={"baseline": baseline, "arms": described, "dataset": dataset, "delta": 1.0} | protocol,
        trials=pd.DataFrame(rows).astype({"seed": "Int64", "number": "Int64"}),
        epochs=pd.DataFrame(columns=list(EPOCH_COLUMNS)),
        finals=finals,
    )
