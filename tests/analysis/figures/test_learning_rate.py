import pytest

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
