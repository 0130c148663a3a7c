"""Four losses under two optimizers, every value fixed: the grid that the peers train (``bench/peers/task.py``)."""

from search_spaces.reported import Reported, ReportedArm
from trainables.config import Scalar

BASE: dict[str, Scalar] = {
    "model": "mlp", "hidden_layers": 1, "width": 128, "activation": "relu", "batch_size": 128, "epochs": 20,
    "reduction": "mean",
}  # fmt: skip
OPTIMIZERS: dict[str, dict[str, Scalar]] = {
    "sgd": {"optimizer": "sgd", "optimizer.learning_rate": 0.1, "optimizer.momentum": 0.9},
    "adam": {"optimizer": "adam", "optimizer.learning_rate": 1e-3},
}
LOSSES: dict[str, dict[str, Scalar]] = {
    "cross_entropy": {"loss": "cross_entropy"},
    "focal": {"loss": "focal", "loss.gamma": 2.0},
    "mse": {"loss": "mse"},
    "smooth_l1": {"loss": "smooth_l1"},
}

STUDY = Reported(
    name="grid",
    report="bench",
    question="What does a grid of eight trials take, beside what others' documentation has a user write?",
    factor="loss",
    dataset="fashion-mnist",
    arms=tuple(
        ReportedArm(f"{optimizer}-{loss}", {**BASE, **how, **own})
        for loss, own in LOSSES.items()
        for optimizer, how in OPTIMIZERS.items()
    ),
    baseline="sgd-cross_entropy",
    watch=(),
    trials=1,
    seeds=1,
)
