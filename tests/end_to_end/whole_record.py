"""What a study has on record, read from the files by SQLite and Optuna alone, and whether it is whole."""

import sqlite3
from collections import Counter
from contextlib import closing

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

#: Measured, so they differ from one life to the next.
TIMES = {"epoch_seconds", "train_seconds", "val_seconds", "noise_seconds"}
STATUS = {"completed": "FINISHED", "diverged": "FINISHED", "pruned": "KILLED", "failed": "FAILED"}
STATES = {"completed": "COMPLETE", "diverged": "COMPLETE", "pruned": "PRUNED", "failed": "FAIL"}


def read(folder, name="s"):
    """``(parent, trials)`` of a study: its run's status and tags; of each trial what is on record, by its key."""
    with closing(sqlite3.connect(f"file:{folder}/mlflow.db?mode=ro", uri=True, isolation_level=None)) as database:
        database.execute("BEGIN")  # one moment of a record that is being written
        tags, params, values = {}, {}, {}
        for run, key, value in database.execute("SELECT run_uuid, key, value FROM tags"):
            tags.setdefault(run, {})[key] = value
        for run, key, value in database.execute("SELECT run_uuid, key, value FROM params"):
            params.setdefault(run, {})[key] = value
        status = dict(database.execute("SELECT run_uuid, status FROM runs WHERE lifecycle_stage = 'active'"))
        for run, key, step, value, is_nan in database.execute(
            "SELECT run_uuid, key, step, value, is_nan FROM metrics ORDER BY step"
        ):
            values.setdefault(run, {}).setdefault(key, []).append((step, None if is_nan else value))
    parents = [run for run in status if tags[run].get("study") == name and tags[run].get("phase") == "study"]
    if not parents:
        return None, []
    (parent,) = parents
    trials = [
        {
            "run": run,
            "status": status[run],
            "tags": tags[run],
            "params": params.get(run, {}),
            "values": values.get(run, {}),
        }
        for run in status
        if tags[run].get("mlflow.parentRunId") == parent
    ]
    return {"status": status[parent], "tags": tags[parent]}, trials


def journal(folder, name="s"):
    """Optuna's trials by arm."""
    storage = JournalStorage(JournalFileBackend(f"{folder}/runs/{name}/optuna.journal"))
    return {
        found.study_name.partition("/")[2]: optuna.load_study(study_name=found.study_name, storage=storage).trials
        for found in optuna.get_all_study_summaries(storage)
    }


def check(folder, name="s"):
    """Every trial has one run that has ended, every epoch of it is there once, Optuna and MLflow say the same.

    Returns:
        How many trials and epochs are on record.
    """
    parent, trials = read(folder, name)
    assert (parent["status"], parent["tags"]["state"]) == ("FINISHED", "finished")
    keys = Counter(trial["tags"]["trial_id"] for trial in trials)
    assert set(keys.values()) == {1}, [key for key, count in keys.items() if count > 1]
    epochs = 0
    for trial in trials:
        key, reason = trial["tags"]["trial_id"], trial["tags"]["stop_reason"]
        assert trial["status"] == STATUS[reason], key
        steps = [step for step, _ in trial["values"]["val_accuracy"]]
        assert steps == list(range(1, len(steps) + 1)), key
        assert [step for step, _ in trial["values"]["epoch_seconds"]] == steps, key
        if reason == "completed":
            assert len(steps) == int(trial["params"]["epochs"]), key
        if trial["tags"]["phase"] != "search":
            assert [step for step, _ in trial["values"]["test_accuracy"]] == steps[-1:], key
        epochs += len(steps)
    by_key = {trial["tags"]["trial_id"]: trial for trial in trials}
    asked = journal(folder, name)
    assert len({len(found) for found in asked.values()}) == 1  # equal budgets
    for arm, found in asked.items():
        for frozen in found:
            trial = by_key[f"{arm}/search/{frozen.number}"]
            assert frozen.state.name == STATES[trial["tags"]["stop_reason"]]
            recorded = dict(trial["values"]["val_accuracy"])
            assert all(recorded[step] == value for step, value in frozen.intermediate_values.items())
            assert max(frozen.intermediate_values) == max(recorded)
    return len(trials), epochs


def outcomes(folder, name="s"):
    """What every trial came to, without what is measured by the clock: equal of equal studies."""
    _, trials = read(folder, name)
    return {
        trial["tags"]["trial_id"]: (
            trial["tags"]["stop_reason"],
            trial["params"],
            {key: values for key, values in trial["values"].items() if key not in TIMES},
        )
        for trial in trials
    }
