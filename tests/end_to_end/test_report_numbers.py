"""Every number of a report's tables, computed again from MLflow's database by other means than the project's."""

import csv
import html.parser
import itertools
import json
import math
import re
import sqlite3
from collections import defaultdict
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from tests.end_to_end.conftest import launch

SEEDS = 7

pytestmark = pytest.mark.studies


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A small study with every kind of row: winners, weak arms, a control."""
    folder = tmp_path_factory.mktemp("numbers")
    done = launch(
        folder, "--space", "full", "--arms", "cross_entropy,focal,l1,kl_div", "--trials", "4", "--seeds", str(SEEDS),
        "--train-size", "500",
    )  # fmt: skip
    assert done.code == 0, done.stderr
    return done


class Runs:
    """The study's runs as the database holds them: no MLflow, no project code."""

    def __init__(self, path):
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as connection:
            tags, latest = defaultdict(dict), defaultdict(dict)
            for run, key, value in connection.execute("SELECT run_uuid, key, value FROM tags"):
                tags[run][key] = value
            for run, key, value, nan in connection.execute("SELECT run_uuid, key, value, is_nan FROM latest_metrics"):
                latest[run][key] = math.nan if nan else value
            self.seconds, self.steps = defaultdict(list), defaultdict(int)
            for run, step, value in connection.execute(
                "SELECT run_uuid, step, value FROM metrics WHERE key = 'epoch_seconds'"
            ):
                self.steps[run] = max(self.steps[run], step)
                if step > 1:
                    self.seconds[run].append(value)
            (self.protocol,) = (
                json.loads((Path(urlsplit(folder).path) / "study.json").read_text(encoding="utf-8"))
                for run, folder in connection.execute("SELECT run_uuid, artifact_uri FROM runs")
                if tags[run].get("phase") == "study"
            )
        self.trials = [(run, tags[run], latest[run]) for run in tags if "mlflow.parentRunId" in tags[run]]

    def of(self, arm, metric, phase="confirm"):
        """The metric of an arm by seed."""
        return {
            int(tags["seed"]): metrics[metric]
            for _, tags, metrics in self.trials
            if (tags["phase"], tags["arm"]) == (phase, arm)
        }

    def epoch_seconds(self, arm):
        return np.median(
            [
                seconds
                for run, tags, _ in self.trials
                if (tags["phase"], tags["arm"]) == ("confirm", arm)
                for seconds in self.seconds[run]
            ]
        )

    def where(self, **wanted):
        return [run for run, tags, _ in self.trials if all(tags.get(key) == value for key, value in wanted.items())]


@pytest.fixture(scope="module")
def runs(study):
    return Runs(study.folder / "mlflow.db")


