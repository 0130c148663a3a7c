from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from opda.nonparametric import EmpiricalDistribution

from analysis.band import equal_tailed_band, kolmogorov_band
from analysis.figures.style import build_style
from analysis.figures.table import FIGURES
from analysis.figures.tuning import MAX_TIGHT, info_tuning, plot_tuning, say_tuning, search_scores, tuning_curve

STUDIES, TRIALS = 2000, 12
#: So dense, and so far beyond the trials, that the curve is the whole distribution function.
BUDGETS = np.geomspace(0.05, 100, 150)


def build_search(scores, *, reasons=None):
    rows = [
        {
            "arm": arm,
            "phase": "search",
            "number": number,
            "start": pd.Timestamp("2026-01-01", tz="UTC"),
            "stop_reason": (reasons or {}).get((arm, number), "completed"),
            "val_accuracy": score,
        }
        for arm, own in scores.items()
        for number, score in enumerate(own)
    ]
    return pd.DataFrame(rows)


def covered(scores, truth, band):
    curve = tuning_curve(scores, BUDGETS, band=band)
    return bool((curve["low"] <= truth).all() and (truth <= curve["high"]).all())


@pytest.mark.parametrize("band", [equal_tailed_band, kolmogorov_band])
def test_bands_hold_for_every_number_of_trials_at_once_in_95_of_100_random_searches(band):
    generator = np.random.default_rng(30)
    truth = 0.5 ** (1 / BUDGETS)  # the median of the best of k uniform draws
    held = [covered(generator.random(TRIALS), truth, band) for _ in range(STUDIES)]
    assert 0.935 <= np.mean(held) <= 0.97


def test_bands_of_scores_that_tie_hold_at_least_as_often():
    generator = np.random.default_rng(31)
    truth = np.ceil(0.5 ** (1 / BUDGETS) * 10) / 10
    held = [covered(np.ceil(generator.random(TRIALS) * 10) / 10, truth, equal_tailed_band) for _ in range(STUDIES)]
    assert np.mean(held) >= 0.94


def test_the_median_of_the_best_is_that_of_drawing_again():
    scores = np.array([0.2, 0.9, 0.5, 0.7])
    drawn = np.random.default_rng(4).choice(scores, size=(20_001, 3)).max(axis=1)
    curve = tuning_curve(scores, [1, 3, 4]).set_index("trials")
    assert curve.loc[3, "median"] == np.median(drawn)
    assert (curve["low"] <= curve["median"]).all()
    assert (curve["median"] <= curve["high"]).all()
    assert curve.loc[4, "high"] == 1  # four trials cannot exclude a better one


@pytest.mark.parametrize(("band", "method"), [(equal_tailed_band, "ld_equal_tailed"), (kolmogorov_band, "ks")])
@pytest.mark.parametrize("size", [1, 4, 9])
def test_curves_are_those_of_opda_but_for_its_simulation_of_the_band(band, method, size):
    scores = np.random.default_rng(5).random(size)
    theirs = EmpiricalDistribution.confidence_bands(
        scores, 0.95, a=0.0, b=1.0, method=method, generator=np.random.default_rng(0), n_jobs=1
    )
    ours = tuning_curve(scores, [1, 2, 5], band=band)
    for name, curve in zip(("high", "median", "low"), theirs, strict=True):
        assert ours[name].to_numpy() == pytest.approx(curve.quantile_tuning_curve([1, 2, 5]), abs=1e-12)


@pytest.mark.parametrize("scores", [[], [0.5, 1.2], [np.nan]])
def test_scores_are_accuracies(scores):
    with pytest.raises(ValueError, match=r"`scores` must be one or more accuracies in \[0, 1\]"):
        tuning_curve(scores, [1])


