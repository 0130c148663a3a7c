"""The driver's files in a bucket: copied when they change, fetched where nobody has gone on since."""

from pathlib import Path

import pytest

from study.confirm import checkpoint_path, weights_path
from study.options import Options
from study.storage import (
    Mirror,
    check_bucket,
    fetch_files,
    fetch_weights,
    remove_checkpoints,
    remove_weights,
    share_report,
)
from tests.buckets import serving_bucket
from trainables.bucket import list_objects, read_object, write_object
from trainables.config import InputError

JOURNAL, SPOOL = "optuna.journal", "spool.jsonl"


@pytest.fixture(scope="module")
def server():
    with serving_bucket() as address:
        yield address


@pytest.fixture
def options(server, tmp_path, request):
    required = {"command": "", "name": "s", "space": "full", "tracking_uri": "sqlite:////x.db", "experiment_name": "e"}
    name = "".join(c for c in request.node.name if c.isalnum())
    options = Options(**required, storage_path=tmp_path / "runs", bucket=f"{server}/{name}")
    options.folder.mkdir(parents=True)
    return options


def objects(options):
    return sorted(list_objects(options.shared))


def in_folder(options):
    """The same study without a bucket."""
    return Options(**{**vars(options), "bucket": None})


def test_without_a_bucket_the_folder_is_the_storage(options):
    plain = in_folder(options)
    assert plain.shared == plain.folder
    assert checkpoint_path(plain.shared, "arm/search/0") == str(plain.folder / "checkpoints/arm/search/0.pt")
    assert weights_path(plain.shared, "arm", 3) == str(plain.folder / "models/arm-3.pt")
    (plain.folder / JOURNAL).write_text("one\n")
    Mirror(plain, (JOURNAL,)).push()
    fetch_files(plain, JOURNAL, (SPOOL,))
    check_bucket(plain)
    fetch_weights(plain)
    assert [path.name for path in plain.folder.iterdir()] == [JOURNAL]


def test_with_a_bucket_workers_write_there(options):
    assert checkpoint_path(options.shared, "arm/search/0") == f"{options.bucket}/s/checkpoints/arm/search/0.pt"
    assert weights_path(options.shared, "arm", 3) == f"{options.bucket}/s/models/arm-3.pt"


def test_what_has_changed_is_copied_and_what_is_gone_goes(options, monkeypatch):
    mirror = Mirror(options, (JOURNAL, SPOOL))
    mirror.push()
    assert objects(options) == []
    (options.folder / JOURNAL).write_text("one\n")
    (options.folder / SPOOL).write_text("items\n")
    (options.folder / "other").write_text("stays here\n")
    mirror.push()
    assert objects(options) == [JOURNAL, SPOOL]
    with (options.folder / JOURNAL).open("a") as file:
        file.write("two\n")
    (options.folder / SPOOL).unlink()
    mirror.push()
    assert objects(options) == [JOURNAL]
    assert read_object(f"{options.shared}/{JOURNAL}") == b"one\ntwo\n"
    written = []
    monkeypatch.setattr("study.storage.write_object", lambda *given: written.append(given))
    mirror.push()
    assert written == []


def test_a_copy_that_failed_is_made_the_next_time(options, monkeypatch):
    mirror = Mirror(options, (JOURNAL,))
    (options.folder / JOURNAL).write_text("one\n")

    def refuse(*_):
        raise OSError("no answer")

    with monkeypatch.context() as patch:
        patch.setattr("study.storage.write_object", refuse)
        with pytest.raises(OSError, match="no answer"):
            mirror.push()
    mirror.push()
    assert objects(options) == [JOURNAL]


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        (None, {JOURNAL: "one\ntwo\n", SPOOL: "theirs"}, {JOURNAL: "one\ntwo\n", SPOOL: "theirs"}),  # a new machine
        ({JOURNAL: "one\n"}, {JOURNAL: "one\ntwo\n"}, {JOURNAL: "one\ntwo\n"}),  # another machine has gone on
        ({JOURNAL: "one\nlost\n"}, {JOURNAL: "one\ntwo\n"}, {JOURNAL: "one\ntwo\n"}),  # likewise
        # The last lines have not come to the bucket, and nobody has gone on from there: the spool belongs to them.
        ({JOURNAL: "one\ntwo\n", SPOOL: "ours"}, {JOURNAL: "one\n"}, {JOURNAL: "one\ntwo\n", SPOOL: "ours"}),
        ({JOURNAL: "one\ntwo\n"}, {JOURNAL: "one\nt", SPOOL: "theirs"}, {JOURNAL: "one\ntwo\n"}),
        ({JOURNAL: "one\n"}, {}, {JOURNAL: "one\n"}),
        (None, {}, {}),
        # A reported study has no journal.
        (None, {SPOOL: "theirs"}, {SPOOL: "theirs"}),
    ],
)
def test_files_are_fetched_where_nobody_here_is_further(ours, theirs, expected, options):
    for name, text in (ours or {}).items():
        (options.folder / name).write_text(text)
    for name, text in theirs.items():
        write_object(f"{options.shared}/{name}", text.encode())
    fetch_files(options, JOURNAL, (SPOOL,))
    assert {path.name: path.read_text() for path in options.folder.iterdir()} == expected


