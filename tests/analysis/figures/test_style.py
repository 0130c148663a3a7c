import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from analysis.figures.style import (
    COLOURS,
    SYMBOLS,
    Style,
    arm_colours,
    arm_dashes,
    arm_symbols,
    build_panels,
    error_percent,
    error_window,
    label,
    show_accuracies,
    show_counts,
    swatch,
    translucent,
)


def test_ten_arms_have_ten_colours_and_more_arms_differ_in_their_dash_and_symbol():
    names = [f"arm{number}" for number in range(40)]
    colours, dashes, symbols = arm_colours(names), arm_dashes(names), arm_symbols(names)
    assert len(set(list(colours.values())[:10])) == 10
    assert set(list(symbols.values())[:10]) == {SYMBOLS[0]}
    assert len({(colours[name], dashes[name]) for name in names}) == 40
    assert len({(colours[name], symbols[name]) for name in names}) == 40


def test_swatches_tell_forty_arms_apart():
    names = [f"arm{number}" for number in range(40)]
    style = Style(arm_colours(names), arm_dashes(names), arm_symbols(names), "arm0", 1.0)
    assert len({swatch(name, style) for name in names}) == 40
    assert all(swatch(name, style).startswith("<svg ") for name in names)


def test_accuracies_are_drawn_as_errors_and_a_perfect_one_stays_on_the_axis():
    window = error_window([0.9, 0.98, 1.0], worst=0.9)
    assert window[0] >= 10
    assert 0 < window[1] <= 2
    assert error_percent(pd.Series([0.9, 0.98, 1.0]), window[1]).tolist() == pytest.approx([10, 2, window[1]])


@pytest.mark.parametrize(("accuracies", "worst"), [([0.88, 0.89], 0.87), ([0.1, 0.999], 0.1), ([1.0], 1.0), ([0.0], 0)])
def test_ticks_of_accuracies_lie_on_the_axis(accuracies, worst):
    window = error_window(accuracies, worst)
    figure = show_accuracies(go.Figure(), window)
    axis = figure.layout.yaxis
    assert axis.range[0] > axis.range[1]  # more accuracy is higher
    assert 2 <= len(axis.tickvals) <= 18
    assert all(window[1] <= tick <= window[0] for tick in axis.tickvals)
    assert [100 - tick for tick in axis.tickvals] == pytest.approx([float(name) for name in axis.ticktext])


def test_counts_from_one_are_on_the_axis():
    axis = show_counts(go.Figure(), 1, 1).layout.xaxis
    assert axis.range[0] < 0 < axis.range[1]
    assert 1 in axis.tickvals


def test_every_arm_has_a_panel_of_its_own():
    names = [f"<arm{number}>" for number in range(9)]
    figure, cells = build_panels(names, x_title="Epoch", y_title="Accuracy (%)")
    assert len({(cell["row"], cell["col"]) for cell in cells.values()}) == 9
    titles = [note.text for note in figure.layout.annotations]
    assert titles == [*(label(name) for name in names), "Epoch", "Accuracy (%)"]


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


def test_labels_are_text_and_short():
    assert label("<b>&") == "&lt;b&gt;&amp;"
    assert label("a" * 50) == "a" * 31 + "…"
    assert translucent("#ff0080", 0.5) == "rgba(255,0,128,0.5)"
