"""The picture shows every round of every contender, and nothing of the other tasks."""

import pytest

from bench import plot
from bench.idioms import PEERS, TASKS, TRIALS_TASK
from bench.measure import Measurement
from bench.run import write_csv


@pytest.fixture
def measurements():
    seconds = {"study": 10.0, "ray_idiom": 20.0, "optuna_idiom": 30.0}
    return [
        measurement
        for task in TASKS
        for who, start in seconds.items()
        for number in (1, 2, 3)
        for measurement in (
            Measurement(f"{task}: {who}", number, start + number, "s"),
            Measurement(f"{task}: {who}, best accuracy", number, 0.9, ""),
        )
    ]


def test_every_round_is_drawn_and_the_line_goes_through_the_medians(measurements, tmp_path, monkeypatch):
    write_csv(tmp_path / "idioms.csv", measurements)
    drawn = []
    real = plot.draw
    monkeypatch.setattr(plot, "draw", lambda seconds: drawn.append(real(seconds)) or drawn[0])
    plot.main([str(tmp_path / "idioms.csv"), str(tmp_path / "time.svg")])
    (axes,) = drawn[0].axes
    lines = [(list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines]
    assert lines[0] == ([10, 30, 100], [12.0] * 3)
    assert lines[1] == ([n for n in (10, 30, 100) for _ in range(3)], [11.0, 12.0, 13.0] * 3)
    assert len(lines) == 2 * (1 + len(PEERS))
    assert len(axes.get_legend().get_texts()) == 1 + len(PEERS)
    assert (tmp_path / "time.svg").read_text().startswith("<?xml")


def test_tasks_that_count_trials_are_those_of_the_picture():
    assert [task for task in TASKS if plot.LINE.fullmatch(f"{task}: study")] == [
        TRIALS_TASK.format(trials) for trials in (10, 30, 100)
    ]
