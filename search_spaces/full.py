"""Which loss trains the best classifier, when every loss is tuned with the same budget?"""

from search_spaces.arms import Arm, Categorical, Float, Integer, Parameter, Study
from trainables.config import Scalar

# Each optimizer's rates lie on its own scale. SGD's reach far up because the gradients of the losses on softmax
# probabilities are some 50 times smaller than cross-entropy's at the same point.
# The adaptive ones start at 1e-5: on Fashion-MNIST three of ten winners lay at the end of a range that began at 1e-4.
LEARNING_RATES = {"sgd": (1e-3, 10.0), "adam": (1e-5, 1e-1), "adamw": (1e-5, 1e-1), "rmsprop": (1e-5, 1e-1)}

NUISANCE = (
    Parameter("optimizer", Categorical(tuple(LEARNING_RATES))),
    *(
        Parameter("optimizer.learning_rate", Float(low, high, log=True), {"optimizer": (name,)})
        for name, (low, high) in LEARNING_RATES.items()
    ),
    Parameter("optimizer.momentum", Float(0.0, 0.99), {"optimizer": ("sgd",)}),
    Parameter("optimizer.weight_decay", Float(1e-6, 1e-2, log=True)),
    Parameter("batch_size", Categorical((32, 64, 128, 256, 512))),
    Parameter("epochs", Categorical((10, 20, 40))),
    Parameter("hidden_layers", Integer(1, 3), {"model": ("mlp",)}),
    Parameter("width", Categorical((64, 128, 256, 512)), {"model": ("mlp",)}),
    Parameter("width", Categorical((16, 32, 64)), {"model": ("convnet",)}),
    Parameter(
        "activation", Categorical(("relu", "tanh", "selu", "hardswish", "silu", "gelu")), {"model": ("mlp", "convnet")}
    ),
)

#: Losses and the parameters only they have.
LOSSES = {
    "cross_entropy": (),
    "kl_div": (),
    "focal": (Parameter("loss.gamma", Float(0.0, 5.0)),),
    "hinge": (Parameter("loss.margin", Float(0.5, 10.0, log=True)),),
    "l1": (),
    "l1_logits": (),
    "mse": (),
    "mse_logits": (),
    "smooth_l1": (),
    "smooth_l1_logits": (),
}


def build_arm(loss: str, own: tuple[Parameter, ...] = (), **fixed: Scalar) -> Arm:
    """The arm of one loss, named like it (a user's own ``module:name`` by its last part)."""
    name = loss.rpartition(":")[2]
    return Arm(name, {"loss": loss, "model": "mlp", **fixed}, (*own, *NUISANCE))


STUDY = Study(
    name="full",
    question="Which loss trains the most accurate classifier when each is tuned with the same budget?",
    factor="loss",
    arms=tuple(build_arm(loss, own) for loss, own in LOSSES.items()),
    baseline="cross_entropy",
    controls={"kl_div": "cross_entropy"},
)
