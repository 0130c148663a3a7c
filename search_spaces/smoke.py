"""The whole path in half a minute: three losses, few trials, few epochs."""

from search_spaces.arms import Arm, Categorical, Float, Parameter, Study

NUISANCE = (
    Parameter("optimizer", Categorical(("sgd", "adam"))),
    Parameter("optimizer.learning_rate", Float(1e-2, 1.0, log=True), {"optimizer": ("sgd",)}),
    Parameter("optimizer.learning_rate", Float(1e-3, 1e-1, log=True), {"optimizer": ("adam",)}),
    Parameter("optimizer.momentum", Float(0.0, 0.95), {"optimizer": ("sgd",)}),
    Parameter("batch_size", Categorical((32, 64))),
    Parameter("epochs", Categorical((4, 8))),
    Parameter("hidden_layers", Categorical((1,)), {"model": ("mlp",)}),
    Parameter("width", Categorical((64,)), {"model": ("mlp",)}),
)

STUDY = Study(
    name="smoke",
    question="Does the whole path work, from the search to the report?",
    factor="loss",
    arms=(
        Arm("cross_entropy", {"loss": "cross_entropy", "model": "mlp"}, NUISANCE),
        Arm("kl_div", {"loss": "kl_div", "model": "mlp"}, NUISANCE),
        Arm("focal", {"loss": "focal", "model": "mlp"}, (Parameter("loss.gamma", Float(0.0, 5.0)), *NUISANCE)),
    ),
    baseline="cross_entropy",
    controls={"kl_div": "cross_entropy"},
    trials=4,
    seeds=6,
)
