import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from analysis.curves import incumbent_curve
from analysis.figures import FIGURES, build_style
from analysis.style import COLOURS, arm_colours, arm_dashes, label, translucent

STUDIES = ("truth", "searching", "hostile", "one-seed", "bare", "alone", "joint", "drifting")


@pytest.mark.parametrize("study", STUDIES)
@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_draws_every_study_or_has_nothing_to_draw(findings_of, name, study):
    findings, figure = findings_of(study), FIGURES[name]
    info = figure.info(findings)
    if info.empty:
        expected = {"searching": {"forest", "learning_curves"}, "alone": {"forest"}}
        assert name in expected[study]
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
    assert any(title and any(unit in title for unit in ("points", "log scale", "Epoch")) for title in titles)


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
    for name in ("tuning", "learning_curves"):
        drawing = FIGURES[name].plot(FIGURES[name].info(findings), style)
        curves[name] = {trace.name: trace.line.color for trace in drawing.data if trace.name}
    assert curves["tuning"] == curves["learning_curves"] == dict(style.colours)
    forest = FIGURES["forest"].plot(FIGURES["forest"].info(findings), style)
    order = FIGURES["forest"].info(findings)["arm"]
    assert [trace.marker.line.color for trace in forest.data] == [style.colours[arm] for arm in order]


def test_ten_arms_have_ten_colours_and_more_arms_differ_in_their_dash():
    names = [f"arm{number}" for number in range(25)]
    colours, dashes = arm_colours(names), arm_dashes(names)
    assert len(set(list(colours.values())[:10])) == 10
    assert len({(colours[name], dashes[name]) for name in names}) == 25


@pytest.mark.parametrize("deficiency", ["deuteranopia", "protanopia", "tritanopia"])
def test_colours_stay_apart_without_one_kind_of_cone(deficiency):
    # Machado, Oliveira & Fernandes, 2009, full severity, on linear RGB.
    matrices = {
        "protanopia": [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ],
        "deuteranopia": [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ],
        "tritanopia": [
            [1.255528, -0.076749, -0.178779],
            [-0.078411, 0.930809, 0.147602],
            [0.004733, 0.691367, 0.303900],
        ],
    }
    seen = [lab(np.clip(matrices[deficiency] @ linear(colour), 0, 1)) for colour in COLOURS]
    distances = [np.linalg.norm(a - b) for place, a in enumerate(seen) for b in seen[:place]]
    assert min(distances) > 5  # CIE76; about two are told apart side by side


def linear(colour):
    values = np.array([int(colour[start : start + 2], 16) for start in (1, 3, 5)]) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def lab(rgb):
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    x, y, z = (np.cbrt(value) for value in to_xyz @ rgb / np.array([0.9505, 1.0, 1.089]))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def test_the_forest_shows_differences_and_intervals(findings_of):
    findings = findings_of("truth")
    info = FIGURES["forest"].info(findings)
    drawing = FIGURES["forest"].plot(info, build_style(findings))
    for trace, (_, row) in zip(drawing.data, info.iterrows(), strict=True):
        assert trace.x[0] == row["difference_points"]
        assert trace.x[0] + trace.error_x.array[0] == pytest.approx(row["high_points"])
        assert (trace.marker.color == "white") == (row["p_holm"] >= 0.05)
    band = drawing.layout.shapes[0]
    assert (band.x0, band.x1) == (-1, 1)


def test_the_learning_rates_are_those_of_the_search_with_the_winner_marked(findings_of):
    info = FIGURES["learning_rate"].info(findings_of("truth"))
    assert info.groupby("arm").size().to_dict() == {"cross_entropy": 6, "focal": 6, "hinge": 6, "l1": 6}
    winners = info[info["winner"]].set_index("arm")
    assert len(winners) == 4
    assert winners["edge"].to_dict()["hinge"] == "high"
    assert winners.loc["focal", "learning_rate"] == pytest.approx(1e-5 * 1e4 ** (2.5 / 8))


def test_a_hover_shows_the_configuration_of_a_trial(findings_of):
    info = FIGURES["learning_rate"].info(findings_of("truth"))
    text = info.query("arm == 'focal' and winner")["text"].iloc[0]
    for part in (
        "focal",
        "trial 1",
        "91.50%",
        "completed after 8 epochs",
        "adam",
        "loss.gamma = 1.5",
        "batch_size = 64",
        "width = 128",
    ):
        assert part in text
    assert "momentum" not in text  # the winner's optimizer has none


def test_the_incumbent_is_the_best_so_far_in_the_order_of_time():
    epochs = pd.DataFrame(
        {
            "arm": ["a", "a", "a", "b", "a"],
            "logged_at": pd.to_datetime([3, 1, 2, 1, 4], unit="s"),
            "val_accuracy": [0.6, 0.5, 0.4, 0.9, np.nan],
        }
    )
    curve = incumbent_curve(epochs)
    assert curve.query("arm == 'a'")["incumbent"].tolist() == [0.5, 0.5, 0.6, 0.6]
    assert curve.query("arm == 'a'")["budget"].tolist() == [1, 2, 3, 4]
    assert curve.query("arm == 'b'")["incumbent"].tolist() == [0.9]


def test_the_incumbent_needs_its_columns():
    with pytest.raises(ValueError, match="lacks the columns logged_at, val_accuracy"):
        incumbent_curve(pd.DataFrame({"arm": ["a"]}))


def test_the_tuning_curve_spends_every_epoch_of_the_search(findings_of):
    info = FIGURES["tuning"].info(findings_of("truth"))
    assert info.groupby("arm")["budget"].max().to_dict() == {"cross_entropy": 40, "focal": 40, "hinge": 40, "l1": 40}


def test_learning_curves_end_at_the_mean_over_seeds_and_keep_a_diverged_one(findings_of):
    findings = findings_of("truth")
    info = FIGURES["learning_curves"].info(findings)
    last = info.groupby("arm").tail(1).set_index("arm")
    confirm = findings.record.trials.query("phase == 'confirm'")
    expected = confirm.groupby("arm")["val_accuracy"].mean()
    assert last["mean"].to_dict() == pytest.approx(expected.to_dict())
    assert last["epoch"].tolist() == [8] * 4
    assert last["num_seeds"].tolist() == [10] * 4


def test_labels_are_text_and_short():
    assert label("<b>&") == "&lt;b&gt;&amp;"
    assert label("a" * 50) == "a" * 31 + "…"
    assert translucent("#ff0080", 0.5) == "rgba(255,0,128,0.5)"