def test_a_failed_trial_found_nothing_and_one_that_runs_is_left_out():
    scores = {"a": [0.5, 0.8, np.nan, 0.9, 0.1]}
    reasons = {("a", 1): "pruned", ("a", 2): "failed", ("a", 3): "running", ("a", 4): "diverged"}
    assert search_scores(build_search(scores, reasons=reasons))["score"].tolist() == [0.5, 0.8, 0.0, 0.1]
    assert search_scores(build_search({"a": [0.7]}, reasons={("a", 0): "failed"}))["score"].tolist() == [0.0]


def test_trials_count_in_the_order_of_their_numbers():
    search = build_search({"a": [0.3, 0.6, 0.5, 0.9]})
    assert search_scores(search.iloc[::-1])["score"].tolist() == [0.3, 0.6, 0.5, 0.9]


def test_the_tuning_curve_has_every_trial_of_every_arm(findings_of):
    info = info_tuning(findings_of("truth"))
    assert info.groupby("arm")["trials"].agg(list).tolist() == [[1, 2, 3, 4, 5, 6]] * 4
    focal = info.query("arm == 'focal'").set_index("trials")
    assert focal["recorded"].tolist() == pytest.approx([0.905] + [0.915] * 5)
    assert focal.loc[6, "median"] == pytest.approx(0.915)


def test_many_trials_are_thinned_and_their_bands_take_no_time(findings_of):
    generator = np.random.default_rng(7)
    search = build_search({"a": generator.random(MAX_TIGHT + 250)})
    findings = findings_of("truth")
    info = info_tuning(replace(findings, record=replace(findings.record, trials=search)))
    assert 100 <= len(info) <= 120
    assert info["trials"].iloc[[0, -1]].tolist() == [1, MAX_TIGHT + 250]
    assert info["recorded"].iloc[-1] == search["val_accuracy"].max()


def test_nothing_but_failures_draws_nothing(findings_of):
    findings = findings_of("truth")
    search = build_search({"a": [np.nan, np.nan]}, reasons={("a", 0): "failed", ("a", 1): "failed"})
    assert info_tuning(replace(findings, record=replace(findings.record, trials=search))).empty


@pytest.mark.parametrize(
    ("search", "stopping", "said"),
    [
        ("random", "none", "each arm's band holds as it stands"),
        ("random", "asha", "ASHA cut weak trials short, so bands describe redrawing"),
        ("tpe", "asha", "TPE's trials depend on one another and ASHA cut weak trials short, so bands describe"),
        ("tpe", "none", "TPE's trials depend on one another, so bands describe redrawing"),
        ("grid", "none", "a grid's points are not drawn at random, so bands describe redrawing"),
        (None, None, "how trials were proposed is not on record, so bands describe redrawing"),
    ],
)
def test_the_takeaway_says_whether_the_bands_hold_for_this_study(findings_of, search, stopping, said):
    findings = findings_of("truth")
    protocol = {**findings.record.protocol, "search": search, "stopping": stopping}
    findings = replace(findings, record=replace(findings.record, protocol=protocol))
    line = say_tuning(info_tuning(findings), build_style(findings))
    assert said in line
    assert line.startswith("Half of the searches of 6 trials like those of focal find 91.50% or more (95% band from ")


def test_a_panel_shows_the_band_the_median_what_happened_and_the_baseline(findings_of):
    findings = findings_of("truth")
    info, style = FIGURES["tuning"].info(findings), build_style(findings)
    own = info.query("arm == 'focal'")
    panel = [trace for trace in plot_tuning(info, style).data if trace.xaxis == "x2"]  # the second arm's
    low, high, baseline, recorded, median = panel
    assert 100 - np.array(low.y) == pytest.approx(100 * own["low"])
    assert high.fill == "tonexty"
    assert 100 - np.array(median.y) == pytest.approx(100 * own["median"])
    assert 100 - np.array(recorded.y) == pytest.approx(100 * own["recorded"])
    assert 100 - np.array(baseline.y) == pytest.approx(100 * info.query("arm == 'cross_entropy'")["median"])
    assert median.line.color == style.colours["focal"]
    assert "best of 6: median 91.50%" in median.hovertext[-1]
    assert "to open" in median.hovertext[-1]
