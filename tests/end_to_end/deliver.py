"""Delivers a study's spool in a process that can be killed; it is given address, experiment, study's run and folder."""

import sys
from pathlib import Path

from mlflow import MlflowClient

from study.record import KnownRun, MlflowRecord, deliver_spool
from tests.study.told_trials import TAGS, children


def known_runs(client, experiment_id, parent):
    """What a driver that resumes the study finds on record."""
    return {
        key: KnownRun(run.info.run_id, max((metric.step for metric in run.data._metric_objs), default=0))
        for key, run in children(client, experiment_id, parent)[0].items()
    }


def deliver(uri, experiment_id, parent, folder):
    client = MlflowClient(uri)
    known = known_runs(client, experiment_id, parent)
    record = MlflowRecord(client, experiment_id, parent, TAGS, folder=folder, known=known)
    return deliver_spool(folder, record)


if __name__ == "__main__":
    *where, folder = sys.argv[1:]
    deliver(*where, Path(folder))
