import math
import runpy
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from analysis.figures.reliability import info_reliability, plot_reliability, say_reliability
from analysis.figures.style import build_style
from analysis.findings import find

SYNTHETIC = runpy.run_path(str(Path(__file__).parents[1] / "synthetic_final.py"))
SEEDS = range(1, 11)


def draw(arms, **protocol):
    findings = find(SYNTHETIC["build_final_record"](arms, **protocol))
    info, style = info_reliability(findings), build_style(findings)
    return info, plot_reliability(info, style), say_reliability(info, style)


def arm(overconfidence, noise=0.005):
    """Ten seeds around an overconfidence."""
    luck = np.random.default_rng(abs(round(1e4 * overconfidence))).normal(0, noise, len(SEEDS))
    return {seed: {"overconfidence": overconfidence + luck[place]} for place, seed in enumerate(SEEDS)}


def broken(value=math.nan):
    final = SYNTHETIC["final_record"](0.8, num_classes=10, num_test=100)
    final["reliability"]["confidence"][-1] = value
    return {"final": final}


def test_a_panel_shows_the_bins_beside_the_diagonal_with_the_error_in_its_title():
    sure = arm(0.05)
    info, drawing, _ = draw({"base": arm(0.02), "sure": sure})
    diagonal, bins = drawing.data[2:]
    assert (list(diagonal.x), list(diagonal.y)) == ([0, 100], [0, 100])
    assert (bins.x - bins.y).tolist() == pytest.approx(
        [100 * np.mean([s["overconfidence"] for s in sure.values()])] * 7
    )
    errors = np.array([100 * seed["overconfidence"] for seed in sure.values()])
    low, high = stats.t.interval(0.95, 9, errors.mean(), stats.sem(errors))
    titles = [note.text for note in drawing.layout.annotations]
    assert f"<b>sure</b><br>ECE {errors.mean():.2f} [{low:.2f}, {high:.2f}]" in titles
    assert "Confidence, the highest predicted probability (%)" in titles
    assert "of 10 seeds" in bins.hovertext[0]
    assert info.query("arm == 'sure'")["count"].sum() == 10 * 1000


def test_markers_are_larger_where_there_are_more_images():
    final = SYNTHETIC["final_record"](0.8, num_classes=10, num_test=700)
    final["reliability"]["counts"][12] += 5000
    _, drawing, _ = draw({"base": {1: {"final": final}}})
    sizes = drawing.data[1].marker.size
    assert sizes[-1] > 2 * sizes[0]


def test_the_takeaway_tells_who_is_too_sure_and_who_is_best_calibrated():
    _, _, said = draw({"base": arm(0.05), "close": arm(0.01, 0.001), "shy": arm(-0.06), "even": arm(0.0, 0.02)})
    assert said.startswith("2 of 4 arms are surer than they are right (most: base, +")
    assert ", 1 are less sure (most: shy, -" in said
    assert "; close is best calibrated, ECE 1.0" in said
    assert "against base (Holm p = 0.0" in said


def test_how_sure_arms_are_holds_for_all_of_them_together():
    info, _, _ = draw({"base": arm(0.02), **{f"arm{place}": arm(0.02 + place / 100) for place in range(1, 10)}})
    row = info.query("arm == 'base'").iloc[0]
    gaps = np.array([100 * seed["overconfidence"] for seed in arm(0.02).values()])
    expected = stats.t.interval(1 - 0.05 / 10, 9, gaps.mean(), stats.sem(gaps))
    assert row[["gap_low", "gap_high"]].tolist() == pytest.approx(list(expected))


def test_a_better_calibration_that_may_be_chance_is_told_so():
    other = {seed: {"overconfidence": 0.03 if seed % 2 else 0.008} for seed in SEEDS}
    _, _, said = draw({"base": {seed: {"overconfidence": 0.02} for seed in SEEDS}, "other": other})
    assert "other is best calibrated" in said
    assert "so it may be chance" in said


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_bins_that_are_not_finite_are_left_out_and_told(value):
    runs = arm(0.02) | {3: broken(value), 4: {"diverged": True}}
    info, drawing, said = draw({"base": arm(0.02), "odd": runs})
    assert said.endswith(" 2 seeds without finite bins left out.")
    assert info.query("arm == 'odd'")["num_seeds"].unique().tolist() == [8]
    assert any("8 seeds; 2 left out" in text for trace in drawing.data for text in trace.hovertext or ())
    assert np.isfinite(np.concatenate([trace.y for trace in drawing.data])).all()


def test_a_study_of_bins_that_are_not_finite_draws_nothing():
    assert info_reliability(find(SYNTHETIC["build_final_record"]({"base": {1: broken(), 2: broken(math.inf)}}))).empty


@pytest.mark.parametrize(
    ("arms", "start"),
    [
        ({"base": {1: {}}}, "Confidence minus accuracy +2.00 points, "),
        ({"base": arm(0.05)}, "base is overconfident (confidence minus accuracy +"),
        (
            {"base": {1: {}}, "other": {1: {"overconfidence": -0.1}}},
            "Confidence minus accuracy runs from -10.00 to +2.00",
        ),
        ({"base": {1: {}}, "other": {2: {}}}, "Confidence minus accuracy runs from +2.00 to +2.00"),
        ({"other": {1: {}, 2: {}}, "third": {1: {}}}, ""),
    ],
)
def test_little_on_record_claims_little(arms, start):
    _, drawing, said = draw(arms)
    texts = [text for trace in drawing.data for text in trace.hovertext or ()]
    assert not any("nan" in text for text in [said, *texts, *(note.text for note in drawing.layout.annotations)])
    assert said.startswith(start)
    assert said.endswith(" points.") or len(arms) > 1


def test_a_twin_of_the_baseline_is_no_rival():
    _, _, said = draw({"base": arm(0.05), "twin": arm(0.02)}, controls={"twin": "base"})
    assert "(the same function as base)" in said


def test_nothing_confirmed_draws_nothing(findings_of):
    assert info_reliability(findings_of("searching")).empty
