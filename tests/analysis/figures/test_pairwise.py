from dataclasses import replace

import numpy as np
import pytest

from analysis.figures.pairwise import info_pairwise, plot_pairwise, say_pairwise
from analysis.figures.style import build_style
from analysis.findings import find


def with_controls(findings, controls):
    protocol = {**findings.record.protocol, "controls": controls}
    return find(replace(findings.record, protocol=protocol))


def drawn(findings):
    figure = plot_pairwise(info_pairwise(findings), build_style(findings))
    return figure, figure.data[0]


def test_rows_and_columns_are_the_arms_best_first_and_nobody_beats_themselves(findings_of):
    figure, cells = drawn(findings_of("truth"))
    names = findings_of("truth").table["arm"].tolist()
    assert list(figure.layout.xaxis.ticktext) == list(figure.layout.yaxis.ticktext) == names
    assert figure.layout.yaxis.range[0] > figure.layout.yaxis.range[1]  # the best on top
    shares = np.array(cells.z, dtype=float)
    assert np.isnan(np.diag(shares)).all()
    off = ~np.eye(len(names), dtype=bool)
    assert (shares + shares.T)[off] == pytest.approx(1)


def test_marks_are_those_of_the_corrected_tests(findings_of):
    findings = findings_of("truth")
    info = info_pairwise(findings)
    figure, cells = drawn(findings)
    names = list(figure.layout.xaxis.ticktext)
    assert info["differs"].any()
    assert info["equivalent"].any()
    for row in info.to_dict("records"):
        text = cells.text[names.index(row["arm"])][names.index(row["other"])]
        assert text.startswith(f"{row['probability_better']:.2f}")
        assert text.endswith("*") == row["differs"]
        assert ("≈" in text) == row["equivalent"]


def test_among_many_arms_a_cell_has_room_for_its_marks_alone(findings_of, monkeypatch):
    findings = findings_of("truth")
    _, cells = drawn(findings)
    monkeypatch.setattr("analysis.figures.pairwise.TOO_MANY", 3)
    _, crowded = drawn(findings)
    assert crowded.z == cells.z
    assert {mark for row in crowded.text for mark in row} <= {"", "*", "≈", "≈*"}
    assert [[mark.lstrip("0123456789.") for mark in row] for row in cells.text] == [list(row) for row in crowded.text]


def test_a_hover_tells_the_difference_its_interval_both_tests_and_the_seeds(findings_of):
    findings = findings_of("truth")
    figure, cells = drawn(findings)
    names = list(figure.layout.xaxis.ticktext)
    hover = cells.hovertext[names.index("focal")][names.index("l1")]
    row = info_pairwise(findings).set_index(["arm", "other"]).loc[("focal", "l1")]
    assert f"{row['difference_points']:+.2f} [{row['low_points']:+.2f}, {row['high_points']:+.2f}] points" in hover
    assert f"max-T p = {row['p_family']:.3g} (uncorrected {row['p']:.3g})" in hover
    assert "of 10 seeds, 1 run diverged" in hover


def test_the_takeaway_counts_each_pair_once(findings_of):
    findings = findings_of("truth")
    info = info_pairwise(findings)
    line = say_pairwise(info, build_style(findings))
    differ, equal = int(info["differs"].sum() / 2), int(info["equivalent"].sum() / 2)
    both = int((info["differs"] & info["equivalent"]).sum() / 2)
    still_open = 6 - differ - equal + both
    assert line.startswith(
        f"Of 6 pairs of arms: {differ} differ after correction over all pairs (step-down max-T); {equal} "
    )
    assert line.endswith(f"{still_open} open.")


def test_too_few_seeds_are_said_to_show_no_difference(findings_of):
    findings = findings_of("one-seed")
    line = say_pairwise(info_pairwise(findings), build_style(findings))
    assert line.startswith("Of 1 pair of arms: none can be shown to differ with 1 seed (the smallest p is ")
    assert "is 1; 6 seeds would do)" in line
    assert line.endswith("0 shown to lie within δ = 1; 1 open.")


def test_a_control_that_differs_is_called_luck(findings_of):
    findings = with_controls(findings_of("truth"), {"focal": "cross_entropy"})
    info = info_pairwise(findings)
    assert info["same_function"].sum() == 2
    assert "focal and cross_entropy are one function" in say_pairwise(info, build_style(findings))
    assert "one function" not in say_pairwise(info_pairwise(findings_of("truth")), build_style(findings))
    _, cells = drawn(findings)
    assert sum("the same function under two names" in text for row in cells.hovertext for text in row) == 2
