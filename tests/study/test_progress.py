"""What the terminal shows while a study runs."""

import io
import pickle
import re

import pytest

from search_spaces.smoke import STUDY
from study import progress as progress_module
from study.ledger import COMPLETED, CONFIRM, PRUNED, SEARCH, Ledger, Request, TrialRecord
from study.progress import Progress

ARMS = [arm.name for arm in STUDY.arms]
BUDGETS = dict.fromkeys(ARMS, 4)
CONTROL_CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal(io.StringIO):
    """A stream that says it is a terminal, as a person's is."""

    def isatty(self):
        return True


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for key in ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "LINES"):
        monkeypatch.delenv(key, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "120")


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 100.0

        def monotonic(self):
            return self.now

    ticking = Clock()
    monkeypatch.setattr(progress_module, "time", ticking)
    return ticking


def a_record(arm, number, *, phase=SEARCH, epoch=8, val_accuracy=0.9, rate=0.03, stop_reason=COMPLETED):
    config = {"loss": arm, "optimizer": "adam", "optimizer.learning_rate": rate, "epochs": 8}
    record = TrialRecord(Request(arm, phase, number, config), epoch=epoch, val_accuracy=val_accuracy)
    record.stop_reason = stop_reason
    return record


def a_ledger():
    records = [
        a_record("cross_entropy", 0, val_accuracy=0.9, rate=0.03),
        a_record("cross_entropy", 1, val_accuracy=0.9512, rate=0.0125),
        a_record("kl_div", 0, epoch=3, val_accuracy=0.99, stop_reason=PRUNED),
        a_record("focal", 0, epoch=2, stop_reason=None),
    ]
    return Ledger({record.request.key: record for record in records})


def a_progress(stream, ledger=None, *, seconds_left=None, budgets=BUDGETS, **changes):
    return Progress(
        STUDY, ledger or a_ledger(), seconds_left=lambda: seconds_left, budgets=budgets, stream=stream, **changes
    )


def row_of(shown, arm):
    """The cells of the last row shown for an arm."""
    lines = [line for line in shown.splitlines() if line.startswith(arm)]
    return lines[-1].split()


def live_view(clock, ledger=None, **how):
    terminal = Terminal()
    with a_progress(terminal, ledger, **how) as progress:
        clock.now += 1
        progress.on_step_end(1, [])
    return CONTROL_CODES.sub("", terminal.getvalue())


def test_without_a_terminal_a_plain_line_is_written_every_ten_seconds(clock):
    stream = io.StringIO()
    with a_progress(stream, seconds_left=75.0) as progress:
        for _ in range(45):
            clock.now += 1
            progress.on_step_end(1, [])
    lines = stream.getvalue().splitlines()
    assert len(lines) == 4
    assert lines[0] == "search 3/12 trials, 21 epochs, 0:10 elapsed, about 1:15 left"
    assert "\x1b" not in stream.getvalue()


def test_epochs_of_which_nothing_is_told_yet_are_counted(clock):
    ledger = a_ledger()
    (running,) = ledger.running()
    ledger.note_untold(running.request.key, 7, 1.0)
    stream = io.StringIO()
    with a_progress(stream, ledger) as progress:
        clock.now += 20
        progress.on_step_end(1, [])
    assert stream.getvalue() == "search 3/12 trials, 26 epochs, 0:20 elapsed\n"
    assert row_of(live_view(clock, ledger), "focal")[3] == "7"


def test_without_an_estimate_none_is_shown(clock):
    stream = io.StringIO()
    with a_progress(stream, seconds_left=None) as progress:
        clock.now += 3723
        progress.on_step_end(1, [])
    assert stream.getvalue() == "search 3/12 trials, 21 epochs, 1:02:03 elapsed\n"


def test_both_phases_are_counted_with_their_totals_controls_included(clock):
    ledger = a_ledger()
    for seed in (1, 2):
        record = a_record("focal", seed, phase=CONFIRM)
        ledger.records[record.request.key] = record
    stream = io.StringIO()
    with a_progress(stream, ledger) as progress:
        clock.now += 10
        progress.on_step_end(1, [])
    assert stream.getvalue().startswith(f"search 3/12 trials, confirm 2/{4 * STUDY.seeds} trials, 37 epochs")


