from dataclasses import replace

import pandas as pd

from analysis.across.result import conclude
from analysis.across.takeaways import say_forest, say_ranking


def test_an_arm_that_is_better_on_every_dataset(result_of):
    said = result_of("digits-1", "letters").verdict
    assert said.startswith("focal beats cross_entropy on 2 of 2 datasets (digits by 1.")
    assert "Worse: l1 on 2 of 2." in said
    assert "hinge: no difference larger than δ on any of 2." in said
    assert "No arm's effect is shown to differ between datasets." in said


def test_an_arm_that_is_better_on_some_and_worse_on_others(result_of):
    said = result_of("digits-1", "letters", "clothes").verdict
    assert said.startswith("focal beats cross_entropy on 2 of 3 datasets (digits by")
    assert "on clothes train-size=2000: worse." in said
    assert "The effect is not the same in all datasets for focal" in said
    assert "The highest mean is not always the same arm's: focal on digits and letters" in said


def test_studies_that_share_a_dataset_are_counted_as_studies(result_of):
    said = result_of("digits-1", "digits-2").verdict
    assert "on 2 of 2 studies (digits-1 by" in said
    assert said.endswith("All studies draw on digits: nothing is known of other datasets.")


def test_too_few_seeds_decide_nothing(result_of):
    said = result_of("one-seed", "one-seed-2").verdict
    assert said.startswith("Inconclusive: with 1 seed a study no test can reach p < 0.05; it takes 6.")


def test_a_twin_is_no_finding(result_of):
    result = result_of("twins", "twins-2")
    assert "kl_div is cross_entropy under another name; searched on its own, it came out up to" in result.verdict
    assert "kl_div beats" not in result.verdict
    twin = result.scores[result.scores["twin"]]
    assert set(twin["arm"]) == {"kl_div"}
    assert twin["p_page"].isna().all()


def test_where_only_the_baseline_or_a_twin_is_shared_there_is_no_comparison(compare, result_of):
    assert result_of("digits-1", "alone").verdict == (
        "No comparison of arms: cross_entropy is the only one that all studies confirmed."
    )
    assert say_forest(result_of("digits-1", "alone")) == "No two of the arms shared can be compared."
    comparison = compare("twins", "twins-2")
    only = replace(comparison, arms=("cross_entropy", "kl_div"))
    assert conclude(only).verdict == "No comparison: kl_div is cross_entropy under another name."


def test_no_difference_anywhere_is_said_and_not_more(compare):
    comparison = compare("digits-1", "letters")
    result = conclude(replace(comparison, arms=("cross_entropy", "hinge")))
    assert result.verdict.startswith(
        "No arm is shown to beat cross_entropy on any of 2 datasets. hinge: no difference larger than δ on any of 2."
    )
    assert "2 datasets are too few for any ranking of 2 arms to stand out (Friedman p = " in result.verdict


def test_an_arm_that_is_unclear_somewhere_is_called_so(result_of):
    said = result_of("stopped", "bare").verdict  # a seed of focal diverged in the first
    assert said.startswith("focal beats cross_entropy on 1 of 2 datasets (digits by ")
    assert "; on stopped: inconclusive." in said
    assert "nan" not in said


def test_arms_that_seeds_never_share_are_not_compared(compare):
    records = [study.findings.record for study in compare("digits-1", "letters").studies]
    from analysis.across.studies import put_together

    moved = []
    for record in records:
        trials = record.trials.copy()
        trials.loc[trials["arm"] != "cross_entropy", "seed"] += 50
        moved.append(replace(record, trials=trials))
    result = conclude(put_together(moved))
    assert result.verdict.startswith("No comparison: no arm shares a seed with cross_entropy.")
    assert isinstance(result.scores, pd.DataFrame)


def test_the_ranking_says_what_so_few_datasets_could_have_shown(result_of):
    assert "it takes 6 datasets" in say_ranking(result_of("bare", "stopped"))
    several = say_ranking(result_of("digits-1", "letters", "clothes"))
    assert "The smallest p that 3 datasets can give is 0.0017." in several
    assert "No two arms are told apart: Nemenyi's critical difference is 2.71 ranks" in several
    assert "one dataset gives one order and no test" in say_ranking(result_of("digits-1", "digits-2"))


def test_the_mean_over_datasets_is_labelled_or_its_absence_explained(result_of):
    assert "that takes 3 datasets, and these studies have 2" in say_forest(result_of("digits-1", "letters"))
    said = say_forest(result_of("digits-1", "letters", "clothes"))
    assert "random-effects mean over 3 datasets" in said
    assert "read focal study by study" in said
    assert "lacks the spread" in say_forest(result_of("digits-1", "letters", "constant"))
