import pandas as pd
import pytest

from analysis.across.figures import POOLED, colours_of, info_forest, plot_critical_difference, plot_forest
from analysis.figures.style import arm_colours
from tests.analysis.across.conftest import HOSTILE


def drawn(figure):
    return figure.to_json()


def test_the_forest_has_a_line_per_arm_and_study_and_one_for_the_mean(result_of):
    result = result_of("digits-1", "letters", "clothes")
    info = info_forest(result)
    assert info["arm"].drop_duplicates().tolist() == ["focal", "hinge", "l1"]
    focal = info[info["arm"] == "focal"]
    assert focal["place"].tolist() == ["digits", "letters", "clothes train-size=2000", POOLED]
    assert focal["filled"].tolist() == [True, True, True, False]
    assert focal["delta"].tolist()[:3] == [1.0, 1.0, 0.5]
    assert info["position"].is_unique
    scores = result.scores.set_index(["arm", "study"])
    assert focal["difference_points"].iloc[0] == scores.loc[("focal", "digits-1"), "difference_points"]
    pooled = result.pooled.set_index("arm").loc["focal"]
    assert focal[["low_points", "high_points"]].iloc[3].tolist() == pooled[["low", "high"]].tolist()


def test_each_line_of_the_forest_has_its_own_studys_band(result_of):
    result = result_of("digits-1", "clothes")
    info = info_forest(result)
    figure = plot_forest(info, "cross_entropy", colours_of(result))
    bands = [shape for shape in figure.layout.shapes if shape.type == "rect"]
    assert [(band.x0, band.x1) for band in bands] == [(-1, 1), (-0.5, 0.5)] * 3
    assert [(band.y0 + band.y1) / 2 for band in bands] == info["position"].tolist()


def test_an_arm_has_the_colour_of_the_first_studys_report_everywhere(result_of):
    result = result_of("digits-1", "letters")
    own = arm_colours(result.comparison.studies[0].findings.arms)
    assert {arm: colours_of(result)[arm] for arm in own} == own
    forest = plot_forest(info_forest(result), "cross_entropy", own)
    l1 = [trace.marker.line.color for trace in forest.data if "l1" in (trace.hovertext or "")]
    assert set(l1) == {own["l1"]}
    diagram = plot_critical_difference(result.ranking, own)
    markers = [trace for trace in diagram.data if trace.mode == "markers"]
    assert [trace.marker.color for trace in markers] == [own[arm] for arm in result.ranking.ranks["arm"]]


def test_a_twin_stands_last_and_is_named_one(result_of):
    result = result_of("twins", "twins-2")
    info = info_forest(result)
    assert info["arm"].iloc[-1] == "kl_div"
    figure = plot_forest(info, "cross_entropy", colours_of(result))
    assert "<b>kl_div</b> (twin)" in figure.layout.yaxis.ticktext
    assert not info.loc[info["arm"] == "kl_div", "filled"].any()


def test_the_diagram_marks_mean_ranks_and_draws_its_bars(result_of):
    result = result_of("digits-1", "letters", "clothes")
    figure = plot_critical_difference(result.ranking, colours_of(result))
    markers = [trace for trace in figure.data if trace.mode == "markers"]
    assert [trace.x[0] for trace in markers] == result.ranking.ranks["mean_rank"].tolist()
    bars = [trace for trace in figure.data if trace.mode == "lines" and trace.line.width == 5]
    assert len(bars) == len(result.ranking.bars) == 1
    assert "critical difference 2.71" in [note.text for note in figure.layout.annotations]


def test_a_critical_difference_longer_than_the_axis_is_not_drawn(result_of):
    result = result_of("bare", "stopped")
    assert result.ranking.critical_difference > 1
    figure = plot_critical_difference(result.ranking, colours_of(result))
    assert not any("critical" in note.text for note in figure.layout.annotations)


@pytest.mark.parametrize("names", [(HOSTILE, "hostile-2"), ("one-seed", "one-seed-2"), ("constant", "stopped")])
def test_no_markup_and_no_nan_reaches_a_figure(result_of, names):
    result = result_of(*names)
    info = info_forest(result)
    for figure in (
        plot_forest(info, "cross_entropy", colours_of(result)),
        plot_critical_difference(result.ranking, colours_of(result)),
    ):
        texts = [trace.hovertext or "" for trace in figure.data] + [note.text for note in figure.layout.annotations]
        texts += list(figure.layout.yaxis.ticktext or [])
        assert not any("<script" in text or "nan" in text for text in texts)
    assert isinstance(info, pd.DataFrame)
