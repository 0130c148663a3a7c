"""Short measurements of arms beside their training: gradients, shares of a step's time, steps until a loss falls.

Each runs on one thread, on the CPU, in seconds, and repeats per seed. Times are medians of parts timed in turn, so that
what else the machine does meets all parts alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from trainables.activations import build_activation
from trainables.config import InputError, Scalar, TrialConfig
from trainables.data import Dataset
from trainables.loop import (
    ResidentData,
    TrainingState,
    draw_split,
    forward,
    load_resident,
    predict_logits,
    start_training,
)
from trainables.losses import build_loss, cross_entropy
from trainables.steps import median_seconds, one_thread, parts_of_a_step, train_on, training_batches

Diagnostic = Callable[[TrialConfig, ResidentData, int], dict[str, float]]

GRADIENT_BATCHES = (16, 32, 64, 128, 256)
#: Steps taken before the gradient's variance is measured: a network trained a little.
GRADIENT_STEPS = 50
GRADIENT_DRAWS = 60
#: Steps after which a loss that has not fallen counts as censored.
MAX_STEPS = 2_000
FALL = 0.05
ALPHA = 0.1
_EVALUATION_EXAMPLES = 1_000
#: Growth of the number of steps from one look at the loss to the next; in between it is interpolated.
_LOOK_GROWTH = 1.15
_LEARNED = 0.9
_STEP_STREAM = 3


def measure_diagnostics(
    plan: Mapping[str, Sequence[str]],
    configs: Mapping[str, Mapping[str, Scalar]],
    dataset: Dataset,
    seeds: Sequence[int],
) -> dict[str, list[int] | dict[str, dict[str, list[float | None]]]]:
    """Make diagnostics on arms, once per seed.

    Args:
        plan: Name of a diagnostic → the arms it is made on.
        configs: Name of an arm → its flat configuration; its own seed does not count.
        dataset: What the arms train on.
        seeds: Each fixes split, initialisation and draws of one repetition.

    Returns:
        ``{"seeds": [...], "arms": {arm: {measure: [value per seed]}}}``, plain JSON data; a value that is not finite,
        as after a training that diverged, is None.

    Raises:
        InputError: If there is no such diagnostic or arm, or a configuration breaks a rule.
    """
    for name, arms in plan.items():
        _check_known("diagnostic", name, DIAGNOSTICS)
        for arm in arms:
            _check_known("arm", arm, configs)
    measured: dict[str, dict[str, list[float | None]]] = {}
    with one_thread():
        data = load_resident(dataset, torch.device("cpu"))
        for name, arms in plan.items():
            for arm in arms:
                config = TrialConfig.from_flat(configs[arm])
                measures = measured.setdefault(arm, {})
                for row in (DIAGNOSTICS[name](config, data, seed) for seed in seeds):
                    for measure, value in row.items():
                        measures.setdefault(measure, []).append(value if math.isfinite(value) else None)
    return {"seeds": list(seeds), "arms": measured}


def gradient_variance(config: TrialConfig, data: ResidentData, seed: int) -> dict[str, float]:
    """How the variance of the minibatch gradient depends on the batch size.

    The variance is the trace of the covariance of the mean loss's gradient over batches drawn with replacement, at a
    network trained for `GRADIENT_STEPS` steps.

    Returns:
        ``gradient_variance_slope``, of the logarithm of the variance over that of the batch size. Independent examples
        give −1: the variance of a mean of B of them is that of one over B.
    """
    state = start_training(replace(config, seed=seed), data)
    for _, indices in zip(range(GRADIENT_STEPS), training_batches(state), strict=False):
        train_on(state, data, indices)
    generator = torch.Generator().manual_seed(seed * 16 + _STEP_STREAM)
    variances = [_gradient_variance(state, data, size, generator) for size in GRADIENT_BATCHES]
    if not all(math.isfinite(variance) and variance > 0 for variance in variances):
        return {"gradient_variance_slope": math.nan}
    slope, _ = np.polyfit(np.log(GRADIENT_BATCHES), np.log(variances), 1)
    return {"gradient_variance_slope": float(slope)}


def profile(config: TrialConfig, data: ResidentData, seed: int) -> dict[str, float]:
    """What the activations and the loss take of a training step's time, each forward and backward.

    Returns:
        ``activation_share`` and ``loss_share`` of the median step, the drawing of the batch and the optimizer included.
    """
    parts = parts_of_a_step(config, data, seed)
    step, activations, loss = median_seconds((parts.step, parts.run_activations, parts.run_loss))
    return {"activation_share": activations / step, "loss_share": loss / step}


def gelu_forms(config: TrialConfig, data: ResidentData, seed: int) -> dict[str, float]:
    """GELU by the error function against its approximation by tanh, on what the arm's activations are given.

    Returns:
        ``log_tanh_over_exact``, the natural logarithm of the ratio of their times, forward and backward, and
        ``exact_uses_tanh``, 1 where the project's GELU is nearer to the approximation than to the definition, else 0.

    Raises:
        InputError: If the model has no activation of the kind its configuration names.

    References:
        Hendrycks & Gimpel, Gaussian Error Linear Units, 2016, arXiv:1606.08415.
    """
    calls = parts_of_a_step(config, data, seed).activations
    if not calls:
        raise InputError(f"The model {config.model.name!r} shows no activation; GELU is timed on what one is given.")

    def run(approximate: str) -> None:
        for call in calls:
            torch.autograd.grad(F.gelu(call.inputs, approximate=approximate), call.inputs, call.cotangent)

    tanh, exact = median_seconds((lambda: run("tanh"), lambda: run("none")))
    points = torch.linspace(-6, 6, 2_401, dtype=torch.float64)
    ours = build_activation("gelu")(points)
    by_definition = points * (1 + torch.erf(points / math.sqrt(2))) / 2
    by_tanh = points * (1 + torch.tanh(math.sqrt(2 / math.pi) * (points + 0.044715 * points**3))) / 2
    uses_tanh = (ours - by_tanh).abs().max() < (ours - by_definition).abs().max()
    return {"log_tanh_over_exact": math.log(tanh / exact), "exact_uses_tanh": float(uses_tanh)}


def steps_to_fall(config: TrialConfig, data: ResidentData, seed: int) -> dict[str, float]:
    """Steps until the loss on a fixed batch of training examples has fallen by 5%, at most `MAX_STEPS`.

    Four times: as the arm is, from the model's own initialisation, with the loss multiplied by `ALPHA`, and with both.

    Returns:
        ``log_steps_to_fall``, a natural logarithm, and ``steps_censored``, 1 where the loss did not fall in time, each
        also with the endings ``_own_init``, ``_alpha`` and ``_own_init_alpha``.
    """
    config = replace(config, seed=seed)
    split = draw_split(data.labels, seed, config.imbalance)
    own = replace(config, init_std=0.0)
    runs = (("", config, 1.0), ("_own_init", own, 1.0), ("_alpha", config, ALPHA), ("_own_init_alpha", own, ALPHA))
    found: dict[tuple[TrialConfig, float], int | None] = {}
    row: dict[str, float] = {}
    for ending, variant, factor in runs:
        if (variant, factor) not in found:  # an arm that starts from the model's own initialisation has two runs
            found[variant, factor] = _steps_until_fallen(start_training(variant, data, split), data, factor)
        steps = found[variant, factor]
        row[f"log_steps_to_fall{ending}"] = math.log(MAX_STEPS if steps is None else steps)
        row[f"steps_censored{ending}"] = float(steps is None)
    return row


def gradient_scale(config: TrialConfig, data: ResidentData, seed: int) -> dict[str, float]:  # noqa: ARG001  # nothing drawn
    """Size of the loss's gradient in the logits, relative to that of cross-entropy, in the Euclidean norm.

    Returns:
        ``gradient_scale_start`` at equal logits, and ``gradient_scale_late`` where the right class has probability .9
        and the others share the rest evenly.
    """
    loss = build_loss(config.loss, num_classes=data.num_classes)
    labels = torch.arange(data.num_classes)
    lead = math.log(_LEARNED / (1 - _LEARNED) * (data.num_classes - 1))

    def ratio(logits: Tensor) -> float:
        ours, reference = (_gradient_norm(function, logits, labels) for function in (loss, cross_entropy))
        return ours / reference

    one_hot = torch.eye(data.num_classes)
    return {"gradient_scale_start": ratio(0 * one_hot), "gradient_scale_late": ratio(lead * one_hot)}


DIAGNOSTICS: dict[str, Diagnostic] = {
    "gradient_variance": gradient_variance,
    "profile": profile,
    "gelu_forms": gelu_forms,
    "steps_to_fall": steps_to_fall,
    "gradient_scale": gradient_scale,
}


def _gradient_variance(state: TrainingState, data: ResidentData, batch_size: int, generator: torch.Generator) -> float:
    """Trace of the covariance of the gradient over `GRADIENT_DRAWS` batches of one size."""
    parameters = [parameter for parameter in state.model.parameters() if parameter.requires_grad]
    total = torch.zeros(sum(parameter.numel() for parameter in parameters), dtype=torch.float64)
    squares = 0.0
    state.model.train()
    for _ in range(GRADIENT_DRAWS):
        drawn = torch.randint(len(state.train_indices), (batch_size,), generator=generator)
        indices = state.train_indices[drawn]
        logits = forward(state.model, data.to_input(data.images[indices]), state.config.precision)
        loss = state.loss(logits, data.labels[indices]).mean()
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
        gradient = torch.cat([part.flatten() for part in gradients]).double()
        total += gradient
        squares += gradient.dot(gradient).item()
    return (squares - total.dot(total).item() / GRADIENT_DRAWS) / (GRADIENT_DRAWS - 1)


def _steps_until_fallen(state: TrainingState, data: ResidentData, factor: float) -> int | None:
    """Steps until the loss is down by `FALL`, interpolated between looks at it; None if `MAX_STEPS` do not do it."""
    generator = torch.Generator().manual_seed(state.config.seed * 16 + _STEP_STREAM)
    drawn = torch.randperm(len(state.train_indices), generator=generator)[:_EVALUATION_EXAMPLES]
    examples = state.train_indices[drawn]

    def look() -> float:
        logits = predict_logits(state, data, data.images, examples)
        return state.loss(logits, data.labels[examples]).mean().item()

    last_step, last_loss = 0, look()
    bound = (1 - FALL) * last_loss
    next_look = 1
    for step, indices in zip(range(1, MAX_STEPS + 1), training_batches(state), strict=False):
        train_on(state, data, indices, factor)
        if step < next_look:
            continue
        loss = look()
        if not math.isfinite(loss):
            return None
        if loss <= bound:
            return last_step + math.ceil((last_loss - bound) / (last_loss - loss) * (step - last_step))
        last_step, last_loss = step, loss
        next_look = min(math.ceil(step * _LOOK_GROWTH), MAX_STEPS)
    return None


def _gradient_norm(loss: Callable[[Tensor, Tensor], Tensor], logits: Tensor, labels: Tensor) -> float:
    leaf = logits.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(leaf, labels).sum(), leaf)
    return float(gradient.norm())


def _check_known(kind: str, name: str, table: Mapping[str, object]) -> None:
    if name not in table:
        raise InputError(f"Unknown {kind} {name!r}; choose from {', '.join(sorted(table))}.")
