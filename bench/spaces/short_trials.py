"""Trials that train for some hundredths of a second, so that what else a trial costs is what is seen."""

from search_spaces.arms import Arm, Float, Parameter, Study
from trainables.config import Scalar

FIXED: dict[str, Scalar] = {
    "model": "mlp",
    "width": 64,
    "optimizer": "sgd",
    "optimizer.momentum": 0.9,
    "batch_size": 64,
    "epochs": 2,
}
NUISANCE = (Parameter("optimizer.learning_rate", Float(1e-3, 1e-1, log=True)),)

STUDY = Study(
    name="short-trials",
    question="What does a trial cost beside its training?",
    factor="loss",
    arms=(
        Arm("cross_entropy", {"loss": "cross_entropy", **FIXED}, NUISANCE),
        Arm("focal", {"loss": "focal", **FIXED}, (Parameter("loss.gamma", Float(0.0, 5.0)), *NUISANCE)),
    ),
    baseline="cross_entropy",
    trials=100,
    seeds=1,
)
