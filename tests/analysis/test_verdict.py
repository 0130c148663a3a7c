import pandas as pd
import pytest

from analysis.compare import COMPARISON_COLUMNS, mark_luck, twins_of
from analysis.verdict import differs_beside, verdict

PROTOCOL = {"baseline": "ce", "delta": 1.0}
ORDINARY = {
    "num_seeds": 10, "p": 0.2, "p_holm": 0.5, "sd_points": 0.4,
    "difference_points": 0.1, "low_points": -0.2, "high_points": 0.4,
    "probability_better": 0.6, "equivalence_low_points": -0.1, "equivalence_high_points": 0.3, "equivalence_p": 0.001,
    "equivalent": True, "smallest_p": 0.004, "detectable_points": 0.6, "num_diverged": 0, "num_unpaired": 0,
}  # fmt: skip
BETTER = {"difference_points": 2.0, "low_points": 1.5, "high_points": 2.5, "p_holm": 0.004, "equivalent": False}
WORSE = {"difference_points": -3.0, "low_points": -4.0, "high_points": -2.0, "p_holm": 0.004, "equivalent": False}
UNCLEAR = {"equivalent": False, "detectable_points": 2.25}


def comparisons(**arms):
    rows = [ORDINARY | {"arm": arm} | change for arm, change in arms.items()]
    frame = pd.DataFrame(rows, columns=list(COMPARISON_COLUMNS)).sort_values("difference_points", ascending=False)
    return mark_luck(frame, ())


def table(*arms, num_seeds=10):
    rows = [
        {"arm": arm, "num_seeds": num_seeds, "accuracy": 0.9, "accuracy_low": 0.88, "accuracy_high": 0.92}
        for arm in arms
    ]
    return pd.DataFrame(rows, columns=["arm", "num_seeds", "accuracy", "accuracy_low", "accuracy_high"])


def say(frame, *arms, **protocol):
    protocol = PROTOCOL | protocol
    marked = mark_luck(frame, twins_of(str(protocol["baseline"]), protocol))
    return verdict(marked, table(*(arms or ("ce", *frame["arm"]))), protocol)


def test_a_winner_is_named_with_its_difference_and_interval():
    assert (
        say(comparisons(focal=BETTER))
        == "focal beats ce by 2.00 [1.50, 2.50] points of test accuracy (Holm p = 0.004, 10 seeds)."
    )


def test_a_winner_by_less_than_delta_is_called_so():
    sentence = say(comparisons(focal=BETTER | {"equivalent": True}), delta=3.0)
    assert "surely by less than δ = 3" in sentence


def test_every_other_arm_is_accounted_for():
    sentence = say(comparisons(focal=BETTER, l1=WORSE, mse={}, hinge=UNCLEAR))
    assert "l1 is worse, by 3.00 [2.00, 4.00] points." in sentence
    assert "mse: no difference larger than δ = 1 points." in sentence
    assert "hinge: inconclusive, the study could have seen only effects of at least 2.25 points." in sentence


def test_many_arms_are_counted_and_not_listed():
    assert "4 arms are worse, a most, by" in say(
        comparisons(d=WORSE, b=WORSE, c=WORSE, a=WORSE | {"difference_points": -5})
    )


def test_no_winner_with_losers_says_no_arm_beats_the_baseline():
    assert say(comparisons(l1=WORSE, mse={})).startswith("No arm beats ce. l1 is worse")


def test_equivalence_of_all_is_no_difference_larger_than_delta():
    sentence = say(comparisons(mse={}, l1={}))
    assert sentence == "No difference larger than δ = 1 points was found: all 2 arms lie within it of ce (10 seeds)."


def test_neither_difference_nor_equivalence_is_inconclusive_with_what_could_have_been_seen():
    sentence = say(comparisons(mse={}, l1=UNCLEAR))
    assert sentence.startswith("Inconclusive: no arm differs from ce beyond chance")
    assert "at least 2.25 points" in sentence
    assert "mse is within δ = 1" in sentence


def test_too_few_seeds_say_how_many_would_do():
    few = {"num_seeds": 5, "smallest_p": 0.0625} | {"difference_points": -4.0, "low_points": -5.0, "high_points": -3.0}
    sentence = say(comparisons(l1=few))
    assert "with 5 seeds and 1 comparison no test can reach p < 0.05" in sentence
    assert "6 seeds would do" in sentence
    assert "l1, -4.00 [-5.00, -3.00] points against ce" in sentence


def test_the_largest_difference_of_too_few_seeds_is_not_that_of_the_baseline_under_another_name():
    few = {"num_seeds": 5, "smallest_p": 0.0625, "low_points": -1.0, "high_points": 3.0}
    frame = comparisons(kl=few | {"difference_points": 2.0}, l1=few | {"difference_points": 1.0})
    assert "largest difference seen is l1, +1.00" in say(frame, controls={"kl": "ce"})
    assert "largest difference seen is kl, +2.00" in say(frame[frame["arm"] == "kl"], controls={"kl": "ce"})


