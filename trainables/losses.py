"""Loss functions for classification: ``f(logits, labels, **params) -> one value per example``.

All of them work in float32 at least, so that bfloat16 logits from autocast lose nothing more here, and stay finite in
value and gradient for logits up to ±1e4. Parameter checks look at Python numbers only: nothing waits for the device.

"On probabilities" means on softmax(logits) and "on logits" on the raw outputs, both against the one-hot target. The
two differ a lot: on raw outputs L1 regresses the median of a target that is mostly zero and collapses to chance, on
probabilities it learns. Where a loss has a term per class, ``class_reduction`` sums or averages them, which scales the
gradient by num_classes and nothing else.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from trainables.checks import check_number, check_parameters, one_line
from trainables.config import REDUCTIONS, Component, InputError, resolve

Loss = Callable[[Tensor, Tensor], Tensor]

#: From this exponent on, a float32 power of a base in [0, 1] is 0 or 1; a larger one only overflows its derivative.
_LARGEST_EXPONENT = 1e30


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Negative log-likelihood of the softmax, −log p_y.

    Args:
        logits: Unnormalised scores, shape ``(batch, num_classes)``.
        labels: Class indices, shape ``(batch,)``, dtype int64.

    Returns:
        Loss per example in nats, shape ``(batch,)``.
    """
    return F.cross_entropy(_at_least_float32(logits), labels, reduction="none")


def kl_div(logits: Tensor, labels: Tensor) -> Tensor:
    """Divergence of the softmax from the one-hot target, KL(one-hot ‖ softmax).

    A negative control: it equals `cross_entropy` to the last bit in value and gradient, because the target's entropy is
    zero and the other classes add exact zeros. A study that finds a difference between the two has found its own noise.

    Args:
        logits: Unnormalised scores, shape ``(batch, num_classes)``.
        labels: Class indices, shape ``(batch,)``, dtype int64.

    Returns:
        Loss per example in nats, shape ``(batch,)``.

    References:
        Kullback & Leibler, On Information and Sufficiency, 1951.
    """
    log_probabilities = F.log_softmax(_at_least_float32(logits), dim=1)
    return F.kl_div(log_probabilities, _one_hot(labels, log_probabilities), reduction="none").sum(1)


def focal(logits: Tensor, labels: Tensor, *, gamma: float = 2.0) -> Tensor:
    """Cross-entropy that plays down what is already well classified, −(1 − p_y)^γ log p_y.

    Args:
        logits: Unnormalised scores, shape ``(batch, num_classes)``.
        labels: Class indices, shape ``(batch,)``, dtype int64.
        gamma: Focusing exponent γ >= 0; 0 is cross-entropy.

    Returns:
        Loss per example in nats, shape ``(batch,)``.

    Raises:
        InputError: If ``gamma`` is not a finite number >= 0.

    References:
        Lin et al., Focal Loss for Dense Object Detection, ICCV 2017, arXiv:1708.02002.
    """
    check_number("gamma", gamma, at_least=0)
    entropy = cross_entropy(logits, labels)
    if gamma == 0:
        return entropy
    # At p_y = 1 the derivative of (1 - p)^gamma is infinite for gamma < 1, and infinity times the zero beside it is
    # NaN. Just above zero the product is finite and tends to 0, which is the gradient the clamp passes on below.
    entropy = entropy.clamp_min(torch.finfo(entropy.dtype).tiny)
    # expm1 gives 1 - p_y to the last bits; 1 - exp(-entropy) cancels, off by up to 2e-4 of it in float32.
    return (-torch.expm1(-entropy)).pow(min(gamma, _LARGEST_EXPONENT)) * entropy


def hinge(logits: Tensor, labels: Tensor, *, margin: float = 1.0, class_reduction: str = "sum") -> Tensor:
    """Multi-class hinge over the wrong classes, Σ_{j≠y} max(0, margin − (z_y − z_j)).

    Args:
        logits: Unnormalised scores, shape ``(batch, num_classes)``.
        labels: Class indices, shape ``(batch,)``, dtype int64.
        margin: Lead of the right class below which a wrong one costs, in units of the logits, > 0.
        class_reduction: ``sum`` over the classes, or ``mean``: the sum divided by num_classes, as PyTorch does.

    Returns:
        Loss per example, shape ``(batch,)``.

    Raises:
        InputError: If ``margin`` is not a finite number > 0 or ``class_reduction`` neither ``sum`` nor ``mean``.

    References:
        Weston & Watkins, Support Vector Machines for Multi-Class Pattern Recognition, ESANN 1999.
    """
    check_number("margin", margin, above=0)
    _check_class_reduction(class_reduction)
    # PyTorch's version is one kernel but averages over the classes.
    mean = F.multi_margin_loss(_at_least_float32(logits), labels, margin=margin, reduction="none")
    return mean if class_reduction == "mean" else mean * logits.shape[1]


