import pandas as pd
import pytest

from analysis.figures.learning_rate import EDGE_INK, plot_learning_rate, say_learning_rate
from analysis.figures.style import INK, Style
from analysis.figures.table import FIGURES


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


def made(arms=("a", "b"), edges=("", "high"), **changes):
    """Three trials an arm, the first of which won."""
    rows = [
        {"run_id": f"{arm}{place}", "arm": arm, "optimizer": "sgd", "learning_rate": 10.0 ** (place - 3)}
        | {"val_accuracy": 0.9 - 0.1 * place, "stop_reason": "completed", "winner": place == 0, "has_range": True}
        | {"edge": edge if place == 0 else "", "text": f"{arm} {place}"}
        for arm, edge in zip(arms, edges, strict=True)
        for place in range(3)
    ]
    return pd.DataFrame(rows).assign(**changes)


def style_of(arms):
    return Style(dict.fromkeys(arms, "#123456"), {}, {}, arms[0], 1.0)


def test_a_winner_at_the_end_of_its_range_is_marked_and_says_which_end():
    drawing = plot_learning_rate(made(), style_of("ab"))
    inner, edge = drawing.data[:2]
    assert (inner.marker.line.color[0], edge.marker.line.color[0]) == (INK, EDGE_INK)
    assert (list(inner.text), list(edge.text)) == (["", "", ""], ["high end", "", ""])
    names = [trace.name for trace in drawing.data[2:]]
    assert names == ["sgd", "winner", "winner at an end of its range"]


def test_the_legend_explains_only_what_is_drawn():
    drawing = plot_learning_rate(made(edges=("", ""), stop_reason="diverged"), style_of("ab"))
    assert [trace.name for trace in drawing.data[2:]] == ["sgd", "diverged", "winner"]


def test_every_point_carries_its_run():
    drawing = plot_learning_rate(made(), style_of("ab"))
    assert [list(trace.customdata) for trace in drawing.data[:2]] == [["a0", "a1", "a2"], ["b0", "b1", "b2"]]


def test_many_arms_stand_six_in_a_row_on_one_log_scale():
    arms = [f"arm{place}" for place in range(18)]
    drawing = plot_learning_rate(made(arms, [""] * 18), style_of(arms))
    assert drawing.layout.height < 900
    assert {drawing.layout[f"xaxis{place or ''}"].type for place in (0, 7, 18)} == {"log"}


def test_nothing_is_said_about_ranges_that_are_not_on_record():
    assert say_learning_rate(made(has_range=False, edge=""), style_of("ab")).endswith("a factor of 1.0.")
    assert "1 in the outer tenth of their range (b)" in say_learning_rate(made(), style_of("ab"))
