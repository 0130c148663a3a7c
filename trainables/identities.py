"""Statements that algebra decides, checked by computing on the project's own losses and metrics.

A study's report makes claims about its losses that no training can settle, such as "raising γ raises the loss". Each
entry of `IDENTITIES` computes how far the losses and metrics that trials really use depart from one such statement, so
that a wrong loss changes the answer.

References:
    Lin et al., Focal Loss for Dense Object Detection, ICCV 2017, arXiv:1708.02002 (γ); Girshick, Fast R-CNN, ICCV 2015,
    arXiv:1504.08083 (Smooth-L1, equation 3); Blanchard, Higham & Higham, Accurately Computing the Log-Sum-Exp and
    Softmax Functions, IMA J. Numer. Anal. 41(4), 2021 (the shift by the largest logit).
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from trainables.config import InputError
from trainables.losses import LOSSES
from trainables.probes import (
    LARGE,
    NUM_CLASSES,
    batches_of_every_scale,
    errors_around,
    finite_gradients,
    focal_by_exponent,
    gives,
    large_errors,
    naive_kl,
    naive_softmax,
    on_error,
    random_batch,
    recall_against_accuracy,
    shifted_cross_entropy,
    small_errors,
    unlike,
    value_and_gradient,
    written_focal,
)
from trainables.steps import one_thread

#: Largest departure that rounding in float64 explains.
_ROUNDING = 1e-12
_CERTAIN_EXPONENTS = (0.5, 0.9, 1.0, 2.0, 5.0)
_UNLIKE = (
    "Spread of the ratio of the two gradients, over its largest value, for errors up to 0.9 and from 1.1 to 1,000: 0 "
    "where they are in proportion."
)


@dataclass(frozen=True)
class Identity:
    """One statement and what computing says of it.

    Args:
        statement: What a report says, or what its verdict rests on.
        holds: Whether the statement is true: ``value <= tolerance``.
        value: How far computing departs from the statement, >= 0: a difference, or the share of the cases tried that
            contradict it. Always finite; the largest float stands for what is not.
        tolerance: The departure that rounding explains; 0 where no rounding is involved.
        detail: What was computed, and on what.
    """

    statement: str
    holds: bool
    value: float
    tolerance: float
    detail: str


def measure_identities(names: Sequence[str] | None = None) -> dict[str, dict[str, str | bool | float]]:
    """Compute identities; a fraction of a second for all of them.

    Args:
        names: Lines of `IDENTITIES`; all of them by default.

    Returns:
        Per name the fields of its `Identity`, as plain JSON data.

    Raises:
        InputError: If there is no such identity.
    """
    chosen = list(IDENTITIES) if names is None else list(names)
    for name in chosen:
        if name not in IDENTITIES:
            raise InputError(f"Unknown identity {name!r}; choose from {', '.join(sorted(IDENTITIES))}.")
    with one_thread():
        return {name: asdict(IDENTITIES[name]()) for name in chosen}


def raising_gamma_raises_loss() -> Identity:
    losses = focal_by_exponent()
    risen = losses[1:] > losses[:-1]
    return _identity(
        "Raising γ raises (1 − p)^γ and with it the focal loss.",
        _share(~risen),
        f"Share of {risen.numel()} steps of γ over [0, 5] at p in (1e-13, 1 − 1e-13) at which the loss does not rise.",
    )


def lower_gamma_higher_loss_everywhere() -> Identity:
    losses = focal_by_exponent()
    fallen = losses[1:] < losses[:-1]
    return _identity(
        "The smaller γ gives the larger loss for every example, also where none is hard.",
        _share(~fallen),
        f"Share of {fallen.numel()} steps of γ over [0, 5] at p in (1e-13, 1 − 1e-13) at which the loss does not fall.",
    )


def weighted_recall_is_accuracy() -> Identity:
    return _identity(
        "Weighted recall is accuracy, whatever the sizes of the classes.",
        recall_against_accuracy("recall_weighted", balanced=False),
        "Largest difference over 200 random confusion matrices with classes of random sizes.",
        tolerance=_ROUNDING,
    )


def macro_recall_is_accuracy_when_balanced() -> Identity:
    return _identity(
        "Macro recall is accuracy where all classes are of one size.",
        recall_against_accuracy("recall_macro", balanced=True),
        "Largest difference over 200 random confusion matrices with classes of one size.",
        tolerance=_ROUNDING,
    )


def macro_recall_is_accuracy_always() -> Identity:
    return _identity(
        "Macro recall is accuracy, whatever the sizes of the classes.",
        recall_against_accuracy("recall_macro", balanced=False),
        "Largest difference over 200 random confusion matrices with classes of random sizes.",
        tolerance=_ROUNDING,
    )


def smooth_l1_is_l1_near_zero_and_mse_far_away() -> Identity:
    return _identity(
        "Smooth-L1 is L1 near zero and MSE far away.",
        max(
            unlike("smooth_l1_logits", "l1_logits", small_errors()),
            unlike("smooth_l1_logits", "mse_logits", large_errors()),
        ),
        _UNLIKE,
        tolerance=_ROUNDING,
    )


def smooth_l1_is_mse_near_zero_and_l1_far_away() -> Identity:
    return _identity(
        "Smooth-L1 is MSE near zero and L1 far away.",
        max(
            unlike("smooth_l1_logits", "mse_logits", small_errors()),
            unlike("smooth_l1_logits", "l1_logits", large_errors()),
        ),
        _UNLIKE,
        tolerance=_ROUNDING,
    )


def l1_gradient_grows_with_error() -> Identity:
    _, pulls = on_error("l1_logits", torch.logspace(-3, 3, 601, dtype=torch.float64))
    grown = pulls.abs()[1:] > pulls.abs()[:-1]
    return _identity(
        "The gradient of L1 grows with the error.",
        _share(~grown),
        "Share of 600 steps of the error from 0.001 to 1,000 at which the gradient does not grow.",
    )


def mse_exceeds_l1_in_value_above_one() -> Identity:
    errors = errors_around(1.0)
    squared, absolute = on_error("mse_logits", errors)[0], on_error("l1_logits", errors)[0]
    return _identity(
        "MSE exceeds L1 where the error exceeds 1, and falls below it where the error is smaller.",
        _share((squared > absolute) != (errors.abs() > 1)),
        f"Share of {len(errors)} errors of both signs from 0.001 to 1,000 at which it is otherwise.",
    )


def mse_exceeds_l1_in_gradient_above_half() -> Identity:
    errors = errors_around(0.5)
    squared, absolute = on_error("mse_logits", errors)[1].abs(), on_error("l1_logits", errors)[1].abs()
    return _identity(
        "MSE pulls harder than L1 where the error exceeds 1/2, and less where it is smaller.",
        _share((squared > absolute) != (errors.abs() > 1 / 2)),
        f"Share of {len(errors)} errors of both signs from 0.0005 to 500 at which it is otherwise.",
    )


def cross_entropy_needs_one_hot() -> Identity:
    right = []
    for batch in (1, NUM_CLASSES, 32):
        logits, labels = random_batch(batch, NUM_CLASSES, seed=batch, dtype=torch.float64)
        expected = -(F.one_hot(labels, NUM_CLASSES) * F.log_softmax(logits, dim=1)).sum(1)
        right.append(gives(lambda: LOSSES["cross_entropy"](logits, labels), expected))  # noqa: B023  # called at once
    return _identity(
        "Cross-entropy needs one-hot targets.",
        sum(right) / len(right),
        "Share of batches of 1, 10 and 32 examples whose class indices give the value of the one-hot target.",
    )


def mse_and_l1_need_one_hot() -> Identity:
    right = []
    for loss in (F.mse_loss, F.l1_loss):
        # With as many examples as classes the indices broadcast along the wrong dimension instead of failing.
        for batch in (1, NUM_CLASSES, 32):
            logits, labels = random_batch(batch, NUM_CLASSES, seed=batch, dtype=torch.float64)
            expected = loss(logits, F.one_hot(labels, NUM_CLASSES).double())
            right.append(gives(lambda: loss(logits, labels.double()), expected))  # noqa: B023  # called at once
    return _identity(
        "MSE and L1 need one-hot targets.",
        sum(right) / len(right),
        "Share of batches of 1, 10 and 32 examples whose class indices PyTorch's mse_loss and l1_loss take rightly.",
    )


def kl_div_equals_cross_entropy() -> Identity:
    unequal = torch.cat(
        [
            (ours != theirs).flatten()
            for logits, labels in batches_of_every_scale()
            for reduce in (torch.mean, torch.sum)
            for ours, theirs in zip(
                value_and_gradient(LOSSES["kl_div"], logits, labels, reduce),
                value_and_gradient(LOSSES["cross_entropy"], logits, labels, reduce),
                strict=True,
            )
        ]
    )
    return _identity(
        "KL divergence from the one-hot target is cross-entropy, in value and gradient, to the last bit.",
        _share(unequal),
        f"Share of {unequal.numel()} values and derivatives that are not equal numbers, over logits of 0.01 to 10,000.",
    )


def naive_softmax_overflows() -> Identity:
    finite = torch.cat(
        [
            naive_softmax(sign * torch.arange(LARGE, LARGE + size, dtype=dtype)[None]).isfinite().any(1)
            for dtype in (torch.float32, torch.float64)
            for size in (2, NUM_CLASSES)
            for sign in (1, -1)  # at the other end every exponential is 0, and so is their sum
        ]
    )
    return _identity(
        "Softmax as its formula reads gives Inf or NaN on logits of ±10,000.",
        _share(finite),
        f"Share of {finite.numel()} rows with a finite probability.",
    )


def naive_kl_fails_at_zero_probability() -> Identity:
    one_hot = torch.eye(NUM_CLASSES)
    impossible = one_hot.roll(1, dims=1)  # all probability on a wrong class: log(1 / 0)
    finite = torch.cat([naive_kl(one_hot, impossible), naive_kl(one_hot, one_hot)]).isfinite()
    return _identity(
        "KL divergence as its formula reads fails where a probability is 0: log 0, 0 · log 0 or a division by 0.",
        _share(finite),
        f"Share of {finite.numel()} pairs of one-hot target and 0/1 probabilities with a finite divergence.",
    )


def max_shift_is_finite() -> Identity:
    losses: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"shifted": shifted_cross_entropy, **LOSSES}
    finite = torch.cat(
        [
            numbers.isfinite().flatten()
            for loss in losses.values()
            for logits, labels in batches_of_every_scale()
            for numbers in value_and_gradient(loss, logits, labels, torch.sum)
        ]
    )
    return _identity(
        "With the largest logit subtracted, values and gradients are finite for logits up to ±10,000.",
        _share(~finite),
        f"Share of {finite.numel()} values and derivatives that are not finite, for cross-entropy written so and "
        f"{', '.join(LOSSES)}.",
    )


def written_focal_has_nan_gradient() -> Identity:
    finite = finite_gradients(written_focal, _CERTAIN_EXPONENTS[:2])
    return _identity(
        "Focal loss written as (1 − exp(−ce))^γ · ce with γ < 1 has a NaN gradient once an example has probability 1.",
        _share(finite),
        f"Share of {finite.numel()} such examples with a finite gradient, γ in {_CERTAIN_EXPONENTS[:2]}.",
    )


def our_focal_is_finite() -> Identity:
    finite = finite_gradients(lambda *batch, gamma: LOSSES["focal"](*batch, gamma=gamma), _CERTAIN_EXPONENTS)
    return _identity(
        "The project's focal loss has a finite gradient also where an example has probability 1.",
        _share(~finite),
        f"Share of {finite.numel()} such examples without one, γ in {_CERTAIN_EXPONENTS}.",
    )


IDENTITIES: dict[str, Callable[[], Identity]] = {
    identity.__name__: identity
    for identity in (
        raising_gamma_raises_loss,
        lower_gamma_higher_loss_everywhere,
        weighted_recall_is_accuracy,
        macro_recall_is_accuracy_when_balanced,
        macro_recall_is_accuracy_always,
        smooth_l1_is_l1_near_zero_and_mse_far_away,
        smooth_l1_is_mse_near_zero_and_l1_far_away,
        l1_gradient_grows_with_error,
        mse_exceeds_l1_in_value_above_one,
        mse_exceeds_l1_in_gradient_above_half,
        cross_entropy_needs_one_hot,
        mse_and_l1_need_one_hot,
        kl_div_equals_cross_entropy,
        naive_softmax_overflows,
        naive_kl_fails_at_zero_probability,
        max_shift_is_finite,
        written_focal_has_nan_gradient,
        our_focal_is_finite,
    )
}


def _identity(statement: str, departure: float, detail: str, *, tolerance: float = 0.0) -> Identity:
    value = departure if math.isfinite(departure) else sys.float_info.max
    return Identity(statement, value <= tolerance, value, tolerance, detail)


def _share(cases: Tensor) -> float:
    return cases.double().mean().item()
