"""What is written to a spool comes back, and nothing else does."""

import json
import math

import pytest

from study import spool as spool_module
from study.ledger import COMPLETED, CONFIRM
from study.spool import SPOOL_FILE, End, Row, Start, read_spool, write_spool
from tests.study.told_trials import FINAL, KEY, a_request, a_row
from trainables.config import InputError

ITEMS = [
    Start(a_request(), 1_700_000_000_000),
    Row(KEY, 1, a_row(1) | {"third": 1 / 3, "low": -math.inf, "tiny": 5e-324}, 1_700_000_000_001),
    Start(a_request(phase=CONFIRM, number=3), 1_700_000_000_002),
    End(KEY, COMPLETED, {"node": "näme", "notice": 'two\nlines \u2028 and a "quote"'}, FINAL, 1_700_000_000_003),
    Row("focal/confirm/3", 1, {}, 1_700_000_000_004),
    End("focal/confirm/3", "failed", {}, None, 1_700_000_000_005),
]


@pytest.fixture
def written(tmp_path):
    return write_spool(tmp_path, "the study's run", ITEMS)


def test_everything_comes_back_as_it_was_told_and_in_order(tmp_path, written):
    spool = read_spool(tmp_path)
    assert spool.items == ITEMS
    assert spool.study_run == "the study's run"
    assert [path.name for path in tmp_path.iterdir()] == [SPOOL_FILE]


def test_value_that_is_not_a_number_comes_back(tmp_path):
    write_spool(tmp_path, "s", [Row(KEY, 1, {"val_nll": math.nan}, 1)])
    (row,) = read_spool(tmp_path).items
    assert math.isnan(row.metrics["val_nll"])


def test_line_is_an_object_of_its_own(written):
    kinds = [json.loads(line).get("kind") for line in written.read_text(encoding="utf-8").splitlines()]
    assert kinds == [None, "start", "row", "start", "end", "row", "end"]


def test_folder_without_one_has_none(tmp_path):
    assert read_spool(tmp_path) is None


def test_next_one_takes_the_place_of_the_last_at_once(tmp_path, written):
    whole = written.read_bytes()
    with written.open("rb") as before:
        write_spool(tmp_path, "s", ITEMS[:1])
        assert before.read() == whole
    assert read_spool(tmp_path).items == ITEMS[:1]


def test_spool_that_cannot_be_written_leaves_the_last_one_whole(tmp_path, written, monkeypatch):
    def full(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(spool_module.os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        write_spool(tmp_path, "s", [])
    assert [path.name for path in tmp_path.iterdir()] == [SPOOL_FILE]
    assert read_spool(tmp_path).items == ITEMS


def test_wherever_it_is_torn_off_the_lines_before_count(tmp_path, written, caplog, monkeypatch):
    monkeypatch.setattr(spool_module.logger, "propagate", True)
    whole = written.read_bytes()
    head = whole.index(b"\n")
    for length in range(0, len(whole), 7):
        written.write_bytes(whole[:length])
        if length < head:
            with pytest.raises(InputError, match="is no spool of a study"):
                read_spool(tmp_path)
            continue
        caplog.clear()
        items = read_spool(tmp_path).items
        assert items == ITEMS[: len(items)]
        assert len(items) in {whole[:length].count(b"\n") - 1, whole[:length].count(b"\n")}
        torn = len(items) < len(ITEMS)
        assert [message for message in caplog.messages if "was torn off" in message] == caplog.messages
        assert bool(caplog.messages) is torn


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is no spool of a study"),
        (b"\n", "is no spool of a study"),
        (b"[1, 2]\n", "is no spool of a study"),
        (b'"spool"\n', "is no spool of a study"),
        (b"{}\n", "is no spool of a study"),
        (b"PK\x03\x04\xff\xfe", "cannot be read"),
        (b'{"spool": 2, "study_run": "r", "items": 0}\n', "is a spool of version 2; this code reads"),
    ],
)
def test_file_that_is_none_is_refused_on_one_line(tmp_path, content, says):
    (tmp_path / SPOOL_FILE).write_bytes(content)
    with pytest.raises(InputError, match=says) as caught:
        read_spool(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("line", ["{", "[]", "{}", '{"kind": "row"}', '{"kind": "reduce", "key": "a"}', "null", "\x00"])
def test_damage_in_the_middle_is_refused_with_its_line(tmp_path, written, line):
    lines = written.read_text(encoding="utf-8").split("\n")
    lines[2] = line
    written.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(InputError, match="is damaged in line 3"):
        read_spool(tmp_path)
