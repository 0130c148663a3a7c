"""What the README says to type for a cluster can be typed; tests/cluster/test_aws_cluster.py types it."""

from study.launch import parse_options
from tests.cluster import readme
from tests.cluster.lab import ROOT


def test_the_study_that_is_submitted_has_flags_that_the_command_takes(monkeypatch):
    monkeypatch.setenv("STUDY_STORAGE_PATH", "s3://bucket/studies")  # as the head says
    line = readme.commands()["submit"]
    options, space = parse_options(line[line.index("study.launch") + 1 :])
    assert (space.name, options.dataset, options.gpus_per_trial, options.device) == ("full", "cifar10", 0.25, "cuda")
    assert options.bucket == "s3://bucket/studies"


def test_a_flag_stands_above_the_heads_word(monkeypatch, tmp_path):
    monkeypatch.setenv("STUDY_STORAGE_PATH", "s3://bucket/studies")
    options, _ = parse_options(["--space", "smoke", "--storage-path", str(tmp_path)])
    assert (options.bucket, options.storage_path) == (None, tmp_path)


def test_the_document_says_the_same_as_the_readme():
    document = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")
    typed = {" ".join(line.split("#")[0].split()) for line in document.splitlines()}
    for line in readme.lines():
        assert " ".join(line.split("#")[0].split()) in typed
