"""Report 001: L1, cross-entropy and focal loss by accuracy, precision, recall and F1."""

from search_spaces.reported import Reported, ReportedArm, variant
from trainables.config import Scalar

BASE: dict[str, Scalar] = {
    "model": "convnet", "width": 8, "activation": "relu", "batch_size": 128, "epochs": 40, "reduction": "mean",
    "optimizer": "sgd", "optimizer.learning_rate": 0.01, "optimizer.momentum": 0.9,
}  # fmt: skip
LOSSES: dict[str, dict[str, Scalar]] = {
    "l1": {"loss": "l1"},
    "l1_logits": {"loss": "l1_logits"},
    "cross_entropy": {"loss": "cross_entropy"},
    **{f"focal_{gamma:g}": {"loss": "focal", "loss.gamma": gamma} for gamma in (0.5, 1.0, 2.0, 3.0, 5.0)},
}
CLASSIFYING = ("cross_entropy", "focal_0.5", "focal_2")

GRID = {loss: ReportedArm(loss, {**BASE, **own}) for loss, own in LOSSES.items()}
LONG = tuple(variant(GRID[loss], f"{loss}-80_epochs", rate_of=loss, epochs=80) for loss in CLASSIFYING)
IMBALANCED = tuple(
    variant(GRID[loss], f"{loss}-imbalance_{ratio:g}", rate_of=loss, imbalance=ratio)
    for ratio in (10.0, 100.0)
    for loss in CLASSIFYING
)
ADAM = tuple(
    ReportedArm(
        f"adam-{loss}",
        {**{key: value for key, value in GRID[loss].fixed.items() if not key.startswith("optimizer")},
         "optimizer": "adam", "optimizer.learning_rate": 1e-3},
    )
    for loss in ("l1_logits", *CLASSIFYING)
)  # fmt: skip

STUDY = Reported(
    name="loss_metrics",
    report="001",
    question="Which of L1, cross-entropy and focal loss classifies best, by whichever metric?",
    factor="loss",
    dataset="cifar10",
    arms=(*GRID.values(), *LONG, *IMBALANCED, *ADAM),
    baseline="cross_entropy",
    assumptions=(
        "SGD at learning rate 0.01 with momentum 0.9, 40 epochs, batch 128; the report gives none of them.",
        "The data are CIFAR-10; the report says only that its ten classes are balanced.",
        "The small ConvNet has three 3 x 3 convolutions of 8, 16 and 32 channels; the report's is lost.",
        "L1 may act on the probabilities (l1) or on the raw outputs (l1_logits); both are run.",
        (
            "Gamma 1, 3 and 5, 80 epochs, long-tailed data and Adam are added to test what the report concludes or "
            "leaves open; gamma 0 is cross-entropy."
        ),
        "In the fair regime, 80 epochs and long-tailed data run at the rate tuned for 40 epochs and balanced data.",
        "A sixth of the training images is the validation split.",
    ),
)