class Tables(html.parser.HTMLParser):
    """``{table id: [{heading: text}]}``."""

    def __init__(self, text):
        super().__init__()
        self.tables, self.row, self.cell, self.headings, self.identifier = {}, None, None, [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        if tag == "table":
            self.identifier, self.headings = dict(attributes)["id"], []
            self.tables[self.identifier] = []
        elif tag == "tr":
            self.row = []
        elif tag in {"td", "th"}:
            self.cell = ""

    def handle_data(self, data):
        if self.cell is not None:
            self.cell += data

    def handle_endtag(self, tag):
        if tag in {"td", "th"}:
            (self.headings if tag == "th" else self.row).append(self.cell.strip())
            self.cell = None
        elif tag == "tr" and self.row:
            self.tables[self.identifier].append(dict(zip(self.headings, self.row, strict=True)))


@pytest.fixture(scope="module")
def tables(study):
    return Tables((study.folder / "runs" / "s" / "report.html").read_text(encoding="utf-8")).tables


@pytest.fixture(scope="module")
def expected(runs):
    """Each arm's row as it should be, from the runs alone."""
    rows = {}
    base = runs.of("cross_entropy", "test_accuracy")
    for arm in ("cross_entropy", "focal", "l1", "kl_div"):
        scores = runs.of(arm, "test_accuracy")
        assert sorted(scores) == sorted(base)
        values = 100 * np.array([scores[seed] for seed in sorted(scores)])
        differences = 100 * np.array([scores[seed] - base[seed] for seed in sorted(scores)])
        rows[arm] = {"values": values, "differences": differences, "delta": runs.protocol["delta"]}
    others = [arm for arm in rows if arm != "cross_entropy"]
    corrected = multipletests([flip_p(rows[arm]["differences"]) for arm in others], method="holm")[1]
    for arm, p in zip(others, corrected, strict=True):
        rows[arm]["p"] = p
    return rows


def flip_p(differences):
    """The share of sign flips at least as far from zero as what was seen, one by one."""
    seen = abs(sum(differences))
    flips = [abs(np.dot(signs, differences)) for signs in itertools.product((1, -1), repeat=len(differences))]
    return np.mean([flip >= seen - 1e-9 for flip in flips])


def t_interval(values):
    return stats.t.interval(0.95, len(values) - 1, loc=np.mean(values), scale=stats.sem(values))


def numbers_in(text):
    return [float(part) for part in re.findall(r"[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?", text.replace("−", "-"))]


def arm_of(row):
    return row["Arm"].split()[0]


def test_the_table_has_each_arm_once_best_first(tables, expected):
    rows = tables["arms"]
    assert sorted(map(arm_of, rows)) == sorted(expected)
    shown = [numbers_in(row["Accuracy %"])[0] for row in rows]
    assert shown == sorted(shown, reverse=True)


def test_accuracies_and_their_intervals_are_those_of_the_runs(tables, expected):
    for row in tables["arms"]:
        values = expected[arm_of(row)]["values"]
        low, high = t_interval(values)
        assert numbers_in(row["Accuracy %"]) == pytest.approx(
            [np.mean(values), max(low, 0), min(high, 100)], abs=0.0051
        )
        assert numbers_in(row["Seeds"])[0] == len(values) == SEEDS


def test_differences_tests_and_equivalence_are_those_of_the_runs(tables, expected):
    for row in tables["arms"]:
        truth = expected[arm_of(row)]
        if "p" not in truth:
            assert "baseline" in row["Arm"]
            continue
        sample = truth["differences"]
        assert numbers_in(row["Δ points"]) == pytest.approx([np.mean(sample), *t_interval(sample)], abs=0.0051)
        assert numbers_in(row["Holm p"])[0] == pytest.approx(truth["p"], rel=0.051)
        better = np.mean((sample > 1e-9) + 0.5 * (np.abs(sample) <= 1e-9))
        assert numbers_in(row["P(better)"])[0] == pytest.approx(better, abs=0.0051)
        lower = stats.ttest_1samp(sample, -truth["delta"], alternative="greater").pvalue
        upper = stats.ttest_1samp(sample, truth["delta"], alternative="less").pvalue
        assert row["Within δ"] == ("yes" if max(lower, upper) < 0.05 else "no")


@pytest.mark.parametrize(("heading", "metric"), [("F1", "test_f1_macro"), ("NLL", "test_nll"), ("ECE", "test_ece")])
def test_other_scores_are_means_over_the_runs(tables, runs, heading, metric):
    for row in tables["arms"]:
        values = list(runs.of(arm_of(row), metric).values())
        assert numbers_in(row[heading])[0] == pytest.approx(np.mean(values), abs=0.00051)


def test_seconds_are_the_median_epoch_without_the_first(tables, runs):
    for row in tables["arms"]:
        assert numbers_in(row["s/epoch"])[0] == pytest.approx(runs.epoch_seconds(arm_of(row)), rel=0.0051)


def test_the_audit_counts_what_the_database_holds(tables, runs):
    for row in tables["search"]:
        arm = arm_of(row)
        assert int(row["Trials"]) == len(runs.where(phase="search", arm=arm)) == 4
        for heading, reason in (("Completed", "completed"), ("Pruned", "pruned"), ("Diverged", "diverged")):
            assert int(row.get(heading, 0)) == len(runs.where(phase="search", arm=arm, stop_reason=reason))
        assert int(row["Epochs"]) == sum(runs.steps[run] for run in runs.where(phase="search", arm=arm))
        assert int(row["Winner"]) == runs.protocol["winners"][arm]["number"]


def test_errors_over_seeds_and_of_the_test_split_stand_side_by_side(tables, expected, runs):
    images = runs.protocol["dataset"]["num_test"]
    for row in tables["errors"]:
        truth = expected[arm_of(row)]
        accuracy = np.mean(truth["values"]) / 100
        assert numbers_in(row["Accuracy: seeds"])[0] == pytest.approx(stats.sem(truth["values"]), abs=0.0051)
        binomial = 100 * math.sqrt(accuracy * (1 - accuracy) / images)
        assert numbers_in(row["Accuracy: test split"])[0] == pytest.approx(binomial, abs=0.0051)
        if "p" in truth:
            assert numbers_in(row["Δ: seeds"])[0] == pytest.approx(stats.sem(truth["differences"]), abs=0.0051)


def test_the_files_beside_the_page_say_the_same(study, expected):
    folder = study.folder / "runs" / "s"
    with (folder / "comparisons.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            truth = expected[row["arm"]]
            low, high = t_interval(truth["differences"])
            assert float(row["difference_points"]) == pytest.approx(np.mean(truth["differences"]))
            assert [float(row["low_points"]), float(row["high_points"])] == pytest.approx([low, high])
            assert float(row["p_holm"]) == pytest.approx(truth["p"])
    with (folder / "arms.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            assert float(row["accuracy"]) == pytest.approx(np.mean(expected[row["arm"]]["values"]) / 100)
