"""Whatever is killed, whenever: resumed, a study has the record of one that was left alone, to the last bit.

``make chaos`` kills thirty times; here, a few.
"""

import itertools
import os
import random
import signal
import time
from dataclasses import replace

import pytest

from tests.end_to_end import whole_record
from tests.end_to_end.chaos import CONFIRM, DRIVER, NODE, REPORT, SEARCH, WORKER, Chaos, phase_of, random_kill

NUM_KILLS = int(os.environ.get("CHAOS_KILLS", "4"))
SEED = int(os.environ.get("CHAOS_SEED", "0"))
#: One trial at a time: then what is proposed does not depend on which of two ends first.
STUDY = ("--space", "smoke", "--max-concurrent", "1", "--trials", "4", "--seeds", "4")
PLAN = ((DRIVER, SEARCH), (WORKER, SEARCH), (DRIVER, CONFIRM), (DRIVER, REPORT))
LONG_PLAN = (*PLAN, (WORKER, CONFIRM), (NODE, SEARCH), (DRIVER, SEARCH), (NODE, CONFIRM), (DRIVER, REPORT))

pytestmark = pytest.mark.studies


@pytest.fixture(scope="module")
def left_alone(tmp_path_factory):
    """The same study, left alone, and what its trials came to."""
    chaos = Chaos(tmp_path_factory.mktemp("undisturbed"), STUDY)
    assert chaos.live() == 0, chaos.said()
    whole_record.check(chaos.folder)
    return chaos, whole_record.outcomes(chaos.folder)


@pytest.fixture(scope="module")
def undisturbed(left_alone):
    return left_alone[1]


def test_a_study_that_is_killed_again_and_again_has_the_record_of_one_that_is_not(tmp_path, undisturbed):
    generator = random.Random(SEED)
    plan = itertools.cycle(PLAN if len(PLAN) >= NUM_KILLS else LONG_PLAN)
    landed, studies, epochs = 0, 0, 0
    phases = dict.fromkeys((SEARCH, CONFIRM, REPORT), 0)
    kill = None
    while landed < NUM_KILLS:
        studies += 1
        folder = tmp_path / str(studies)
        folder.mkdir()
        chaos, code = Chaos(folder, STUDY), None
        while code != 0:
            # A kill that was not reached, as of a worker when the last trial has ended, comes sooner in the next life.
            if kill is None and landed < NUM_KILLS:
                kill = random_kill(generator, *next(plan))
            before = chaos.landed.total()
            code = chaos.live([kill] if kill else [])
            if chaos.landed.total() > before:
                landed, kill = landed + 1, None
            elif kill is not None:
                kill = replace(kill, wait=kill.wait / 2)
            assert chaos.lives < 3 * NUM_KILLS + 3, chaos.said()
        for (_, phase), count in chaos.landed.items():
            phases[phase] += count
        epochs += whole_record.check(folder)[1]
        assert whole_record.outcomes(folder) == undisturbed
        assert not list((folder / "runs" / "s").rglob("*.pt*"))  # no checkpoint stays
        print(f"study {studies}: {chaos.lives} lives, kills {dict(chaos.landed)}")  # noqa: T201
    print(f"seed {SEED}: {landed} kills, by phase {phases}, in {studies} studies; {epochs} epochs, each once")  # noqa: T201
    assert min(phases.values()) >= (3 if NUM_KILLS >= 30 else 1)


def test_ctrl_c_ends_a_study_well_and_says_how_it_goes_on(tmp_path, undisturbed):
    chaos = Chaos(tmp_path, STUDY)
    process = chaos.begin()
    while phase_of(tmp_path) != SEARCH or len(whole_record.read(tmp_path)[1]) < 3:
        assert process.poll() is None, chaos.said()
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    assert process.wait(120) == 130, chaos.said()
    assert chaos.said().rstrip().endswith("Go on with: python -m study.launch --resume s")
    assert "Traceback" not in chaos.said()
    parent, trials = whole_record.read(tmp_path)
    assert (parent["status"], parent["tags"]["state"]) == ("KILLED", "interrupted")
    assert {trial["status"] for trial in trials} <= {"FINISHED", "KILLED"}
    # Between two trials there is none to interrupt.
    killed = {trial["tags"]["stop_reason"] for trial in trials if trial["status"] == "KILLED"}
    assert killed <= {"pruned", "interrupted"}
    assert len(trials) < len(undisturbed)
    assert chaos.live() == 0, chaos.said()
    whole_record.check(tmp_path)
    assert whole_record.outcomes(tmp_path) == undisturbed
    # Once more: there is nothing left to do, and that is no error.
    assert chaos.live() == 0
    assert "Every trial is on record already" in chaos.said()
    whole_record.check(tmp_path)
    assert whole_record.outcomes(tmp_path) == undisturbed


def test_a_study_that_runs_is_not_run_a_second_time(tmp_path):
    chaos = Chaos(tmp_path, STUDY)
    process = chaos.begin()
    while phase_of(tmp_path) != SEARCH:
        assert process.poll() is None, chaos.said()
        time.sleep(0.05)
    second = Chaos(tmp_path, STUDY, lives=10)
    assert second.live() == 2
    assert second.said() == f"study.launch: The study 's' is running already in {tmp_path}/runs.\n"
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    process.wait(120)


def test_a_finished_study_is_extended_although_the_extension_is_killed(left_alone):
    chaos, before = left_alone
    kill = random_kill(random.Random(SEED), DRIVER, CONFIRM)  # its first confirmation is on record: it is there at once
    assert chaos.live([kill], ("--extend", "s", "--trials", "2")) == -signal.SIGKILL, chaos.said()
    again = Chaos(chaos.folder, STUDY, lives=10)
    assert again.live(arguments=("--extend", "s", "--trials", "2")) == 2
    assert "is not finished (killed); go on with it: python -m study.launch --resume s" in again.said()
    assert chaos.live() == 0, chaos.said()
    assert "This is the second look" in " ".join(chaos.said().split())
    whole_record.check(chaos.folder)
    after = whole_record.outcomes(chaos.folder)
    assert {key: after[key] for key in before} == before
    added = sorted(key.split("/", 1)[1] for key in after if key not in before)
    phases = ["search/4", "search/5", *(f"confirm/{seed}" for seed in range(5, 9))]
    controls = [f"control/{seed}" for seed in range(5, 9)]
    assert added == sorted([*(phases * 3), *controls])