def test_one_search_over_all_arms_is_counted_once(clock):
    stream = io.StringIO()
    with a_progress(stream, budgets={"joint": 12}) as progress:
        clock.now += 10
        progress.on_step_end(1, [])
    assert stream.getvalue().startswith("search 3/12 trials")
    assert row_of(live_view(clock, budgets={"joint": 12}), "cross_entropy")[1] == "2"


def test_in_a_terminal_a_table_shows_each_arm(clock):
    shown = live_view(clock)
    assert re.search(r"arm +search +confirm +epochs +best val % +learning rate +optimizer", shown)
    assert row_of(shown, "cross_entropy") == ["cross_entropy", "2/4", "0", "16", "95.12", "0.013", "adam"]
    assert "search 3/12 trials, 21 epochs, 0:01 elapsed" in shown


def test_table_shows_no_best_for_an_arm_without_a_completed_trial(clock):
    shown = live_view(clock)
    assert row_of(shown, "kl_div") == ["kl_div", "1/4", "0", "3"]
    assert row_of(shown, "focal") == ["focal", "0/4", "0", "2"]


def test_table_counts_confirmed_seeds_apart_and_keeps_the_best_of_the_search(clock):
    ledger = a_ledger()
    better = a_record("cross_entropy", 1, phase=CONFIRM, val_accuracy=0.99)
    ledger.records[better.request.key] = better
    assert row_of(live_view(clock, ledger), "cross_entropy")[1:5] == ["2/4", "1", "24", "95.12"]


def test_table_is_drawn_anew_at_most_twice_a_second(clock):
    terminal, drawn = Terminal(), []
    with a_progress(terminal) as progress:
        for _ in range(20):
            clock.now += 0.1
            before = len(terminal.getvalue())
            progress.on_step_end(1, [])
            drawn.append(len(terminal.getvalue()) > before)
    assert 3 <= sum(drawn) <= 4


def test_terminal_is_left_with_the_cursor_shown_and_the_table_wiped(clock):
    terminal = Terminal()
    with a_progress(terminal) as progress:
        clock.now += 1
        progress.on_step_end(1, [])
        assert terminal.getvalue().rfind("\x1b[?25l") > terminal.getvalue().rfind("\x1b[?25h")
    written = terminal.getvalue()
    assert written.rfind("\x1b[?25h") > written.rfind("\x1b[?25l")
    assert written.rfind("\x1b[2K") > written.rfind("cross_entropy")


def test_terminal_is_left_as_it_was_when_the_study_breaks(clock):
    terminal = Terminal()
    with pytest.raises(KeyboardInterrupt), a_progress(terminal):
        raise KeyboardInterrupt
    assert terminal.getvalue().rfind("\x1b[?25h") > terminal.getvalue().rfind("\x1b[?25l")


@pytest.mark.parametrize("stream_class", [io.StringIO, Terminal])
def test_quiet_shows_nothing(clock, stream_class):
    stream = stream_class()
    with a_progress(stream, quiet=True) as progress:
        progress.say("a line")
        clock.now += 100
        progress.on_step_end(1, [])
    assert stream.getvalue() == ""


@pytest.mark.parametrize("stream_class", [io.StringIO, Terminal])
def test_line_that_is_said_is_written_as_it_is(clock, stream_class):
    stream = stream_class()
    line = "  focal  95.12%  [bold]not markup[/bold]  " + "long " * 40 + "end"
    with a_progress(stream) as progress:
        progress.say(line)
    assert line in CONTROL_CODES.sub("", stream.getvalue())


def test_standard_output_is_left_for_the_answer(clock, capsys):
    with Progress(STUDY, a_ledger(), seconds_left=lambda: None, budgets=BUDGETS) as progress:
        progress.say("winners")
        clock.now += 10
        progress.on_step_end(1, [])
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 2


def test_tune_pickles_nothing_of_it():
    assert pickle.loads(pickle.dumps(a_progress(Terminal()))) == {}
