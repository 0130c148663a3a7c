"""Trials to tell a record, a store to tell them to, and what must be there afterwards."""

import itertools
import threading

from mlflow.exceptions import MlflowException

from study.ledger import COMPLETED, SEARCH, Request
from study.tracking import connect, start_study_run
from trainables.config import TrialConfig

TAGS = {"study": "s", "space": "smoke", "dataset": "digits", "regime": "search"}
FINAL = {"confusion": [[5, 0], [1, 4]], "class_names": ["a", "b"]}
KEY = "focal/search/7"
EPOCHS = 3
NUMBERS = itertools.count()


def new_study_run(uri, folder=None):
    """A fresh experiment with a study's run in it, artifacts in a folder or where a server has them.

    Returns:
        Client, experiment id, run id.
    """
    artifacts = (folder / "artifacts").as_uri() if folder else None
    client, experiment_id = connect(uri, f"experiment-{next(NUMBERS)}", artifacts)
    return client, experiment_id, start_study_run(client, experiment_id, "s", {"study": "s"}, {"schema": 1})


def a_request(arm="focal", phase=SEARCH, number=7, seed=0):
    flat = {
        "loss": arm,
        "optimizer": "sgd",
        "optimizer.learning_rate": 0.0123456789,
        "optimizer.momentum": 0.5,
        "model": "mlp",
        "width": 64,
        "batch_size": 32,
        "epochs": 3,
        "seed": seed,
    }
    if arm == "focal":
        flat["loss.gamma"] = 1.5
    return Request(arm, phase, number, TrialConfig.from_flat(flat).to_flat())


def a_row(epoch):
    return {"train_loss": 1.0 / epoch, "val_accuracy": 0.1 * epoch, "diverged": 0.0}


def write(record, request, *, epochs=EPOCHS, stop_reason=COMPLETED, tags=None, final=None):
    record.start(request)
    for epoch in range(1, epochs + 1):
        record.row(request.key, epoch, a_row(epoch))
    record.end(request.key, stop_reason, tags or {"node": "here"}, final)


def children(client, experiment_id, parent):
    """The trials' runs by key, and how many there are."""
    found = client.search_runs([experiment_id], f"tags.`mlflow.parentRunId` = '{parent}'", order_by=["start_time ASC"])
    return {run.data.tags["trial_id"]: run for run in found}, len(found)


def history(client, run, metric):
    return [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, metric)]


def assert_complete(study_run, requests, *, epochs=EPOCHS):
    """Each request's run is there once, with every epoch once, all parameters and its end."""
    client, experiment_id, parent = study_run
    runs, count = children(client, experiment_id, parent)
    assert count == len(requests)
    assert runs.keys() == {request.key for request in requests}
    for request in requests:
        run = runs[request.key]
        assert run.data.params == {key: str(value) for key, value in request.config.items()}
        for metric in a_row(1):
            expected = [(epoch, a_row(epoch)[metric]) for epoch in range(1, epochs + 1)]
            assert history(client, run, metric) == expected
        assert run.info.status == "FINISHED"
        assert run.data.tags["stop_reason"] == COMPLETED


class Unreliable:
    """A client whose calls fail now and then, before the store has taken them or after."""

    def __init__(self, client, error, *, failing, times=2, after=False):
        self._client, self._error, self._failing, self._after = client, error, failing, after
        self._left = dict.fromkeys(failing, times)
        self.failures = 0

    def __getattr__(self, name):
        call = getattr(self._client, name)
        if name not in self._failing:
            return call

        def sometimes(*arguments, **keywords):
            if not self._left[name]:
                return call(*arguments, **keywords)
            self._left[name] -= 1
            self.failures += 1
            if self._after:
                call(*arguments, **keywords)
            raise self._error

        return sometimes


class Mortal:
    """A client that answers so many calls and then no more; ``heal`` makes it answer again.

    With ``after`` the store still takes the call whose answer is the first to be lost.
    """

    def __init__(self, client, answers=0, *, after=False):
        self._client, self._answers, self._after = client, answers, after
        self._healed = threading.Event()
        self.calls = 0

    def heal(self):
        self._healed.set()

    def __getattr__(self, name):
        call = getattr(self._client, name)

        def until_it_dies(*arguments, **keywords):
            self.calls += 1
            if self._healed.is_set() or self.calls <= self._answers:
                return call(*arguments, **keywords)
            if self._after and self.calls == self._answers + 1:
                call(*arguments, **keywords)
            raise MlflowException("API request failed with error code 500 != 200")

        return until_it_dies


class Calls:
    """A client that notes what it was asked, in order."""

    def __init__(self, client):
        self._client = client
        self.made = []

    def __getattr__(self, name):
        def call(*arguments, **keywords):
            self.made.append((name, arguments, keywords))
            return getattr(self._client, name)(*arguments, **keywords)

        return call

    @property
    def names(self):
        return [f"{name} {','.join(keywords)}".strip() for name, _, keywords in self.made]

    @property
    def batches(self):
        """The metrics of each batch."""
        return [keywords["metrics"] for _, _, keywords in self.made if keywords.get("metrics")]
