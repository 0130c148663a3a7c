import pytest

from analysis.figures.style import build_style
from analysis.figures.table import FIGURES


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
