"""What a reported study is made of: complete arms, and how they are tuned when the comparison is made fair."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from search_spaces.arms import Arm, Study, describe
from trainables.config import LOOKS, InputError, Scalar

STATED, FAIR = "stated", "fair"
REGIMES = (STATED, FAIR)
BOTH = "both"
#: The fair regime's common grid: 12 rates evenly spaced in their logarithm, half a decade apart (6/11 of one), for a
#: loss that is averaged over the batch.
LEARNING_RATES = tuple(float(f"{10 ** (-5 + 6 * step / 11):.4g}") for step in range(12))
#: Seeds of a rate in the fair regime's search.
SEARCH_SEEDS = 3


@dataclass(frozen=True)
class ReportedArm(Arm):
    """An arm whose every value is fixed, as a report states it.

    Args:
        in_fair: Whether the fair regime has it; an arm that differs from another in its learning rate alone has not,
            since there they are the same arm.
        rate_of: The arm whose tuned learning rate this one takes over in the fair regime; empty to be tuned itself.
    """

    in_fair: bool = True
    rate_of: str = ""


@dataclass(frozen=True, kw_only=True)
class Reported(Study):
    """A reported study: run as stated over seeds, then with each arm's learning rate tuned.

    Args:
        report: The report's number, which its claims bear ("003").
        dataset: The data set of the report (or the one assumed), which it runs on unless told otherwise.
        own_data: Whether ``dataset`` is the report's own (or the one assumed) and no stand-in for data that are lost.
        classes: The classes that are kept, by data set; empty for all of them.
        assumptions: What the report does not say and the space decides, one sentence each; printed and recorded.
        watch: What is looked at after every epoch of the stated regime: ``test``, ``noise`` (the test images under
            unclipped N(0, 1) noise).
        diagnostics: Short measurements beside the training: name of the diagnostic → the arms it is made on.
        epochs_scale: The share of the report's epochs that is run.
    """

    report: str
    dataset: str
    own_data: bool = True
    classes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    assumptions: tuple[str, ...] = ()
    watch: tuple[str, ...] = ("test",)
    diagnostics: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    epochs_scale: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "classes", MappingProxyType(dict(self.classes)))
        object.__setattr__(self, "diagnostics", MappingProxyType(dict(self.diagnostics)))
        self._check_types()
        for arm in self.arms:
            if not isinstance(arm, ReportedArm) or arm.parameters:
                raise InputError(f"Arm {arm.name!r} of a reported study must be a ReportedArm without parameters.")
        unknown = set(self.watch) - set(LOOKS)
        if unknown:
            raise InputError(f"`watch` takes {', '.join(LOOKS)}; got {', '.join(sorted(unknown))}.")
        tuned = {arm.name: arm.in_fair and not arm.rate_of for arm in self.reported_arms}
        for arm in self.reported_arms:
            if arm.rate_of and arm.rate_of not in tuned:
                raise InputError(f"Arm {arm.name!r} takes the rate of {arm.rate_of!r}, which is not among the arms.")
            if arm.rate_of and not tuned[arm.rate_of]:
                raise InputError(f"Arm {arm.name!r} takes the rate of {arm.rate_of!r}, which is not tuned itself.")

    def _check_types(self) -> None:
        for key, value in (("report", self.report), ("dataset", self.dataset)):
            if not isinstance(value, str):
                raise InputError(f"`{key}` of a reported study must be text; got {value!r}.")
        listed = {"assumptions": self.assumptions, "watch": self.watch}
        listed |= {f"diagnostics[{name!r}]": arms for name, arms in self.diagnostics.items()}
        for key, values in listed.items():
            if not isinstance(values, (tuple, list)) or not all(isinstance(value, str) for value in values):
                raise InputError(f"`{key}` of a reported study must be a tuple of texts; got {values!r}.")
        for dataset, classes in self.classes.items():
            if not isinstance(classes, (tuple, list)) or not all(isinstance(label, int) for label in classes):
                raise InputError(f"`classes` of {dataset!r} must be a tuple of integers; got {classes!r}.")

    @property
    def reported_arms(self) -> tuple[ReportedArm, ...]:
        """The arms, as what they are."""
        return tuple(arm for arm in self.arms if isinstance(arm, ReportedArm))

    def arms_of(self, regime: str) -> tuple[ReportedArm, ...]:
        """The arms that a regime has."""
        return tuple(arm for arm in self.reported_arms if regime == STATED or arm.in_fair)


def variant(like: ReportedArm, name: str, *, in_fair: bool = True, rate_of: str = "", **changes: Scalar) -> ReportedArm:
    """An arm that differs from ``like`` in the values given; a dot in a key is written ``__``."""
    fixed = {**like.fixed, **{key.replace("__", "."): value for key, value in changes.items()}}
    return ReportedArm(name, fixed, in_fair=in_fair, rate_of=rate_of)


def pick(study: Reported, names: Sequence[str], baseline: str) -> Reported:
    """The study with these arms only; an arm whose tuned rate was another's, now gone, is tuned itself."""
    kept = tuple(
        arm if arm.rate_of in names else replace(arm, rate_of="") for arm in study.reported_arms if arm.name in names
    )
    diagnostics = {
        name: tuple(arm for arm in arms if arm in names)
        for name, arms in study.diagnostics.items()
        if set(arms) & set(names)
    }  # fmt: skip
    return replace(study, arms=kept, baseline=baseline, diagnostics=diagnostics)


def scale_epochs(study: Reported, scale: float) -> Reported:
    """The study at a fraction of its epochs, at least one each.

    Raises:
        InputError: If the fraction is not in (0, 1].
    """
    if not 0 < scale <= 1:
        raise InputError(f"`--epochs-scale` must lie in (0, 1]; got {scale:g}.")
    return replace(
        study,
        arms=tuple(replace(arm, fixed=_scaled(arm.fixed, scale)) for arm in study.reported_arms),
        epochs_scale=scale,
    )


def rate_in_mean(config: Mapping[str, Any]) -> float:
    """A configuration's learning rate as it would be if the loss were averaged over the batch."""
    rate = float(config["optimizer.learning_rate"])
    return rate * int(config["batch_size"]) if config.get("reduction") == "sum" else rate


def with_rate(config: Mapping[str, Scalar], rate: float) -> dict[str, Scalar]:
    """The configuration at a learning rate given for a loss averaged over the batch.

    Where gradients are summed, the rate is divided by the batch size, not the gradient: weight decay then keeps the
    weight against the loss that the report gave it.
    """
    own = rate / int(config["batch_size"]) if config.get("reduction") == "sum" else rate
    return {**config, "optimizer.learning_rate": own}


def describe_arm(arm: ReportedArm) -> dict[str, Any]:
    """The arm as plain data, as ``study.json`` records it."""
    return {**describe(arm), "in_fair": arm.in_fair, "rate_of": arm.rate_of}


def _scaled(fixed: Mapping[str, Scalar], scale: float) -> dict[str, Scalar]:
    epochs = max(1, round(int(fixed["epochs"]) * scale))
    scaled: dict[str, Scalar] = {**fixed, "epochs": epochs}
    if "switch_epoch" in fixed:
        # A trial with two optimizers needs an epoch of each.
        scaled["epochs"] = max(2, epochs)
        scaled["switch_epoch"] = min(max(1, round(int(fixed["switch_epoch"]) * scale)), int(scaled["epochs"]) - 1)
    return scaled
