"""A hundred trials of some seconds each, all of which train what ``bench/epoch.py`` has its loops train."""

from bench.epoch import MLP
from search_spaces.arms import Arm, Float, Parameter, Study

EPOCHS = 20
FIXED = {key: value for key, value in MLP.items() if key != "optimizer.learning_rate"} | {"epochs": EPOCHS}

STUDY = Study(
    name="long-trials",
    question="What does a study take beside its training?",
    factor="loss",
    arms=(Arm("cross_entropy", FIXED, (Parameter("optimizer.learning_rate", Float(1e-3, 1e-1, log=True)),)),),
    baseline="cross_entropy",
    trials=100,
    seeds=1,
)
