import numpy as np
import pandas as pd
import pytest

from analysis.figures.learning_curves import plot_learning_curves
from analysis.figures.style import Style, arm_colours, arm_dashes, arm_symbols, build_style
from analysis.figures.table import FIGURES


def test_learning_curves_end_at_the_mean_over_seeds_and_keep_a_diverged_one(findings_of):
    findings = findings_of("truth")
    info = FIGURES["learning_curves"].info(findings)
    last = info.groupby("arm").tail(1).set_index("arm")
    confirm = findings.record.trials.query("phase == 'confirm'")
    expected = confirm.groupby("arm")["val_accuracy"].mean()
    assert last["mean"].to_dict() == pytest.approx(expected.to_dict())
    assert last["epoch"].tolist() == [8] * 4
    assert last["num_seeds"].tolist() == [10] * 4


def curves(num_arms, *, epochs=4, intervals=True):
    """Info of so many arms, the last one ten times as long."""
    frames = []
    for place in range(num_arms):
        last = epochs * (10 if place == num_arms - 1 else 1)
        mean = np.linspace(0.5, 0.9, last)
        ends = {"low": mean - 0.02, "high": mean + 0.02} if intervals else {"low": np.nan, "high": np.nan}
        own = {"arm": f"arm{place}", "epoch": np.arange(1, last + 1), "mean": mean, "num_seeds": 3}
        frames.append(pd.DataFrame(own | ends))
    names = [f"arm{place}" for place in range(num_arms)]
    return pd.concat(frames, ignore_index=True), Style(
        arm_colours(names), arm_dashes(names), arm_symbols(names), "arm0", 1.0
    )


def test_few_arms_share_a_panel_and_many_have_one_each_with_the_baseline():
    few, many = (plot_learning_curves(*curves(number)) for number in (6, 7))
    assert {trace.xaxis for trace in few.data} == {None}
    assert len({trace.xaxis for trace in many.data}) == 7
    second = [trace for trace in many.data if trace.xaxis == "x2"]
    assert len(second) == 4  # the baseline, the band's two ends, the mean
    assert sum(trace.showlegend is not False for trace in many.data) == 7


def test_a_curve_is_drawn_as_error_and_told_as_accuracy(findings_of):
    findings = findings_of("truth")
    info = FIGURES["learning_curves"].info(findings)
    drawing = FIGURES["learning_curves"].plot(info, build_style(findings))
    own = info.query("arm == 'hinge'")
    mean = next(trace for trace in drawing.data if trace.name == "hinge")
    assert 100 - np.array(mean.y) == pytest.approx(100 * own["mean"])
    assert np.array(mean.customdata) == pytest.approx(100 * own["mean"])
    assert "mean of 10" in mean.hovertemplate


def test_very_unequal_lengths_take_a_log_axis():
    assert plot_learning_curves(*curves(2)).layout.xaxis.type == "log"
    assert plot_learning_curves(*curves(1)).layout.xaxis.type is None


def test_one_seed_draws_means_without_bands():
    drawing = plot_learning_curves(*curves(2, intervals=False))
    assert [trace.name for trace in drawing.data] == ["arm0", "arm1"]
