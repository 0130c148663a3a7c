import numpy as np
import pytest

from analysis.figures.style import COLOURS, arm_colours, arm_dashes, label, translucent


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


def test_labels_are_text_and_short():
    assert label("<b>&") == "&lt;b&gt;&amp;"
    assert label("a" * 50) == "a" * 31 + "…"
    assert translucent("#ff0080", 0.5) == "rgba(255,0,128,0.5)"
