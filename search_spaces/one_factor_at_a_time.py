"""Report 002: epochs, batch size, learning rate and loss, one varied at a time, on images of two classes."""

from search_spaces.reported import Reported, ReportedArm, variant

BASE = ReportedArm(
    "base",
    {
        "model": "convnet", "width": 8, "activation": "relu", "loss": "cross_entropy", "reduction": "mean",
        "optimizer": "sgd", "optimizer.learning_rate": 0.01, "optimizer.momentum": 0.9, "batch_size": 32, "epochs": 20,
    },
)  # fmt: skip
EPOCHS = tuple(variant(BASE, f"epochs_{epochs}", rate_of="base", epochs=epochs) for epochs in (40, 80))
BATCHES = tuple(variant(BASE, f"batch_{size}", batch_size=size) for size in (16, 64, 128, 256))
RATES = tuple(
    variant(BASE, f"rate_{rate:g}", in_fair=False, optimizer__learning_rate=rate) for rate in (0.001, 0.1)
)  # fmt: skip
SLOW = variant(BASE, "rate_0.001-200_epochs", in_fair=False, optimizer__learning_rate=0.001, epochs=200)
LOSSES = (
    variant(BASE, "focal", loss="focal", loss__gamma=2.0),
    *(
        variant(BASE, loss, loss=loss)
        for loss in ("l1", "l1_logits", "mse", "mse_logits", "smooth_l1", "smooth_l1_logits")
    ),
)

STUDY = Reported(
    name="one_factor_at_a_time",
    report="002",
    question="What do epochs, batch size, learning rate and loss each change, the others held at a base setting?",
    factor="setting",
    dataset="fashion-mnist",
    own_data=False,
    # Look-alike pairs: T-shirt and shirt, cat and dog, 4 and 9, 8 and 1.
    classes={"fashion-mnist": (0, 6), "cifar10": (3, 5), "mnist": (4, 9), "kmnist": (4, 9), "digits": (1, 8)},
    arms=(BASE, *EPOCHS, *BATCHES, *RATES, SLOW, *LOSSES),
    baseline="base",
    assumptions=(
        "The base is 20 epochs, learning rate 0.01, cross-entropy and batch 32; the report's own is not given.",
        (
            "The network is a ConvNet of three 3 x 3 convolutions of 8, 16 and 32 channels and the optimizer SGD with "
            "momentum 0.9; both are lost."
        ),
        "Batch sizes are 16, 32, 64, 128 and 256, focal gamma is 2; the report's tables are lost.",
        "The two classes are look-alikes of a public data set; the report's images are unknown.",
        "L1, MSE and Smooth-L1 may act on the probabilities or on the raw outputs (_logits); both are run.",
        "200 epochs at the smallest rate are added to test whether it is only slow.",
        "In the fair regime, 40 and 80 epochs run at the rate tuned for 20.",
        "A sixth of the training images is the validation split.",
    ),
    diagnostics={"gradient_variance": ("base",)},
)
