import runpy
from pathlib import Path

import numpy as np
import pytest

from analysis.figures.corruption import MAX_BANDS, info_corruption, plot_corruption, say_corruption
from analysis.figures.style import build_style
from analysis.findings import find

SYNTHETIC = runpy.run_path(str(Path(__file__).parents[1] / "synthetic_final.py"))
SEEDS = range(1, 11)


def draw(arms, **protocol):
    findings = find(SYNTHETIC["build_final_record"](arms, **protocol))
    info, style = info_corruption(findings), build_style(findings)
    return info, plot_corruption(info, style), say_corruption(info, style)


def arm(*, noise=0.01, shift=0.0, **given):
    """Ten seeds whose accuracy differs by a seed's own luck."""
    luck = np.random.default_rng(abs(round(1000 * shift))).normal(0, noise, len(SEEDS))
    return {seed: {"accuracy": 0.8 + shift + luck[place]} | given for place, seed in enumerate(SEEDS)}


def test_each_corruption_has_its_panel_with_the_unit_of_its_severity():
    info, drawing, _ = draw({"base": arm(), "tough": arm(drop=0.1)})
    titles = [note.text for note in drawing.layout.annotations]
    assert [f"<b>{name}</b>" in titles for name in ("Gaussian noise", "Blur", "Brightness")] == [True] * 3
    axes = {drawing.layout[f"xaxis{place or ''}"].title.text for place in (0, 2, 3, 4, 5, 6)}
    assert {"SD σ of the noise, pixels in [0, 1]", "SD of the blur (pixels)", "Share of the contrast removed"} <= axes
    assert "Test accuracy, mean over seeds (%)" in titles
    first = next(trace for trace in drawing.data if trace.name == "tough")
    own = info.query("arm == 'tough' and corruption == 'gaussian_noise'")
    assert first.x.tolist() == [0, 0.04, 0.06, 0.08, 0.09, 0.1, 0.2, 0.3, 0.5, 1]
    assert first.y.tolist() == pytest.approx((100 * own["mean"]).tolist())


def test_the_legend_names_each_arm_once():
    _, drawing, _ = draw({"base": arm(), "tough": arm(drop=0.1)})
    assert [trace.name for trace in drawing.data if trace.showlegend] == ["base", "tough"]


@pytest.mark.parametrize(("others", "banded"), [(1, 2), (MAX_BANDS - 1, MAX_BANDS), (MAX_BANDS, 1)])
def test_bands_of_many_arms_would_hide_each_other(others, banded):
    arms = {"base": arm(), **{f"arm{place}": arm(shift=0.01 * place) for place in range(others)}}
    _, drawing, _ = draw(arms)
    bands = [trace.legendgroup for trace in drawing.data if trace.fill == "toself"]
    assert len(bands) == 6 * banded
    assert "base" in bands


def test_the_takeaway_names_the_arm_that_loses_least_and_by_how_much():
    _, _, said = draw({"base": arm(drop=0.4), "tough": arm(drop=0.1), "frail": arm(drop=0.6)})
    assert said == (
        "Gaussian noise (mean over severities 0 to 1): tough loses least, 5.0 points of accuracy, 15.00 [15.00, 15.00] "
        "fewer than base (Holm p = 0.0039); beyond chance 1 of 2 arms lost less than base, 1 more."
    )


def test_the_takeaway_says_where_the_difference_may_be_chance():
    other = arm(shift=0.005)
    for seed in SEEDS:
        other[seed]["drop"] = 0.2 + (0.08 if seed % 2 else -0.1)
    _, _, said = draw({"base": arm(), "other": other})
    assert "other loses least" in said
    assert "so it may be chance" in said
    assert "beyond chance 0 of 1 arm lost less than base, 0 more" in said


def test_an_arm_that_had_less_to_lose_is_told():
    _, _, said = draw({"base": arm(drop=0.4), "weak": arm(shift=-0.3, drop=0.1)})
    assert "though it starts 30" in said


def test_a_twin_of_the_baseline_is_no_finding():
    _, _, said = draw({"base": arm(drop=0.4), "twin": arm(drop=0.1)}, controls={"twin": "base"})
    assert "beyond chance" not in said
    assert "p =" not in said


def test_diverged_seeds_are_told():
    frail = arm() | {3: {"diverged": True}}
    info, drawing, said = draw({"base": arm(drop=0.4), "frail": frail})
    assert said.endswith(" 1 diverged seed left out of this mean.")
    assert any("10 seeds, 1 diverged" in text for trace in drawing.data for text in trace.hovertext or ())
    assert info.query("arm == 'frail'")["num_seeds"].unique().tolist() == [10]


@pytest.mark.parametrize(
    "arms",
    [
        {"base": {1: {}}},
        {"base": {1: {}}, "other": {1: {"drop": 0.1}}},
        {"base": {1: {}}, "other": {2: {"drop": 0.1}}},
        {"base": {1: {"diverged": True}}, "other": {1: {}}},
        {"other": {1: {}, 2: {}}, "third": {1: {}}},
    ],
)
def test_little_on_record_is_shown_without_intervals(arms):
    _, drawing, said = draw(arms)
    texts = [text for trace in drawing.data for text in trace.hovertext or ()]
    assert texts
    assert not any("nan" in text for text in [said, *texts])
    assert said.startswith("Gaussian noise")


def test_an_unknown_corruption_is_drawn_as_text():
    final = SYNTHETIC["final_record"](0.8, num_classes=10, num_test=100)
    final["corruptions"] = {"<b>fog</b>": {"severities": [1, 2], "accuracy": [0.7, 0.6]}}
    _, drawing, said = draw({"base": {1: {"final": final}}})
    assert drawing.layout.annotations[0].text == "<b>&lt;b&gt;fog&lt;/b&gt;</b>"
    assert said == "<b>fog</b> (mean over severities 0 to 2): base loses 10.0 points of accuracy."


def test_nothing_confirmed_draws_nothing(findings_of):
    assert info_corruption(findings_of("searching")).empty
