"""A checkpoint is read back whole, or refused with a reason; what was good before it is never lost."""

import errno
import hashlib
import io
import os
import pickle
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.buckets import serving_bucket
from trainables.bucket import list_objects, write_object
from trainables.checkpoint import MAGIC, VERSION, read_checkpoint, remove_checkpoint, replace_file, write_checkpoint

TRIAL = {"key": "arm/search/0", "config": {"loss": "l1", "epochs": 9}, "model": {"weight": ["torch.float32", 2, 3]}}
DAMAGED = "is damaged: its digest is another"
NO_CHECKPOINT = "is empty or no checkpoint"


def content(epoch, **trial):
    return {"trial": TRIAL | trial, "epoch": epoch, "weights": torch.arange(6.0).view(2, 3) * epoch}


def packed(payload, version=VERSION):
    """The bytes of a file whose digest is right."""
    return f"{MAGIC} {version} {hashlib.sha256(payload).hexdigest()}\n".encode() + payload


def saved(anything):
    buffer = io.BytesIO()
    torch.save(anything, buffer)
    return buffer.getvalue()


GOOD = packed(saved(content(3)))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "runs" / "arm-search-0.pt"


@pytest.fixture
def previous(path):
    return path.with_name("arm-search-0.pt.previous")


def names(path):
    return sorted(file.name for file in path.parent.iterdir())


def test_what_was_written_is_read_and_nothing_else_is_left(path):
    write_checkpoint(path, content(3))
    found, notice = read_checkpoint(path, TRIAL)
    assert notice == ""
    assert found.keys() == content(3).keys()
    assert (found["trial"], found["epoch"]) == (TRIAL, 3)
    assert torch.equal(found["weights"], content(3)["weights"])
    assert names(path) == [path.name]


def test_without_a_file_there_is_nothing_to_read_and_nothing_to_say(path):
    assert read_checkpoint(path, TRIAL) == (None, "")


def test_the_file_begins_with_its_version_and_the_digest_of_the_rest(path):
    write_checkpoint(path, content(3))
    header, _, payload = path.read_bytes().partition(b"\n")
    assert header.decode() == f"training-choice-study checkpoint {VERSION} {hashlib.sha256(payload).hexdigest()}"
    assert torch.load(io.BytesIO(payload), weights_only=True)["epoch"] == 3


def test_the_one_before_is_kept_and_no_older_one(path, previous):
    for epoch in (1, 2, 3):
        write_checkpoint(path, content(epoch))
    assert names(path) == [path.name, previous.name]
    assert read_checkpoint(path, TRIAL)[0]["epoch"] == 3
    path.unlink()  # as between the two renames of a write
    found, notice = read_checkpoint(path, TRIAL)
    assert (found["epoch"], notice) == (2, "")


# Damage

