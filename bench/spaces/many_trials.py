"""Trials of one epoch of a small network, so that ten thousand of them end in some minutes."""

from search_spaces.arms import Arm, Float, Parameter, Study
from trainables.config import Scalar

FIXED: dict[str, Scalar] = {
    "model": "mlp",
    "width": 16,
    "optimizer": "sgd",
    "batch_size": 256,
    "epochs": 1,
}
NUISANCE = (
    Parameter("optimizer.learning_rate", Float(1e-3, 1.0, log=True)),
    Parameter("optimizer.momentum", Float(0.0, 0.99)),
)

STUDY = Study(
    name="many-trials",
    question="Does the ten-thousandth trial cost what the first did?",
    factor="loss",
    arms=(
        Arm("cross_entropy", {"loss": "cross_entropy", **FIXED}, NUISANCE),
        Arm("focal", {"loss": "focal", **FIXED}, (Parameter("loss.gamma", Float(0.0, 5.0)), *NUISANCE)),
    ),
    baseline="cross_entropy",
    trials=5000,
    seeds=1,
)
