from dataclasses import replace

import pytest

from analysis.figures.style import build_style
from analysis.figures.table import FIGURES
from analysis.findings import find


def with_controls(findings, controls):
    protocol = {**findings.record.protocol, "controls": controls}
    return find(replace(findings.record, protocol=protocol))


def draw(findings):
    info = FIGURES["forest"].info(findings)
    return info, FIGURES["forest"].plot(info, build_style(findings))


def test_the_forest_shows_differences_and_intervals(findings_of):
    info, drawing = draw(findings_of("truth"))
    for trace, (_, row) in zip(drawing.data[-len(info) :], info.iterrows(), strict=True):
        assert trace.x[0] == row["difference_points"]
        assert trace.x[0] + trace.error_x.array[0] == pytest.approx(row["high_points"])
        assert (trace.marker.color == "white") == (row["p_holm"] >= 0.05)
    band = drawing.layout.shapes[0]
    assert (band.x0, band.x1) == (-1, 1)


def test_the_seeds_lie_below_their_mean(findings_of):
    info, drawing = draw(findings_of("truth"))
    seeds, means = drawing.data[: len(info)], drawing.data[len(info) :]
    for own, mean, (_, row) in zip(seeds, means, info.iterrows(), strict=True):
        assert sum(row["seed_points"]) / len(row["seed_points"]) == pytest.approx(row["difference_points"])
        assert row["seeds"] == list(range(1, 11))
        assert min(own.y) == max(own.y) > mean.y[0]  # rows count downwards
        assert len(own.x) == 10


def test_a_seed_far_outside_is_an_arrow_that_tells_its_value(findings_of):
    info, drawing = draw(findings_of("truth"))
    place = info["arm"].tolist().index("l1")  # its third seed diverged
    points = drawing.data[place]
    worst = min(info["seed_points"][place])
    assert worst < -60
    assert points.marker.symbol[2] == "triangle-left"
    assert points.x[2] == drawing.layout.xaxis.range[0] > worst
    assert points.hovertext[2] == f"l1, seed 3: {worst:+.2f} points"
    assert set(points.marker.symbol) == {"triangle-left", "circle"}
    low, high = drawing.layout.xaxis.range
    assert (info["low_points"] >= low).all()
    assert (info["high_points"] <= high).all()


def test_a_twin_of_the_baseline_is_marked_and_no_finding(findings_of):
    findings = with_controls(findings_of("truth"), {"hinge": "cross_entropy"})
    info, drawing = draw(findings)
    names = drawing.layout.yaxis.ticktext
    assert ["same function as the baseline" in name for name in names] == (info["arm"] == "hinge").tolist()
    line = FIGURES["forest"].takeaway(info, build_style(findings))
    assert " of 2 arms " in line
    assert "hinge, the same function as cross_entropy, came out " in line
    assert " of 3 arms " in FIGURES["forest"].takeaway(draw(findings_of("truth"))[0], build_style(findings))


def test_a_twin_alone_still_gives_a_line(findings_of):
    findings = with_controls(findings_of("truth"), {"hinge": "cross_entropy"})
    info = FIGURES["forest"].info(findings).query("arm == 'hinge'").reset_index(drop=True)
    line = FIGURES["forest"].takeaway(info, build_style(findings))
    assert line.startswith("hinge, the same function as cross_entropy, came out ")


def test_one_seed_is_a_point_without_an_interval(findings_of):
    info, drawing = draw(findings_of("one-seed"))
    assert len(drawing.data) == 2
    assert drawing.data[1].error_x.array is None
    assert drawing.data[0].x[0] == pytest.approx(info["difference_points"][0])


def test_a_seed_of_the_forest_is_its_arms_confirm_run(findings_of):
    findings = findings_of("truth")
    drawing = FIGURES["forest"].plot(FIGURES["forest"].info(findings), build_style(findings))
    trials = findings.record.trials.set_index("run_id")
    marks = [run for trace in drawing.data if trace.customdata is not None for run in trace.customdata]
    assert len(set(marks)) == len(marks) == 30
    assert set(trials.loc[marks, "phase"]) == {"confirm"}
    assert "cross_entropy" not in set(trials.loc[marks, "arm"])


def test_the_forest_says_which_differences_luck_of_the_search_may_explain(findings_of):
    findings = with_controls(findings_of("truth"), {"l1": "cross_entropy"})  # 6 points apart
    info, drawing = draw(findings)
    assert (
        FIGURES["forest"].takeaway(info, build_style(findings)).count("1 of those that differ by no more than luck")
        == 1
    )
    apart = info.set_index("arm").loc["l1", "difference_points"]
    ends = {shape.x0 for shape in drawing.layout.shapes if shape.line.dash == "dot"}
    assert ends == {apart, -apart}
