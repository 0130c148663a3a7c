"""Every exact statement gets its verdict by computing: a wrong loss, metric or formula turns it round."""

import dataclasses
import json
import math

import pytest
import torch
from torch.nn import functional as F

import trainables.identities
import trainables.probes
from trainables.config import InputError
from trainables.identities import IDENTITIES, Identity, measure_identities
from trainables.losses import LOSSES, cross_entropy, focal, kl_div, l1_logits, mse_logits, smooth_l1_logits
from trainables.steps import one_thread

VERDICTS = {
    "raising_gamma_raises_loss": False,
    "lower_gamma_higher_loss_everywhere": True,
    "weighted_recall_is_accuracy": True,
    "macro_recall_is_accuracy_when_balanced": True,
    "macro_recall_is_accuracy_always": False,
    "smooth_l1_is_l1_near_zero_and_mse_far_away": False,
    "smooth_l1_is_mse_near_zero_and_l1_far_away": True,
    "l1_gradient_grows_with_error": False,
    "mse_exceeds_l1_in_value_above_one": True,
    "mse_exceeds_l1_in_gradient_above_half": True,
    "cross_entropy_needs_one_hot": False,
    "mse_and_l1_need_one_hot": True,
    "kl_div_equals_cross_entropy": True,
    "naive_softmax_overflows": True,
    "naive_kl_fails_at_zero_probability": True,
    "max_shift_is_finite": True,
    "written_focal_has_nan_gradient": True,
    "our_focal_is_finite": True,
}


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    with one_thread():
        yield


def focal_that_rises(logits, labels, *, gamma=2.0):
    return cross_entropy(logits, labels) * (1 + torch.exp(-cross_entropy(logits, labels))) ** gamma


def focal_that_rises_where_easy(logits, labels, *, gamma=2.0):
    """Right but for examples of a probability above .999."""
    entropy = cross_entropy(logits, labels)
    return torch.where(entropy < 1e-3, entropy * (1 + gamma), focal(logits, labels, gamma=gamma))


def focal_as_reports_write_it(logits, labels, *, gamma=0.5):
    entropy = F.cross_entropy(logits.float(), labels, reduction="none")
    return (1 - torch.exp(-entropy)) ** gamma * entropy


def one_ulp_off(logits, labels):
    values = kl_div(logits, labels)
    return values + (torch.nextafter(values, values + 1) - values).detach()


def gradient_one_ulp_off(logits, labels):
    """Values to the bit, every derivative larger by an ulp."""
    values = kl_div(logits, labels)
    return values.detach() + (values - values.detach()) * (1 + 2**-23)


def huber_the_wrong_way_round(logits, labels):
    errors = logits - F.one_hot(labels, logits.shape[1])
    return torch.where(errors.abs() < 1, errors.abs(), errors**2).mean(1)


def half_a_huber(logits, labels):
    """Quadratic near zero and at a distance too."""
    return mse_logits(logits, labels) / 2


def l1_that_grows(logits, labels):
    return l1_logits(logits, labels) ** 2


def l1_doubled(logits, labels):
    return 2 * l1_logits(logits, labels)


def cross_entropy_of_one_hot_only(logits, targets):
    return -(targets.reshape(logits.shape) * F.log_softmax(logits, dim=1)).sum(1)


def cross_entropy_of_another_class(logits, labels):
    return cross_entropy(logits, (labels + 1) % logits.shape[1])


def cross_entropy_unshifted(logits, labels):
    scores = logits.float()
    return scores.exp().sum(1).log() - scores.gather(1, labels[:, None]).squeeze(1)


def metrics_that_swap_recalls(confusion):
    hits, support = confusion.diagonal().double(), confusion.sum(1).double()
    recall = hits / support
    return {
        "accuracy": (hits.sum() / support.sum()).item(),
        "recall_weighted": recall.mean().item(),
        "recall_macro": (recall @ (support / support.sum())).item(),
    }


def metrics_off_by_a_little(confusion):
    accuracy = (confusion.diagonal().sum() / confusion.sum()).item()
    return {"accuracy": accuracy, "recall_macro": accuracy + 1e-9, "recall_weighted": accuracy}


def metrics_that_are_not_numbers(confusion):
    return {"accuracy": 0.5, "recall_macro": math.nan, "recall_weighted": math.nan}


