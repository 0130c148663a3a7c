"""Report 000: losses under SGD and under Adam for a small convolutional network, clean and under noise."""

from search_spaces.reported import Reported, ReportedArm, variant
from trainables.config import Scalar

BASE: dict[str, Scalar] = {
    "model": "convnet", "width": 8, "activation": "relu", "batch_size": 128, "epochs": 40, "reduction": "mean",
}  # fmt: skip
OPTIMIZERS: dict[str, dict[str, Scalar]] = {
    "sgd": {"optimizer": "sgd", "optimizer.learning_rate": 0.1, "optimizer.momentum": 0.9},
    "adam": {"optimizer": "adam", "optimizer.learning_rate": 1e-3},
}
LOSSES: dict[str, dict[str, Scalar]] = {
    "l1": {"loss": "l1"},
    "l1_logits": {"loss": "l1_logits"},
    "cross_entropy": {"loss": "cross_entropy"},
    "focal_0.5": {"loss": "focal", "loss.gamma": 0.5},
    "focal_2": {"loss": "focal", "loss.gamma": 2.0},
}

GRID = {
    f"{optimizer}-{loss}": ReportedArm(f"{optimizer}-{loss}", {**BASE, **how, **own})
    for optimizer, how in OPTIMIZERS.items()
    for loss, own in LOSSES.items()
}
#: Twice the epochs, and SGD's weights handed to Adam halfway through as many.
LONG = tuple(
    variant(GRID[f"{optimizer}-{loss}"], f"{optimizer}-{loss}-80_epochs", rate_of=f"{optimizer}-{loss}", epochs=80)
    for optimizer in OPTIMIZERS
    for loss in ("cross_entropy", "focal_0.5", "focal_2")
)
CONTINUED = tuple(
    variant(GRID[f"sgd-{loss}"], f"sgd_then_adam-{loss}", rate_of=f"sgd-{loss}", epochs=80, switch_epoch=40,
            second_optimizer="adam", second_optimizer__learning_rate=1e-3)
    for loss in ("cross_entropy", "focal_0.5", "focal_2")
)  # fmt: skip

STUDY = Reported(
    name="loss_by_optimizer",
    report="000",
    question="Do L1, cross-entropy and focal loss differ for a small ConvNet, under SGD, under Adam and under noise?",
    factor="loss",
    dataset="cifar10",
    arms=(*GRID.values(), *LONG, *CONTINUED),
    baseline="sgd-cross_entropy",
    watch=("test", "noise"),
    assumptions=(
        "SGD's momentum is 0.9; the report names it without a value.",
        "The data are CIFAR-10; the report names no data set.",
        "The small ConvNet has three 3 x 3 convolutions of 8, 16 and 32 channels; the report's is lost.",
        "L1 may act on the probabilities (l1) or on the raw outputs (l1_logits); both are run.",
        "Adam has PyTorch's defaults (learning rate 0.001).",
        (
            "80 epochs are added to test what the report concludes about more epochs; weights carried from SGD to Adam "
            "change hands after 40 of them."
        ),
        "In the fair regime, 80 epochs run at the rate tuned for 40, and Adam goes on at its default rate.",
        "A sixth of the training images is the validation split.",
    ),
    diagnostics={"gradient_scale": tuple(f"sgd-{loss}" for loss in LOSSES)},
)
