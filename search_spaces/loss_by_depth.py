"""Report 004: losses, activations and a second hidden layer on MNIST, at a very small learning rate for long."""

from search_spaces.reported import Reported, ReportedArm, variant
from trainables.config import Scalar

BASE: dict[str, Scalar] = {
    "model": "mlp", "width": 128, "init_std": 0.01,
    "optimizer": "sgd", "optimizer.learning_rate": 1e-5, "optimizer.momentum": 0.9, "optimizer.weight_decay": 0.1,
    "batch_size": 100, "epochs": 200, "reduction": "sum",
}  # fmt: skip
ACTIVATIONS = ("selu", "silu", "gelu")
LOSSES: dict[str, dict[str, Scalar]] = {
    "mse": {"loss": "mse_logits", "loss.class_reduction": "sum"},
    "cross_entropy": {"loss": "cross_entropy"},
    "hinge": {"loss": "hinge", "loss.margin": 5.0},
    "focal": {"loss": "focal", "loss.gamma": 2.0},
}
LAYERS: dict[str, dict[str, Scalar]] = {
    "one": {"hidden_layers": 1},
    "two": {"hidden_layers": 2, "model.last_width": 32},
}

GRID = {
    f"{activation}-{loss}-{layers}": ReportedArm(
        f"{activation}-{loss}-{layers}", {**BASE, "activation": activation, **own, **shape}
    )
    for layers, shape in LAYERS.items()
    for activation in ACTIVATIONS
    for loss, own in LOSSES.items()
}


def gelu(loss: str) -> ReportedArm:
    """The arm that the variants start from: GELU, one hidden layer."""
    return GRID[f"gelu-{loss}-one"]


#: 1000 epochs at a larger rate; two layers with focal loss at one that is larger still.
LONG = (
    *(
        variant(gelu(loss), f"gelu-{loss}-one-1000_epochs", rate_of=f"gelu-{loss}-one", epochs=1000,
                optimizer__learning_rate=2e-5)
        for loss in LOSSES
    ),
    *(
        variant(GRID[f"{activation}-focal-two"], f"{activation}-focal-two-1000_epochs",
                rate_of=f"{activation}-focal-two", epochs=1000, optimizer__learning_rate=2e-4)
        for activation in ("gelu", "silu")
    ),
)  # fmt: skip
BIGGER = tuple(
    variant(gelu(loss), f"gelu-{loss}-one-512_units", width=512) for loss in ("mse", "cross_entropy", "focal")
)
IMBALANCED = tuple(
    variant(gelu(loss), f"gelu-{loss}-one-imbalance_100", imbalance=100.0) for loss in ("cross_entropy", "focal")
)
MSE_ON_PROBABILITIES = variant(gelu("mse"), "gelu-mse_probabilities-one", loss="mse")
WIDE_SECOND = variant(GRID["gelu-cross_entropy-two"], "gelu-cross_entropy-two-128_units", model__last_width=128)

STUDY = Reported(
    name="loss_by_depth",
    report="004",
    question="Which of loss, activation and depth decides how well a small network learns MNIST, and at what time?",
    factor="loss",
    dataset="mnist",
    arms=(*GRID.values(), *LONG, *BIGGER, *IMBALANCED, MSE_ON_PROBABILITIES, WIDE_SECOND),
    baseline="gelu-cross_entropy-one",
    assumptions=(
        (
            "Weights are drawn from N(0, 0.01^2), biases as PyTorch draws them, and focal gamma is 2, hinge's margin "
            "5: those of the report on activations; this one gives none."
        ),
        "Gradients are summed over the batch: at a learning rate of 1e-5 the usual mean does not train.",
        (
            "MSE compares raw outputs with the one-hot target and is summed over the classes: the reported train loss "
            "of .0960 at 97% accuracy fits that. MSE on probabilities is a variant of one arm."
        ),
        "Swish is SiLU (beta 1).",
        "The larger rate of the 1000-epoch runs with one hidden layer is 2e-5; the report's value is lost.",
        (
            "512 units, long-tailed data (imbalance 100) and a second layer of 128 units are added to test what the "
            "report concludes about model size, balance and time."
        ),
        "A sixth of the training images is the validation split.",
    ),
    diagnostics={
        "profile": tuple(f"{activation}-cross_entropy-one" for activation in ACTIVATIONS),
        "gelu_forms": ("gelu-cross_entropy-one",),
        "steps_to_fall": tuple(f"gelu-{loss}-{layers}" for loss in ("cross_entropy", "focal") for layers in LAYERS),
        "gradient_scale": tuple(f"gelu-{loss}-one" for loss in LOSSES),
    },
)