def l1(logits: Tensor, labels: Tensor, *, class_reduction: str = "mean") -> Tensor:
    """Absolute error of the softmax probabilities against the one-hot target.

    Args:
        logits: Unnormalised scores, shape ``(batch, num_classes)``.
        labels: Class indices, shape ``(batch,)``, dtype int64.
        class_reduction: ``mean`` or ``sum`` over the classes.

    Returns:
        Loss per example, in [0, 2 / num_classes] as a mean and in [0, 2] as a sum, shape ``(batch,)``.

    Raises:
        InputError: If ``class_reduction`` is neither ``mean`` nor ``sum``.

    References:
        Ghosh et al., Robust Loss Functions under Label Noise for Deep Neural Networks, AAAI 2017, arXiv:1712.09482.
    """
    # What the right class lacks the others hold, so the absolute errors add up to 2 (1 - p_y).
    _check_class_reduction(class_reduction)
    return torch.expm1(-cross_entropy(logits, labels)) * (-2.0 / (logits.shape[1] if class_reduction == "mean" else 1))


def l1_logits(logits: Tensor, labels: Tensor, *, class_reduction: str = "mean") -> Tensor:
    """Absolute error of the raw outputs against the one-hot target.

    Args:
        logits: Raw outputs, shape ``(batch, num_classes)``.
        labels: Class indices, shape ``(batch,)``, dtype int64.
        class_reduction: ``mean`` or ``sum`` over the classes.

    Returns:
        Loss per example, shape ``(batch,)``.

    Raises:
        InputError: If ``class_reduction`` is neither ``mean`` nor ``sum``.
    """
    outputs = _at_least_float32(logits)
    return _over_classes(F.l1_loss(outputs, _one_hot(labels, outputs), reduction="none"), class_reduction)


def mse(logits: Tensor, labels: Tensor, *, class_reduction: str = "mean") -> Tensor:
    """Squared error of the softmax probabilities against the one-hot target; summed it is the Brier score.

    Args:
        logits: Unnormalised scores, shape ``(batch, num_classes)``.
        labels: Class indices, shape ``(batch,)``, dtype int64.
        class_reduction: ``mean`` or ``sum`` over the classes.

    Returns:
        Loss per example, in [0, 2 / num_classes] as a mean and in [0, 2] as a sum, shape ``(batch,)``.

    Raises:
        InputError: If ``class_reduction`` is neither ``mean`` nor ``sum``.

    References:
        Brier, Verification of Forecasts Expressed in Terms of Probability, 1950.
    """
    return mse_logits(_probabilities(logits), labels, class_reduction=class_reduction)


def mse_logits(logits: Tensor, labels: Tensor, *, class_reduction: str = "mean") -> Tensor:
    """Squared error of the raw outputs against the one-hot target.

    Args:
        logits: Raw outputs, shape ``(batch, num_classes)``.
        labels: Class indices, shape ``(batch,)``, dtype int64.
        class_reduction: ``mean`` or ``sum`` over the classes.

    Returns:
        Loss per example, without a factor 1/2, shape ``(batch,)``.

    Raises:
        InputError: If ``class_reduction`` is neither ``mean`` nor ``sum``.

    References:
        Hui & Belkin, Evaluation of Neural Architectures Trained with Square Loss vs Cross-Entropy in Classification
        Tasks, ICLR 2021, arXiv:2006.07322 (theirs rescales the right class; this one does not).
    """
    outputs = _at_least_float32(logits)
    return _over_classes(F.mse_loss(outputs, _one_hot(labels, outputs), reduction="none"), class_reduction)


def smooth_l1(logits: Tensor, labels: Tensor, *, beta: float = 1.0, class_reduction: str = "mean") -> Tensor:
    """Smooth-L1 error of the softmax probabilities against the one-hot target, see `smooth_l1_logits`.

    With ``beta`` >= 1 no error of a probability leaves the quadratic part: this is then `mse` over 2 beta.

    Args:
        logits: Unnormalised scores, shape ``(batch, num_classes)``.
        labels: Class indices, shape ``(batch,)``, dtype int64.
        beta: Error in probability at which the quadratic part ends, > 0.
        class_reduction: ``mean`` or ``sum`` over the classes.

    Returns:
        Loss per example, shape ``(batch,)``.

    Raises:
        InputError: If ``beta`` is not a finite number > 0 or ``class_reduction`` neither ``mean`` nor ``sum``.

    References:
        Girshick, Fast R-CNN, ICCV 2015, arXiv:1504.08083.
    """
    return smooth_l1_logits(_probabilities(logits), labels, beta=beta, class_reduction=class_reduction)


