import numpy as np
import pandas as pd
import pytest

from analysis.figures.incumbent import incumbent_curve
from analysis.figures.style import build_style
from analysis.figures.table import FIGURES


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


def test_the_incumbent_spends_every_epoch_of_the_search(findings_of):
    findings = findings_of("truth")
    info = FIGURES["incumbent"].info(findings)
    assert info.groupby("arm")["budget"].max().to_dict() == {"cross_entropy": 40, "focal": 40, "hinge": 40, "l1": 40}
    drawing = FIGURES["incumbent"].plot(info, build_style(findings))
    ends = {trace.name: (trace.x[-1], 100 - trace.y[-1]) for trace in drawing.data}
    assert ends["focal"] == pytest.approx((40, 100 * info.query("arm == 'focal'")["incumbent"].max()))
