"""Report 003: does the loss matter for a small network on MNIST, and does the activation change that?"""

from search_spaces.reported import Reported, ReportedArm, variant
from trainables.config import Scalar

BASE: dict[str, Scalar] = {
    "model": "mlp", "hidden_layers": 1, "width": 128, "init_std": 0.01,
    "optimizer": "sgd", "optimizer.learning_rate": 1e-4, "optimizer.momentum": 0.9, "optimizer.weight_decay": 1e-5,
    "batch_size": 100, "epochs": 10, "reduction": "sum",
}  # fmt: skip
ACTIVATIONS = ("tanh", "selu", "hardswish")
LOSSES: dict[str, dict[str, Scalar]] = {
    "hinge": {"loss": "hinge", "loss.margin": 5.0},
    "kl_div": {"loss": "kl_div"},
    "cross_entropy": {"loss": "cross_entropy"},
    "focal": {"loss": "focal", "loss.gamma": 2.0},
}

GRID = {
    f"{activation}-{loss}": ReportedArm(f"{activation}-{loss}", {**BASE, "activation": activation, **own})
    for activation in ACTIVATIONS
    for loss, own in LOSSES.items()
}
FOCAL, HINGE, CROSS_ENTROPY = (GRID[f"tanh-{loss}"] for loss in ("focal", "hinge", "cross_entropy"))

#: Focal loss and tanh with a larger learning rate, more epochs, both, and a second layer.
FOCAL_VARIANTS = (
    variant(FOCAL, "tanh-focal-rate_1e-3", in_fair=False, optimizer__learning_rate=1e-3),
    variant(FOCAL, "tanh-focal-rate_1e-2", in_fair=False, optimizer__learning_rate=1e-2),
    variant(FOCAL, "tanh-focal-50_epochs-rate_1e-3", in_fair=False, epochs=50, optimizer__learning_rate=1e-3),
    variant(FOCAL, "tanh-focal-50_epochs-rate_1e-2", in_fair=False, epochs=50, optimizer__learning_rate=1e-2),
    variant(FOCAL, "tanh-focal-two_layers", hidden_layers=2, model__last_width=32),
)
#: All losses with tanh for 50 epochs, at their first learning rate and, as a variant, all at focal's.
LONG = tuple(variant(GRID[f"tanh-{loss}"], f"tanh-{loss}-50_epochs", epochs=50) for loss in LOSSES)
LONG_FAST = tuple(
    variant(
        GRID[f"tanh-{loss}"],
        f"tanh-{loss}-50_epochs-rate_1e-2",
        in_fair=False,
        epochs=50,
        optimizer__learning_rate=1e-2,
    )
    for loss in ("hinge", "kl_div", "cross_entropy")
)
#: Margin 1 or 5, summed over the classes or averaged, which brings hinge's gradient to cross-entropy's size.
HINGE_VARIANTS = (
    variant(HINGE, "tanh-hinge-margin_1", loss__margin=1.0),
    variant(HINGE, "tanh-hinge-averaged", in_fair=False, loss__class_reduction="mean"),
    variant(HINGE, "tanh-hinge-margin_1-averaged", in_fair=False, loss__margin=1.0, loss__class_reduction="mean"),
)
#: The same rate with the usual mean over the batch shows that the report must have summed.
MEAN = variant(CROSS_ENTROPY, "tanh-cross_entropy-mean", in_fair=False, reduction="mean")

STUDY = Reported(
    name="loss_by_activation",
    report="003",
    question="Does the loss decide how well a small network learns MNIST, whatever its activation?",
    factor="loss",
    dataset="mnist",
    arms=(*GRID.values(), *FOCAL_VARIANTS, *LONG, *LONG_FAST, *HINGE_VARIANTS, MEAN),
    baseline="tanh-cross_entropy",
    assumptions=(
        "Focal gamma is 2; the report does not give it.",
        "Gradients are summed over the batch: at the report's learning rate of 1e-4 the usual mean hardly trains.",
        "N(0, 0.01^2) is drawn for the weights; biases keep PyTorch's own initialisation.",
        (
            "The larger learning rates of focal loss are 1e-3 and 1e-2, the longer training is 50 epochs and the "
            "second hidden layer has 32 units; the report's levels are lost."
        ),
        "At 50 epochs focal loss runs at 0.01 and the other losses at their first rate; all at 0.01 is a variant.",
        "A sixth of the training images is the validation split.",
    ),
    diagnostics={"gradient_scale": tuple(f"tanh-{loss}" for loss in LOSSES)},
)
