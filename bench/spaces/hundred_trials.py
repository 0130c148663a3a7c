"""A hundred short trials that differ in their learning rate, as the peers train (``bench/peers/task.py``)."""

from search_spaces.arms import Arm, Float, Parameter, Study

STUDY = Study(
    name="hundred-trials",
    question="What do a hundred short trials take?",
    factor="loss",
    arms=(
        Arm(
            "cross_entropy",
            {
                "loss": "cross_entropy", "model": "mlp", "hidden_layers": 1, "width": 128, "optimizer": "sgd",
                "optimizer.momentum": 0.9, "batch_size": 128, "epochs": 5,
            },
            (Parameter("optimizer.learning_rate", Float(1e-3, 1e-1, log=True)),),
        ),
    ),
    baseline="cross_entropy",
    trials=100,
    seeds=1,
)  # fmt: skip