def test_a_bucket_that_takes_objects_is_left_as_it_was(options):
    check_bucket(options)
    assert objects(options) == []


def test_a_name_that_is_taken_in_the_bucket_is_refused_unless_it_is_resumed(options):
    write_object(f"{options.shared}/{JOURNAL}", b"")
    with pytest.raises(InputError, match=f"The study 's' exists already in {options.bucket}; give another `--name`"):
        check_bucket(options)
    check_bucket(Options(**{**vars(options), "resume": True}))
    assert objects(options) == [JOURNAL]


def test_a_bucket_that_does_not_exist_is_refused_in_one_line(options):
    nowhere = Options(**{**vars(options), "bucket": "s3://bucket-nowhere/x"})
    with pytest.raises(InputError, match="`--storage-path` must be a bucket that can be read and written") as refused:
        check_bucket(nowhere)
    assert "\n" not in str(refused.value)


def test_files_that_cannot_be_fetched_are_one_line(options, monkeypatch):
    def refuse(address):
        raise OSError("access denied")

    monkeypatch.setattr("study.storage.read_object", refuse)
    with pytest.raises(InputError, match=f"`--storage-path {options.bucket}` cannot be read: access denied"):
        fetch_files(options, JOURNAL, ())


@pytest.mark.parametrize("where", ["bucket", "folder"])
def test_checkpoints_of_some_trials_go_and_then_all(where, options):
    options = options if where == "bucket" else in_folder(options)
    put = write_object if where == "bucket" else _write_file
    keys = ["arm/search/0", "arm/search/1", "arm/confirm/1"]
    for key in keys:
        put(checkpoint_path(options.shared, key), b"x")
    remove_checkpoints(options, ["arm/search/1", "arm/search/9"])
    assert _checkpoints(options) == ["arm/confirm/1.pt", "arm/search/0.pt"]
    remove_checkpoints(options)
    assert _checkpoints(options) == []


def _write_file(place, content):
    Path(place).parent.mkdir(parents=True, exist_ok=True)
    Path(place).write_bytes(content)


def _checkpoints(options):
    folder = options.folder / "checkpoints"
    if options.bucket is None:
        return sorted(str(path.relative_to(folder)) for path in folder.rglob("*.pt"))
    return sorted(list_objects(f"{options.shared}/checkpoints"))


def test_the_page_and_the_tables_are_put_into_the_bucket_and_the_page_is_named(options, monkeypatch):
    files = [options.folder / "report.html", options.folder / "arms.csv"]
    for file in files:
        file.write_text(file.name)
    assert share_report(in_folder(options), files) == str(files[0])
    assert objects(options) == []
    assert share_report(options, files) == f"{options.shared}/report.html"
    assert objects(options) == ["arms.csv", "report.html"]
    assert read_object(f"{options.shared}/report.html") == b"report.html"

    def refuse(*_):
        raise OSError("access denied")

    monkeypatch.setattr("study.storage.write_object", refuse)
    assert share_report(options, files) == f"{files[0]} ({options.bucket} did not take it: access denied)"


def test_weights_are_fetched_and_removed_everywhere(options):
    write_object(weights_path(options.shared, "arm", 1), b"one")
    write_object(weights_path(options.shared, "other", 2), b"two")
    fetch_weights(options)
    assert Path(weights_path(options.folder, "arm", 1)).read_bytes() == b"one"
    assert Path(weights_path(options.folder, "other", 2)).read_bytes() == b"two"
    remove_weights(options)
    assert objects(options) == []
    assert not (options.folder / "models").exists()