DAMAGES = {
    "empty": (b"", NO_CHECKPOINT),
    "zeros": (bytes(len(GOOD)), NO_CHECKPOINT),
    "text": (b"epoch,val_accuracy\n1,0.5\n", NO_CHECKPOINT),
    "torch file": (saved(content(3)), NO_CHECKPOINT),
    "cut in the name": (GOOD[:12], NO_CHECKPOINT),
    "cut in the digest": (GOOD[:60], DAMAGED),
    "cut after the header": (GOOD[: GOOD.index(b"\n") + 1], DAMAGED),
    "cut in the middle": (GOOD[: len(GOOD) // 2], DAMAGED),
    "cut by a byte": (GOOD[:-1], DAMAGED),
    "longer by a byte": (GOOD + b"\0", DAMAGED),
    "other version": (packed(saved(content(3)), version=VERSION + 1), f"has the format '{VERSION + 1}' and not '1'"),
    "other trial": (packed(saved(content(3, key="arm/search/1"))), "is of another trial (by its key)"),
    "other config": (
        packed(saved(content(3, config={"loss": "mse", "epochs": 9}))),
        "is of another trial (by its config)",
    ),
    "other key and model": (
        packed(saved(content(3, key="", model={"weight": ["torch.float32", 3, 2]}))),
        "is of another trial (by its key, model)",
    ),
    "nothing inside": (packed(b""), "holds what no checkpoint holds"),
    "a number inside": (packed(saved(3)), "holds what no checkpoint holds"),
    "no trial inside": (packed(saved({"epoch": 3})), "holds what no checkpoint holds"),
    "a tensor for a trial": (packed(saved({"trial": torch.zeros(3)})), "holds what no checkpoint holds"),
    "an object inside": (packed(saved(content(3) | {"epoch": Path("3")})), "holds what no checkpoint holds"),
}
every_damage = pytest.mark.parametrize(("damaged", "reason"), DAMAGES.values(), ids=DAMAGES)


@every_damage
def test_a_damaged_file_gives_way_to_the_one_before_it(damaged, reason, path, previous):
    write_checkpoint(path, content(2))
    write_checkpoint(path, content(3))
    path.write_bytes(damaged)
    found, notice = read_checkpoint(path, TRIAL)
    assert (found["epoch"], notice) == (2, f"The checkpoint {path.name} {reason}; the one before it is used instead.")

    write_checkpoint(path, content(4))
    assert read_checkpoint(path, TRIAL)[0]["epoch"] == 4
    path.write_bytes(damaged)
    assert read_checkpoint(path, TRIAL)[0]["epoch"] == 2  # not the damaged one, which was there before it


@every_damage
def test_where_both_are_damaged_the_trial_starts_from_scratch(damaged, reason, path, previous):
    path.parent.mkdir()
    path.write_bytes(damaged)
    assert read_checkpoint(path, TRIAL) == (
        None,
        f"The checkpoint {path.name} {reason}; the trial starts from scratch.",
    )
    assert names(path) == []
    path.write_bytes(GOOD[:-1])
    previous.write_bytes(damaged)
    both = f"The checkpoint {path.name} {DAMAGED} and {previous.name} {reason}; the trial starts from scratch."
    assert read_checkpoint(path, TRIAL) == (None, both)


@settings(deadline=None)  # a busy machine is not a failure
@given(st.integers(0, 8 * len(GOOD) - 1))
def test_one_flipped_bit_anywhere_is_noticed(tmp_path_factory, bit):
    flipped = bytearray(GOOD)
    flipped[bit // 8] ^= 1 << bit % 8
    assert_refused(tmp_path_factory, flipped)


@settings(deadline=None)  # a busy machine is not a failure
@given(st.integers(0, len(GOOD) - 1))
def test_a_cut_anywhere_is_noticed(tmp_path_factory, length):
    assert_refused(tmp_path_factory, GOOD[:length])


def assert_refused(tmp_path_factory, written):
    path = tmp_path_factory.getbasetemp() / "damaged.pt"
    path.write_bytes(written)
    found, notice = read_checkpoint(path, TRIAL)
    assert found is None
    assert notice.startswith("The checkpoint damaged.pt ")
    path.write_bytes(GOOD)
    assert read_checkpoint(path, TRIAL)[0]["epoch"] == 3


class Bomb:
    """Runs a command where it is unpickled."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("pack", [saved, pickle.dumps], ids=["torch", "pickle"])
def test_a_pickle_with_the_right_digest_runs_nothing(pack, path, tmp_path):
    pickle.loads(pickle.dumps(Bomb(tmp_path / "control")))
    assert (tmp_path / "control").is_dir()
    path.parent.mkdir()
    path.write_bytes(packed(pack(content(3) | {"model": Bomb(tmp_path / "ran")})))
    found, notice = read_checkpoint(path, TRIAL)
    assert found is None
    assert notice == f"The checkpoint {path.name} holds what no checkpoint holds; the trial starts from scratch."
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo], ids=["folder", "pipe"])
def test_what_is_no_file_is_not_opened(make, path, previous):
    path.parent.mkdir()
    previous.write_bytes(GOOD)
    make(path)
    found, notice = read_checkpoint(path, TRIAL)
    assert (found["epoch"], notice) == (
        3,
        f"The checkpoint {path.name} is no regular file; the one before it is used instead.",
    )


def test_a_folder_in_its_place_is_left_alone_and_nothing_is_written(path):
    path.mkdir(parents=True)
    (path / "notes.txt").write_text("mine")
    read_checkpoint(path, TRIAL)
    with pytest.raises(IsADirectoryError):
        write_checkpoint(path, content(3))
    assert names(path) == [path.name]
    assert (path / "notes.txt").read_text() == "mine"


def test_a_file_that_cannot_be_read_is_kept(path, previous, monkeypatch):
    write_checkpoint(path, content(2))
    write_checkpoint(path, content(3))
    read_bytes = Path.read_bytes

    def refusing(self):
        if self == path:
            raise PermissionError(errno.EACCES, "Permission denied")
        return read_bytes(self)

    monkeypatch.setattr(Path, "read_bytes", refusing)
    found, notice = read_checkpoint(path, TRIAL)
    said = f"The checkpoint {path.name} cannot be read (Permission denied); the one before it is used instead."
    assert (found["epoch"], notice) == (2, said)
    assert names(path) == [path.name, previous.name]


# A full disk


def full(*_arguments):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("where", ["pathlib.Path.open", "os.fsync", "pathlib.Path.replace"])
def test_a_write_that_fails_leaves_the_last_one_and_nothing_of_its_own(where, path, monkeypatch):
    write_checkpoint(path, content(2))
    with monkeypatch.context() as patch:
        patch.setattr(where, full)
        with pytest.raises(OSError, match="No space left"):
            write_checkpoint(path, content(3))
    assert names(path) == [path.name]
    assert read_checkpoint(path, TRIAL)[0]["epoch"] == 2


def test_a_write_that_fails_in_the_middle_leaves_the_last_one_and_nothing_of_its_own(path):
    write_checkpoint(path, content(2))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            write_checkpoint(path, content(3))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert names(path) == [path.name]
    assert read_checkpoint(path, TRIAL)[0]["epoch"] == 2


def test_a_write_that_fails_between_the_renames_leaves_the_last_one_where_it_is_found(path, previous, monkeypatch):
    write_checkpoint(path, content(2))
    replace = Path.replace
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", lambda self, target: replace(self, target) if target == previous else full())
        with pytest.raises(OSError, match="No space left"):
            write_checkpoint(path, content(3))
    assert names(path) == [previous.name]
    found, notice = read_checkpoint(path, TRIAL)
    assert (found["epoch"], notice) == (2, "")


def test_a_file_is_replaced_whole(path):
    replace_file(path, b"ab", b"c")
    replace_file(path, b"de")
    assert path.read_bytes() == b"de"
    assert names(path) == [path.name]


# Removal


@pytest.mark.parametrize("name", ["arm-search-0.pt", "[a]*?.pt", "ärm\n0.pt"])
def test_removal_leaves_nothing_of_the_trial_and_everything_of_the_others(name, tmp_path):
    path = tmp_path / name
    others = [tmp_path / "arm-search-00.pt", tmp_path / "a.pt.7.partial", tmp_path / "arm-search-01.pt.7.partial"]
    for other in others:
        other.write_bytes(b"")
    for epoch in (1, 2):
        write_checkpoint(path, content(epoch))
    path.with_name(f"{name}.4711.partial").write_bytes(b"half")  # of a process that was killed
    remove_checkpoint(path)
    assert sorted(tmp_path.iterdir()) == sorted(others)
    remove_checkpoint(path)


def test_removal_where_there_was_never_a_folder(tmp_path):
    remove_checkpoint(tmp_path / "nowhere" / "arm-search-0.pt")
    assert list(tmp_path.iterdir()) == []


def test_the_driver_removes_checkpoints_without_torch(path):
    write_checkpoint(path, content(1))
    script = "import sys; from pathlib import Path; from trainables.checkpoint import remove_checkpoint; "
    script += "remove_checkpoint(Path(sys.argv[1])); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
    assert names(path) == []


# In a bucket


@pytest.fixture(scope="module")
def bucket():
    with serving_bucket() as address:
        yield address


def test_in_a_bucket_the_last_one_is_read_and_removed(bucket):
    address = f"{bucket}/s/checkpoints/arm/search/0.pt"
    assert read_checkpoint(address, TRIAL) == (None, "")
    for epoch in (1, 2):
        write_checkpoint(address, content(epoch))
    found, notice = read_checkpoint(address, TRIAL)
    assert (found["epoch"], notice) == (2, "")
    assert list(list_objects(f"{bucket}/s")) == ["checkpoints/arm/search/0.pt"]
    remove_checkpoint(address)
    assert list(list_objects(f"{bucket}/s")) == []


@pytest.mark.parametrize(
    ("damaged", "reason"),
    [
        (GOOD[:-1], DAMAGED),
        (b"", NO_CHECKPOINT),
        (packed(saved(content(3, key="other"))), "is of another trial (by its key)"),
    ],
)
def test_in_a_bucket_what_is_not_good_is_not_believed(damaged, reason, bucket):
    address = f"{bucket}/damaged/0.pt"
    write_object(address, damaged)
    assert read_checkpoint(address, TRIAL) == (None, f"The checkpoint 0.pt {reason}; the trial starts from scratch.")
    write_checkpoint(address, content(4))
    assert read_checkpoint(address, TRIAL)[0]["epoch"] == 4


def test_a_bucket_that_is_gone_is_said_and_the_trial_starts_from_scratch(bucket):
    reason = "The checkpoint 0.pt cannot be read (OSError); the trial starts from scratch."
    assert read_checkpoint(f"{bucket}-not/0.pt", TRIAL) == (None, reason)
    with pytest.raises(OSError, match="bucket"):
        write_checkpoint(f"{bucket}-not/0.pt", content(1))
