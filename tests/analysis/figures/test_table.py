import numpy as np
import plotly.graph_objects as go
import pytest

from analysis.figures.style import build_style
from analysis.figures.table import FIGURES

STUDIES = ("truth", "searching", "hostile", "one-seed", "bare", "alone", "joint", "drifting")


@pytest.mark.parametrize("study", STUDIES)
@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_draws_every_study_or_has_nothing_to_draw(findings_of, name, study):
    findings, figure = findings_of(study), FIGURES[name]
    info = figure.info(findings)
    if info.empty:
        expected = {
            "searching": {"forest", "learning_curves", "pairwise", "corruption", "confusion", "reliability"},
            "alone": {"forest", "pairwise"},
        }
        few = {"importance"} if study not in {"truth", "hostile"} else set()  # two trials an arm
        undeclared = {"parallel"} if study == "bare" else set()  # no study.json says what was searched
        assert name in expected.get(study, set()) | few | undeclared
        return
    style = build_style(findings)
    drawing = figure.plot(info, style)
    assert isinstance(drawing, go.Figure)
    assert drawing.data
    takeaway = figure.takeaway(info, style)
    assert "\n" not in takeaway
    assert takeaway.endswith(".")
    assert "nan" not in takeaway


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_names_its_axes(findings_of, name):
    findings, figure = findings_of("truth"), FIGURES[name]
    drawing = figure.plot(figure.info(findings), build_style(findings))
    titles = [drawing.layout.xaxis.title.text, *(note.text for note in drawing.layout.annotations)]
    known = ("points", "log scale", "Epoch", "Trials", "Arm", "(%)")
    assert any(title and any(unit in title for unit in known) for title in titles)


@pytest.mark.parametrize("name", FIGURES)
def test_a_name_with_markup_is_text_in_every_figure(findings_of, name):
    findings, figure = findings_of("hostile"), FIGURES[name]
    drawing = figure.plot(figure.info(findings), build_style(findings))
    shown = [str(text) for text in every_text(drawing.to_dict())]
    assert not any("<script" in text or "&quot;" in text.replace("&amp;quot;", "") for text in shown)
    assert any("&lt;script&gt;" in text for text in shown)


def every_text(node, key=""):
    """The strings of a figure that plotly draws; group names and data keys are never drawn."""
    if isinstance(node, dict):
        for name, value in node.items():
            yield from every_text(value, name)
    elif isinstance(node, (list, tuple, np.ndarray)):
        for value in node:
            yield from every_text(value, key)
    elif isinstance(node, str) and key != "legendgroup":
        yield node


def test_an_arm_has_one_colour_everywhere(findings_of):
    findings = findings_of("truth")
    style = build_style(findings)
    curves = {}
    for name in ("incumbent", "learning_curves"):
        drawing = FIGURES[name].plot(FIGURES[name].info(findings), style)
        curves[name] = {trace.name: trace.line.color for trace in drawing.data if trace.name}
    assert curves["incumbent"] == curves["learning_curves"] == dict(style.colours)
    forest = FIGURES["forest"].plot(FIGURES["forest"].info(findings), style)
    order = FIGURES["forest"].info(findings)["arm"]
    means = forest.data[-len(order) :]  # the seeds lie below them
    assert [trace.marker.line.color for trace in means] == [style.colours[arm] for arm in order]