def smooth_l1_logits(logits: Tensor, labels: Tensor, *, beta: float = 1.0, class_reduction: str = "mean") -> Tensor:
    """Smooth-L1 error of the raw outputs: d² / (2 beta) where |d| < beta, else |d| − beta / 2, over the classes.

    Args:
        logits: Raw outputs, shape ``(batch, num_classes)``.
        labels: Class indices, shape ``(batch,)``, dtype int64.
        beta: Absolute error at which the quadratic part ends, > 0.
        class_reduction: ``mean`` or ``sum`` over the classes.

    Returns:
        Loss per example, shape ``(batch,)``.

    Raises:
        InputError: If ``beta`` is not a finite number > 0 or ``class_reduction`` neither ``mean`` nor ``sum``.

    References:
        Girshick, Fast R-CNN, ICCV 2015, arXiv:1504.08083.
    """
    check_number("beta", beta, above=0)
    outputs = _at_least_float32(logits)
    terms = F.smooth_l1_loss(outputs, _one_hot(labels, outputs), reduction="none", beta=beta)
    return _over_classes(terms, class_reduction)


LOSSES: dict[str, Callable[..., Tensor]] = {
    "cross_entropy": cross_entropy,
    "kl_div": kl_div,
    "focal": focal,
    "hinge": hinge,
    "l1": l1,
    "l1_logits": l1_logits,
    "mse": mse,
    "mse_logits": mse_logits,
    "smooth_l1": smooth_l1,
    "smooth_l1_logits": smooth_l1_logits,
}


def build_loss(component: Component, *, num_classes: int = 3) -> Loss:
    """The loss behind a name, its parameters bound and tried once on two examples.

    Args:
        component: A line of `LOSSES`, or ``package.module:name`` for ``f(logits, labels, **params)`` of the user's own.
        num_classes: Columns of the trial batch; matters to a loss that holds one weight per class.

    Returns:
        A function of logits ``(batch, num_classes)`` and labels ``(batch,)`` that gives one value per example.

    Raises:
        InputError: If the name or a parameter is unknown, a parameter breaks its rule, or the result is not a
            differentiable tensor of one value per example.
    """
    function = resolve("loss", component.name, LOSSES)
    check_parameters("loss", component.name, function, component.params, num_positional=2)
    loss = functools.partial(function, **component.params)
    logits = torch.zeros(2, num_classes, requires_grad=True)
    # A loss may draw random numbers; trying it must not move the trial's generator.
    with torch.random.fork_rng(devices=[]):
        try:
            values = loss(logits, torch.tensor([0, 1]))
        except InputError:
            raise
        except (Exception, SystemExit) as error:
            raise InputError(
                f"The loss {component.name!r} fails on logits of shape (2, {num_classes}): {one_line(error)}"
            ) from error
    if not isinstance(values, Tensor) or values.shape != (2,):
        shape = f"shape {tuple(values.shape)}" if isinstance(values, Tensor) else f"a {type(values).__name__}"
        raise InputError(
            f"The loss {component.name!r} must return one value per example, shape (2,) for two of them; got {shape}."
        )
    if not values.requires_grad:
        raise InputError(
            f"The loss {component.name!r} must be differentiable in the logits; its result has no gradient."
        )
    return loss


def _at_least_float32(logits: Tensor) -> Tensor:
    return logits if logits.dtype in (torch.float32, torch.float64) else logits.float()


def _check_class_reduction(class_reduction: str) -> None:
    if class_reduction not in REDUCTIONS:
        raise InputError(f"`class_reduction` must be one of {', '.join(REDUCTIONS)}; got {class_reduction!r}.")


def _over_classes(terms: Tensor, class_reduction: str) -> Tensor:
    """Terms of shape ``(batch, num_classes)`` as one value per example."""
    _check_class_reduction(class_reduction)
    return terms.mean(1) if class_reduction == "mean" else terms.sum(1)


def _probabilities(logits: Tensor) -> Tensor:
    return F.softmax(_at_least_float32(logits), dim=1)


def _one_hot(labels: Tensor, like: Tensor) -> Tensor:
    # F.one_hot reads the labels back to check their range and returns int64: three times as slow on a CPU batch.
    return torch.zeros_like(like).scatter_(1, labels[:, None], 1.0)
