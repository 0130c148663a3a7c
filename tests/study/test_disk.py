"""A full disk is told from any other failure, and the folder that lies on it is named."""

import errno
import os
from types import SimpleNamespace

import pytest
from mlflow.exceptions import MlflowException

from study import disk
from study.disk import full_disk, says_full
from study.ledger import Ledger
from study.options import Options
from study.schedule import ArmScheduler

NO_ROOM = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def options(tmp_path, monkeypatch):
    """A study with three bytes left for its folder and a million for its database."""
    (tmp_path / "records").mkdir()
    free = {tmp_path: 3, tmp_path / "records": 10**6}
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda folder: SimpleNamespace(free=free[folder]))
    uri = f"sqlite:///{tmp_path}/records/mlflow.db"
    return Options(
        command="", name="s", space="smoke", storage_path=tmp_path / "runs", tracking_uri=uri, experiment_name="s"
    )


def wrapped(error):
    """An error as MLflow raises it on behalf of another."""
    try:
        try:
            raise error
        except OSError as cause:
            raise MlflowException("the store does not answer") from cause
    except MlflowException as outer:
        return outer


@pytest.mark.parametrize(
    "error",
    [
        NO_ROOM,
        wrapped(NO_ROOM),
        OSError(errno.EDQUOT, "Disk quota exceeded", "/somewhere"),
        "(sqlite3.OperationalError) database or disk is full",
    ],
)
def test_a_full_disk_is_named_by_the_folder_with_less_room(options, error):
    assert full_disk(error, options) == f"The disk of {options.folder} is full (0.0 MB left); make room."


@pytest.mark.parametrize(
    "error", [OSError(errno.EACCES, "Permission denied"), wrapped(OSError("28")), "disk I/O error"]
)
def test_any_other_failure_is_none(options, error):
    assert full_disk(error, options) == ""


def test_a_trial_that_failed_for_a_full_disk_ends_the_study_and_no_other_does(tmp_path):
    scheduler = ArmScheduler(Ledger(), None, lambda _: False)
    trial = SimpleNamespace(error_file=str(tmp_path / "error.txt"), run_metadata=SimpleNamespace())
    (tmp_path / "error.txt").write_text("RuntimeError: no gradient today")
    scheduler.on_trial_error(None, trial)
    assert trial.run_metadata.pickled_error_filename is None
    (tmp_path / "error.txt").write_text(f"Failure # 1\n{NO_ROOM}\n")
    with pytest.raises(OSError, match="No space left") as caught:
        scheduler.on_trial_error(None, trial)
    assert says_full(str(caught.value))
