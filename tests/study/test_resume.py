"""A study that is killed between any two writes of its journal goes on as if it had not been."""

import itertools
import os
import random
import shutil
import socket
from pathlib import Path
from types import SimpleNamespace

import pytest
from optuna.storages.journal import JournalFileBackend
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher
from ray.tune.trainable.metadata import _TrainingRunMetadata

from search_spaces.smoke import STUDY as SMOKE
from study.conduct import JOURNAL_FILE, conduct_search, open_journal
from study.ledger import COMPLETED, DIVERGED, PRUNED, SEARCH, Ledger
from study.looks import plan_looks
from study.options import Options
from study.process import this_process
from study.protocol import resolve_study
from study.resume import Recalled, objections
from trainables.config import InputError

TRIALS = 4
#: By an extension.
ADDED = 3


class KilledError(BaseException):
    """What kill -9 is to the process: nothing catches it."""


def an_options(folder, **changes):
    values = {"command": "", "name": "s", "space": "smoke", "tracking_uri": "", "experiment_name": "s", "quiet": True}
    return Options(storage_path=folder, **(values | {"trials": TRIALS, "seeds": 2} | changes))


def train(request, epoch):
    """A training whose result is a function of its configuration, as on one thread of a processor."""
    generator = random.Random(f"{sorted(request['config'].items())} {epoch}")
    diverged = generator.random() < 0.02
    values = {"epoch": epoch, "val_accuracy": 0.1 if diverged else generator.random(), "val_nll": 1.0}
    percent = 100 * epoch / request["config"]["epochs"]
    return values | {"diverged": float(diverged), "trial_seconds": 0.1, "schedule_percent": percent, "rows": []}


def live(folder, record, protocol=None, **changes):
    """One life of the driver, Tune's part played around it; ``record`` is what MLflow holds of ended trials.

    ``protocol`` is the ``study.json`` that it finds.

    Returns:
        Everything that the study came to: what each trial was, how far it came and how it ended.
    """
    options = an_options(folder, **changes)
    options.folder.mkdir(parents=True, exist_ok=True)
    ledger = Ledger()
    study = resolve_study(SMOKE, options)
    looks = plan_looks(study, options, protocol or {})
    conduct = conduct_search(study, options, ledger, looks=looks, slots=1, started=0.0, recalled=dict(record))
    for number in itertools.count():
        trial_id = f"{random.random()}-{number}"  # of Ray's, and of no use to the next life
        request = conduct.dealer.suggest(trial_id)
        if request == Searcher.FINISHED:
            break
        trial = SimpleNamespace(trial_id=trial_id, config=request, run_metadata=_TrainingRunMetadata())
        conduct.scheduler.on_trial_add(None, trial)
        for epoch in sorted({2, *request["rungs"], request["config"]["epochs"]}):
            result = train(request, epoch)
            done = result["diverged"] or epoch == request["config"]["epochs"]
            decision = TrialScheduler.STOP if done else conduct.scheduler.on_trial_result(None, trial, result)
            conduct.dealer.on_trial_result(trial_id, result)
            if decision == TrialScheduler.STOP:
                break
        conduct.scheduler.on_trial_complete(None, trial, result)
        conduct.dealer.on_trial_complete(trial_id, result)
        ended = ledger.records[request["key"]]
        record[request["key"]] = {**result, "epoch": ended.epoch, "stop_reason": ended.stop_reason}
    return {
        key: (dict(r.request.config), r.epoch, r.val_accuracy, r.stop_reason) for key, r in ledger.records.items()
    }, conduct.conclusion()


class Plan(dict):
    """Kills at a write of the ledger, counted from zero: before it, after it, or with half of it on the disk.

    The ledger is Optuna's journal and the ends of trials in MLflow, which is all there is of a confirmation.
    """

    def write(self, do, tear=lambda: None):
        if self["count"] == self["at"] and self["how"] != "after":
            if self["how"] == "torn":
                tear()
            raise KilledError
        do()
        if self["count"] == self["at"]:
            raise KilledError
        self["count"] += 1


class Ends(dict):
    """The ends that MLflow holds; to note one is a write that a kill can hit."""

    def __init__(self, plan, known=()):
        super().__init__(known)
        self._plan = plan

    def __setitem__(self, key, result):
        self._plan.write(lambda: super(Ends, self).__setitem__(key, result))


@pytest.fixture
def killed(monkeypatch):
    append = JournalFileBackend.append_logs
    plan = Plan(at=None, how="before", count=0)

    def append_and_die(self, logs):
        def tear():
            path = Path(self._file_path)
            path.write_bytes(path.read_bytes() + b'{"op_code":4,"worker_id"')
            path.with_name(path.name + ".lock").symlink_to(path)

        plan.write(lambda: append(self, logs), tear)

    monkeypatch.setattr(JournalFileBackend, "append_logs", append_and_die)
    return plan


