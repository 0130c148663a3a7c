"""Both regimes of a reported study side by side, from a record whose truth is known."""

import io
import runpy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.claims.evidence import measure
from analysis.regimes import as_markdown, regime_table, regimes_section, seed_table
from analysis.reported import ReportedPart
from search_spaces.reported import REGIMES

REPORTED = runpy.run_path(str(Path(__file__).parent / "synthetic_reported.py"))
TRUTH = REPORTED["ReportedTruth"](
    effects={"cross_entropy": 0.0, "focal": -5.0, "late": 1.0},
    not_in_fair=("late",),
    best_rates={"cross_entropy": -2.0, "focal": -1.0},
    diverged=(("stated", "focal", 3),),
    diverging_rates={"focal": 0.0},
)


@pytest.fixture(scope="module")
def record():
    return REPORTED["build_record"](TRUTH)


@pytest.fixture(scope="module")
def table(record):
    return regime_table(measure(record)).set_index("arm")


def test_every_seed_of_both_regimes_has_its_row_in_full_precision(record):
    seeds = seed_table(measure(record))
    assert len(seeds) == 10 * (3 + 2)
    again = pd.read_csv(io.StringIO(seeds.to_csv(index=False)))
    pd.testing.assert_frame_equal(again, seeds, check_exact=True, check_dtype=False)
    confirm = record.trials[record.trials["phase"] == "confirm"].set_index(["regime", "arm", "seed"])
    for row in seeds.to_dict("records"):
        run = confirm.loc[(row["regime"], row["arm"], row["seed"])]
        assert row["epochs"] == run["epochs_done"]
        if not row["diverged"]:
            assert row["accuracy"] == pytest.approx(run["test_accuracy"])
            assert row["nll"] == run["test_nll"]


def test_means_and_intervals_are_those_of_the_seeds(record, table):
    seeds = seed_table(measure(record))
    for regime, arm in (("stated", "late"), ("fair", "focal"), ("stated", "cross_entropy")):
        values = 100 * seeds[(seeds["regime"] == regime) & (seeds["arm"] == arm)]["accuracy"]
        low, high = stats.t.interval(0.95, 9, values.mean(), stats.sem(values))
        row = table.loc[arm]
        found = [row[f"{regime}_{part}"] for part in ("accuracy", "low", "high")]
        assert found == pytest.approx([values.mean(), low, high])
        assert row[f"{regime}_seeds"] == 10


def test_a_diverged_seed_counts_with_chance_and_is_shown(table):
    row = table.loc["focal"]
    assert row["stated_diverged"] == 1
    assert row["stated_low"] < row["stated_accuracy"] - 5
    assert "1 diverged" in as_markdown(table.reset_index())


def test_an_interval_never_leaves_what_an_accuracy_can_be(table):
    assert table[["stated_low", "stated_high"]].to_numpy().min() >= 0
    assert table[["stated_low", "stated_high"]].to_numpy().max() <= 100


def test_an_arm_that_a_regime_lacks_has_a_dash(table):
    assert table.loc["late", "fair_seeds"] == 0
    line = next(line for line in as_markdown(table.reset_index()).splitlines() if line.startswith("| late"))
    assert line.count("| - ") == 3  # tuned, width and failed; nobody's tuned rate is on this record


def test_what_failed_on_the_grid_is_counted(table):
    rates = np.array(REPORTED["RATES"])
    assert table.loc["focal", "failed"] == pytest.approx(100 * (np.log10(rates) >= 0.0 - 1e-9).mean(), abs=20)
    assert table.loc["focal", "failed"] > table.loc["cross_entropy", "failed"]


def test_a_study_that_was_interrupted_while_it_searched_has_nobody_confirmed_yet(record):
    search = record.trials[record.trials["phase"] == "search"]
    protocol = {key: value for key, value in record.protocol.items() if key != "winners"}
    part = ReportedPart.of(replace(record, trials=search, protocol=protocol))
    assert part.seeds.empty
    assert part.files["seeds.csv"].startswith("regime,arm,seed,")
    assert part.arms["stated_seeds"].sum() == part.arms["fair_seeds"].sum() == 0
    assert part.arms["rate_width"].notna().any()
    verdicts = {result.regimes[regime].verdict for result in part.claims for regime in REGIMES}
    assert verdicts <= {"not run", "not testable"}


def test_a_regime_that_was_not_run_has_no_columns_and_no_word_in_the_answer(record):
    trials = record.trials[record.trials["regime"] == "stated"]
    protocol = {key: value for key, value in record.protocol.items() if key != "winners"} | {"regimes": ["stated"]}
    part = ReportedPart.of(replace(record, trials=trials, protocol=protocol))
    assert part.files["regimes.md"].startswith("| Arm | As stated, % [95% CI] |\n|---|---|\n| cross_entropy | ")
    (_, section) = part.sections
    assert "As stated, %" in section
    assert "Tuned rate</" not in section
    assert "as stated" in part.answer
    assert "tuned" not in part.answer
    whole = ReportedPart.of(record).answer
    assert whole.startswith(f"{part.answer.removesuffix('.')}; with tuned rates ")


def test_the_page_has_a_row_per_arm_and_escapes_names(record):
    part = ReportedPart.of(record)
    (_, section) = part.sections
    assert section.count("<tr>") == 1 + 3
    strange = part.arms.assign(arm=["<b>", "a", "c"])
    assert "<b>" not in regimes_section(strange)
    assert "&lt;b&gt;" in regimes_section(strange)
    assert set(part.files) == {"claims.json", "claims.md", "regimes.md", "seeds.csv"}