def test_the_baseline_under_another_name_is_no_finding_but_the_measure_of_luck():
    sentence = say(comparisons(kl=WORSE, focal=BETTER | {"difference_points": 4.0}), controls={"kl": "ce"})
    assert sentence.startswith("focal beats ce")
    assert "worse" not in sentence
    assert sentence.endswith(
        "kl is ce under another name; searched on its own, it came out -3.00 [-4.00, -2.00] points apart:"
        " so much can be luck of the search."
    )
    assert say(comparisons(kl=WORSE), controls={"kl": "ce"}).startswith(
        "No other function than ce was confirmed. kl is"
    )
    assert "kl is worse" in say(comparisons(kl=WORSE), controls={"kl": "other"})


def test_a_difference_no_larger_than_the_luck_of_the_search_is_no_finding():
    small = {"difference_points": -1.0, "low_points": -1.5, "high_points": -0.5, "p_holm": 0.01}
    large = {"focal": BETTER | {"difference_points": 5.0}, "l1": WORSE | {"difference_points": -4.0}}
    both = say(comparisons(kl=WORSE, mse=small, **large), controls=TWIN)
    assert both.startswith("focal beats ce")
    assert "mse differs over seeds (-1.00), but by no more than the 3.00 points that luck" in both
    assert "l1 is worse" in both
    assert "mse is worse" not in both
    alone = say(comparisons(kl=WORSE, mse=small), controls=TWIN)
    assert alone.startswith("No arm differs from ce by more than the luck of a search can do. mse differs over seeds")
    assert "mse is worse" in say(comparisons(mse=small))


def test_equivalence_within_less_than_the_luck_of_the_search_is_one_of_winners():
    same = {"difference_points": 0.1, "low_points": -0.2, "high_points": 0.4, "equivalent": True}
    assert say(comparisons(kl=WORSE, mse=same), controls=TWIN).endswith(
        "so much can be luck of the search, and what lies within δ does so for these winners only."
    )
    near = {"difference_points": -0.5, "low_points": -0.9, "high_points": -0.1}
    assert say(comparisons(kl=near, mse=same), controls=TWIN).endswith("so much can be luck of the search.")


TWIN = {"kl": "ce"}


def reported(*, regime="fair", **arms):
    fixed = {"loss": "cross_entropy", "activation": "tanh", "epochs": 10, "optimizer.learning_rate": 0.01}
    specs = [{"name": arm, "fixed": fixed | change} for arm, change in ({"ce": {}} | arms).items()]
    return PROTOCOL | {"report": "003", "factor": "loss", "regime": regime, "arms": specs}


def test_an_arm_of_a_report_that_differs_in_more_than_the_factor_is_named_by_what():
    arms = {"focal": {"loss": "focal", "loss.gamma": 2}, "long": {"epochs": 50}, "fast": {"optimizer.learning_rate": 1}}
    assert differs_beside(reported(**arms)) == {"long": ["epochs"]}
    assert differs_beside(reported(regime="stated", **arms)) == {
        "long": ["epochs"],
        "fast": ["optimizer.learning_rate"],
    }
    assert differs_beside({"arms": reported(**arms)["arms"], "baseline": "ce", "factor": "loss"}) == {}
    assert differs_beside(reported(**arms) | {"factor": "setting"}) == {}


def test_the_verdict_on_a_report_says_that_one_baseline_is_no_fair_rival_of_all():
    protocol = reported(focal={"loss": "focal"}, long={"epochs": 50}, relu={"activation": "relu"})
    frame = comparisons(focal=BETTER, long={}, relu={})
    sentence = verdict(frame, table("ce", *frame["arm"]), protocol)
    assert sentence.startswith("focal beats ce")
    assert sentence.endswith(
        "2 of 3 arms differ from ce in more than the loss (activation, epochs), so what is said here is not the"
        " report's own contrast: that stands in the table of claims."
    )
    one = comparisons(focal=BETTER, long={})
    assert "1 of 2 arms differs from ce" in verdict(one, table("ce", *one["arm"]), protocol)
    none = comparisons(focal=BETTER)
    assert "contrast" not in verdict(none, table("ce", *none["arm"]), protocol)


def test_diverged_seeds_are_mentioned():
    assert "diverged count with chance accuracy (l1)" in say(comparisons(l1=WORSE | {"num_diverged": 2}))


def test_nothing_confirmed_is_no_verdict():
    assert verdict(comparisons(), table("ce", "l1", num_seeds=0), PROTOCOL).startswith("No verdict yet")
    assert verdict(comparisons(), table(), {}).startswith("No verdict yet")


def test_a_single_arm_is_no_comparison():
    assert "only one arm was confirmed (ce, test accuracy 90.00% [88.00%, 92.00%], 10 seeds)" in say(
        comparisons(), "ce"
    )


def test_a_missing_baseline_is_named():
    assert "the baseline ce has no confirm run on record; highest mean: l1" in say(comparisons(), "l1", "mse")


def test_arms_without_a_common_seed_are_no_comparison():
    assert "no arm shares a seed with the baseline ce" in say(comparisons(), "ce", "mse")


@pytest.mark.parametrize(
    ("study", "start"),
    [
        ("truth", "focal beats cross_entropy by 1."),
        ("searching", "No verdict yet"),
        ("one-seed", "Inconclusive: with 1 seed"),
        ("alone", "No comparison: only one arm"),
        ("joint", "focal beats cross_entropy"),
        ("bare", "focal beats cross_entropy"),
    ],
)
def test_the_verdict_on_a_study_of_known_truth(findings_of, study, start):
    assert findings_of(study).verdict.startswith(start)
