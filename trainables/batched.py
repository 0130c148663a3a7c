"""Which trials can be trained as one batched model; the driver asks too, so importing this needs no torch."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

from trainables.config import InputError, Scalar

#: What trials of one batched model may differ in, by key of the flat form.
DIFFERING = ("seed", "optimizer.learning_rate")
#: Models that neither couple the examples of a batch nor draw random numbers, and whose layers can be stacked.
MODELS = ("mlp", "convnet")
#: Losses must treat examples apart, and optimizers numbers; that is known of the project's own only.
PARTS = ("loss", "optimizer", "second_optimizer", "activation")


def why_alone(config: Mapping[str, Scalar]) -> str:
    """Why a trial can only be trained by itself: the value and the rule; empty if it need not be."""
    model = config["model"]
    if model not in MODELS:
        return f"`model` is {model!r} and must be one of {', '.join(MODELS)}"
    for part in PARTS:
        if ":" in str(config.get(part, "")):
            return f"`{part}` is {config[part]!r} and must be one of the project's own"
    return "`augment` is True and must be False" if config.get("augment") else ""  # it draws numbers for each


def shared_part(config: Mapping[str, Scalar]) -> Hashable:
    """What trials of one batched model have in common: a flat configuration without what they may differ in."""
    return frozenset((key, value) for key, value in config.items() if key not in DIFFERING)


def check_batched(configs: list[dict[str, Scalar]]) -> None:
    """Refuse flat configurations that cannot be trained as one batched model.

    Raises:
        InputError: With the value and the rule.
    """
    if not configs:
        raise InputError("Trials that are trained as one model must be one or more; got none.")
    for config in configs:
        if reason := why_alone(config):
            raise InputError(f"{reason} where trials are trained as one model.")
    first, *others = map(shared_part, configs)
    if any(other != first for other in others):
        raise InputError(f"Trials that are trained as one model may differ in {' and '.join(DIFFERING)} only.")