def test_a_study_killed_at_any_write_of_its_ledger_ends_as_an_uninterrupted_one(tmp_path, killed):
    expected, winners = live(tmp_path / "whole", Ends(killed))
    reasons = [reason for _, _, _, reason in expected.values()]
    assert {COMPLETED, PRUNED} <= set(reasons)
    writes = killed["count"]
    assert writes > 60 + len(expected)
    for at in range(writes):
        how = ("before", "after", "torn")[at % 3]
        killed.update(at=at, how=how, count=0)
        folder, record = tmp_path / f"{at}", Ends(killed)
        with pytest.raises(KilledError):
            live(folder, record)
        if at % 2 and record:  # the last end had not reached MLflow
            record.popitem()
        killed.update(at=None, count=0)
        again, winners_again = live(folder, record)
        assert again == expected, (at, how)
        assert winners_again == winners


@pytest.mark.parametrize("forgotten", [1, 3, 8, 1000])
def test_a_study_whose_mlflow_is_a_copy_of_earlier_ends_as_an_uninterrupted_one(forgotten, tmp_path, killed):
    expected, winners = live(tmp_path / "whole", Ends(killed))
    writes = killed["count"]
    for at in random.Random(forgotten).sample(range(writes // 2, writes), 6):
        killed.update(at=at, how="after", count=0)
        folder, record = tmp_path / f"{at}", Ends(killed)
        with pytest.raises(KilledError):
            live(folder, record)
        for key in list(record)[-forgotten:]:  # the last that it had heard of: the journal is never older
            del record[key]
        killed.update(at=None, count=0)
        assert live(folder, record) == (expected, winners)


def test_a_study_killed_again_and_again_ends_as_an_uninterrupted_one(tmp_path, killed):
    expected, _ = live(tmp_path / "whole", {})
    generator = random.Random(0)
    record, lives = Ends(killed), 0
    while True:
        killed.update(at=generator.randrange(1, 12), how=generator.choice(["before", "after", "torn"]), count=0)
        lives += 1
        try:
            assert live(tmp_path / "often", record)[0] == expected
            break
        except KilledError:
            if record and generator.random() < 0.5:
                record.popitem()
    assert lives > 10


def test_an_extension_adds_to_the_same_search_and_confirms_on_seeds_that_nobody_has_seen(tmp_path):
    record = {}
    first, before = live(tmp_path, record)
    second, after = live(tmp_path, record, before, extend=ADDED)
    assert {key: second[key] for key in first} == first
    new = [key.split("/") for key in second if key not in first]
    searched = {(arm, int(number)) for arm, phase, number in new if phase == SEARCH}
    assert searched == {(arm.name, TRIALS + number) for arm in SMOKE.arms for number in range(ADDED)}
    assert {int(number) for _, phase, number in new if phase != SEARCH} == {3, 4}
    assert [(look["trials_per_arm"], look["confirm_seeds"]) for look in after["looks"]] == [
        (TRIALS, [1, 2]),
        (TRIALS + ADDED, [3, 4]),
    ]
    assert after["looks"][0] == before["looks"][0]
    assert after["looks"][1]["winners"] == after["winners"]
    assert (after["trials_per_arm"], after["confirm_seeds"], after["notes"]) == (TRIALS + ADDED, [3, 4], [])
    # What confirmed is what each search had found by then.
    for look in after["looks"]:
        for arm, winner in look["winners"].items():
            own = [
                (value, -epoch)
                for key, (_, epoch, value, reason) in second.items()
                if key.startswith(f"{arm}/search/") and int(key.split("/")[2]) < look["trials_per_arm"]
                if reason == COMPLETED
            ]
            assert winner["val_accuracy"] == max(own)[0]
            for seed in look["confirm_seeds"]:
                assert second[f"{arm}/confirm/{seed}"][0] == winner["config"] | {"seed": seed}


def test_an_extension_finds_what_a_longer_search_would_have_proposed_next(tmp_path):
    record = {}
    _, before = live(tmp_path / "twice", record, search="random")
    extended, _ = live(tmp_path / "twice", record, before, search="random", extend=ADDED)
    at_once, _ = live(tmp_path / "once", {}, search="random", trials=TRIALS + ADDED)
    for key, trial in at_once.items():
        if f"/{SEARCH}/" in key:
            assert extended[key][0] == trial[0]


def test_a_joint_search_is_extended_by_as_many_trials_for_every_arm(tmp_path):
    record = {}
    first, before = live(tmp_path, record, mode="joint")
    second, after = live(tmp_path, record, before, mode="joint", extend=ADDED)
    added = [key for key in second if f"/{SEARCH}/" in key and key not in first]
    assert len(added) == ADDED * len(SMOKE.arms)
    assert after["trials_per_arm"] == TRIALS + ADDED


def test_an_extension_killed_at_any_write_of_its_ledger_ends_as_an_uninterrupted_one(tmp_path, killed):
    begun = {}
    _, before = live(tmp_path / "begun", begun)
    shutil.copytree(tmp_path / "begun", tmp_path / "whole")
    killed.update(at=None, count=0)
    expected, conclusion = live(tmp_path / "whole", Ends(killed, begun), before, extend=ADDED)
    writes = killed["count"]
    assert writes > 40 + len(expected) - len(begun)
    extended = {**before, "looks": [*before["looks"], {**conclusion["looks"][1], "winners": {}}]}
    for at in range(writes):
        how = ("before", "after", "torn")[at % 3]
        killed.update(at=at, how=how, count=0)
        folder, record = tmp_path / f"{at}", Ends(killed, begun)
        shutil.copytree(tmp_path / "begun", folder)
        with pytest.raises(KilledError):
            live(folder, record, before, extend=ADDED)
        if at % 2 and len(record) > len(begun):  # the last end had not reached MLflow
            record.popitem()
        killed.update(at=None, count=0)
        assert live(folder, record, extended) == (expected, conclusion), (at, how)


def test_every_arm_keeps_its_budget_whatever_happens(tmp_path, killed):
    live(tmp_path, {})
    storage = open_journal(tmp_path / "s" / JOURNAL_FILE)
    studies = storage.get_all_studies()
    assert [len(storage.get_all_trials(study._study_id)) for study in studies] == [TRIALS] * len(SMOKE.arms)
    assert all(t.state.is_finished() for study in studies for t in storage.get_all_trials(study._study_id))


def test_a_trial_whose_end_mlflow_has_not_heard_of_stops_where_it_stopped(tmp_path):
    record = {}
    live(tmp_path, record)
    pruned = next(key for key, result in record.items() if result["stop_reason"] == PRUNED)
    at = record.pop(pruned)["epoch"]
    options = an_options(tmp_path)
    study = resolve_study(SMOKE, options)
    looks = plan_looks(study, options, {})
    conduct = conduct_search(study, options, Ledger(), looks=looks, slots=1, started=0.0, recalled=dict(record))
    request = conduct.dealer.suggest("1")
    assert request["key"] == pruned
    assert at in request["rungs"]
    trial = SimpleNamespace(trial_id="1", config=request)
    conduct.scheduler.on_trial_add(None, trial)
    assert conduct.scheduler.on_trial_result(None, trial, train(request, at - 1)) == TrialScheduler.CONTINUE
    assert conduct.scheduler.on_trial_result(None, trial, train(request, at)) == TrialScheduler.STOP


def recalled(tags=None, protocol=None):
    return Recalled("s", "run", "1", tags or {}, protocol or {})


DATA = SimpleNamespace(sha256="d" * 64)


def test_a_study_whose_process_lives_is_not_run_twice():
    tags = {"state": "running", "driver": this_process().replace(f" {os.getpid()} ", " 1 ")}
    assert objections(recalled(tags), DATA, "c") == []  # another process has that number now
    begun = Path(f"/proc/{os.getppid()}/stat").read_text().rpartition(")")[2].split()[19]
    tags["driver"] = f"{socket.gethostname()} {os.getppid()} {begun}"
    with pytest.raises(InputError, match=f"is running already, as process {os.getppid()}"):
        objections(recalled(tags), DATA, "c")
    assert objections(recalled(tags | {"state": "interrupted"}), DATA, "c") == []


def test_a_study_that_another_machine_may_run_needs_force():
    (found,) = objections(recalled({"state": "running", "driver": "elsewhere 12 34"}), DATA, "c")
    assert found == "It is running on elsewhere, or was when that machine died."


def test_other_data_and_other_code_need_force_and_what_was_not_noted_is_not_compared():
    protocol = {"dataset": {"sha256": "e" * 64}, "code_sha256": "f" * 64}
    found = objections(recalled(protocol=protocol), DATA, "c" * 64)
    assert found == [
        "It was begun with other data (sha256 eeeeeeeeeeee, now dddddddddddd).",
        "It was begun with other code (sha256 ffffffffffff, now cccccccccccc).",
    ]
    assert objections(recalled(), DATA, "c" * 64) == []


def test_diverged_trials_stay_what_they_were(tmp_path):
    expected, _ = live(tmp_path, {}, seed=3)
    keys = [key for key, (_, _, _, reason) in expected.items() if reason == DIVERGED and f"/{SEARCH}/" in key]
    again, _ = live(tmp_path, {}, seed=3)
    assert {key: again[key] for key in keys} == {key: expected[key] for key in keys}