#: Statement → (where the wrong thing goes, its name there, the wrong thing). Each turns the statement round.
IN_TABLE, IN_PROBES, IN_IDENTITIES = LOSSES, trainables.probes, trainables.identities
FLIPS = [
    ("raising_gamma_raises_loss", IN_TABLE, "focal", focal_that_rises),
    ("lower_gamma_higher_loss_everywhere", IN_TABLE, "focal", focal_that_rises),
    ("lower_gamma_higher_loss_everywhere", IN_TABLE, "focal", focal_that_rises_where_easy),
    ("weighted_recall_is_accuracy", IN_PROBES, "classification_metrics", metrics_that_swap_recalls),
    ("weighted_recall_is_accuracy", IN_PROBES, "classification_metrics", metrics_that_are_not_numbers),
    ("macro_recall_is_accuracy_when_balanced", IN_PROBES, "classification_metrics", metrics_off_by_a_little),
    ("macro_recall_is_accuracy_always", IN_PROBES, "classification_metrics", metrics_that_swap_recalls),
    ("smooth_l1_is_l1_near_zero_and_mse_far_away", IN_TABLE, "smooth_l1_logits", huber_the_wrong_way_round),
    ("smooth_l1_is_mse_near_zero_and_l1_far_away", IN_TABLE, "smooth_l1_logits", huber_the_wrong_way_round),
    ("smooth_l1_is_mse_near_zero_and_l1_far_away", IN_TABLE, "smooth_l1_logits", half_a_huber),
    ("smooth_l1_is_mse_near_zero_and_l1_far_away", IN_TABLE, "smooth_l1_logits", l1_logits),
    ("smooth_l1_is_mse_near_zero_and_l1_far_away", IN_TABLE, "smooth_l1_logits", lambda z, y: 0 * z.sum(1)),
    ("l1_gradient_grows_with_error", IN_TABLE, "l1_logits", l1_that_grows),
    ("mse_exceeds_l1_in_value_above_one", IN_TABLE, "l1_logits", l1_doubled),
    ("mse_exceeds_l1_in_gradient_above_half", IN_TABLE, "mse_logits", smooth_l1_logits),
    ("cross_entropy_needs_one_hot", IN_TABLE, "cross_entropy", cross_entropy_of_one_hot_only),
    ("cross_entropy_needs_one_hot", IN_TABLE, "cross_entropy", cross_entropy_of_another_class),
    ("mse_and_l1_need_one_hot", F, "mse_loss", lambda z, y: ((z - _one_hot(y, z)) ** 2).mean()),
    ("mse_and_l1_need_one_hot", F, "l1_loss", lambda z, y: (z - _one_hot(y, z)).abs().mean()),
    ("kl_div_equals_cross_entropy", IN_TABLE, "kl_div", one_ulp_off),
    ("kl_div_equals_cross_entropy", IN_TABLE, "kl_div", gradient_one_ulp_off),
    ("kl_div_equals_cross_entropy", IN_TABLE, "kl_div", cross_entropy_unshifted),
    ("naive_softmax_overflows", IN_IDENTITIES, "naive_softmax", lambda z: z.softmax(1)),
    ("naive_kl_fails_at_zero_probability", IN_IDENTITIES, "naive_kl", lambda t, p: (t / p.clamp_min(1e-9)).sum(1)),
    ("max_shift_is_finite", IN_IDENTITIES, "shifted_cross_entropy", cross_entropy_unshifted),
    ("max_shift_is_finite", IN_TABLE, "focal", focal_as_reports_write_it),
    ("written_focal_has_nan_gradient", IN_IDENTITIES, "written_focal", focal),
    ("our_focal_is_finite", IN_TABLE, "focal", focal_as_reports_write_it),
]


def _one_hot(labels, like):
    return labels if labels.dim() == 2 else F.one_hot(labels.long(), like.shape[1])


def test_every_identity_has_a_verdict_and_a_counterexample_here():
    assert set(VERDICTS) == set(IDENTITIES) == {name for name, *_ in FLIPS}


@pytest.mark.parametrize(("name", "holds"), VERDICTS.items())
def test_identity_has_the_verdict_that_algebra_gives_it(name, holds):
    assert IDENTITIES[name]().holds is holds


@pytest.mark.parametrize(("name", "place", "attribute", "wrong"), FLIPS)
def test_identity_turns_round_with_a_wrong_loss_metric_or_formula(monkeypatch, name, place, attribute, wrong):
    if isinstance(place, dict):
        monkeypatch.setitem(place, attribute, wrong)
    else:
        monkeypatch.setattr(place, attribute, wrong)
    identity = IDENTITIES[name]()
    assert identity.holds is not VERDICTS[name]
    assert identity.holds is (identity.value <= identity.tolerance)
    assert math.isfinite(identity.value)


def test_where_a_false_statement_fails_it_fails_by_far():
    for name, holds in VERDICTS.items():
        identity = IDENTITIES[name]()
        assert identity.value <= 1e-15 if holds else identity.value > 0.1


def test_measured_identities_are_plain_json_that_names_all_fields():
    measured = measure_identities()
    assert json.loads(json.dumps(measured, allow_nan=False)) == measured
    assert list(measured) == list(IDENTITIES)
    for row in measured.values():
        assert list(row) == [field.name for field in dataclasses.fields(Identity)]
        assert row["statement"]
        assert row["detail"]


def test_measured_identities_are_the_same_again():
    assert measure_identities() == measure_identities()


def test_identities_leave_the_random_generator_alone():
    before = torch.random.get_rng_state()
    measure_identities()
    assert torch.equal(torch.random.get_rng_state(), before)


def test_only_the_identities_asked_for_are_measured():
    assert list(measure_identities(["our_focal_is_finite"])) == ["our_focal_is_finite"]
    assert measure_identities([]) == {}


def test_unknown_identity_is_refused_with_the_choices():
    with pytest.raises(InputError) as refusal:
        measure_identities(["kl_is_ce"])
    message = str(refusal.value)
    assert "'kl_is_ce'" in message
    assert all(name in message for name in IDENTITIES)
    assert "\n" not in message
