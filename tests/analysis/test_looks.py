"""What a report says of a study that was extended, on records whose truth is known at each look."""

import io
import json
import re
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import pandas as pd
import pytest

from analysis.across.studies import put_together
from analysis.compare import arm_names
from analysis.configurations import describe_trials
from analysis.earlier import mark_earlier
from analysis.epochs_file import to_parquet
from analysis.figures.table import FIGURES
from analysis.findings import find
from analysis.looks import disagreements, named, no_looks, say_look, title_of
from analysis.looks_section import looks_section
from analysis.page import build_page
from analysis.plain import width
from analysis.remarks import audit_remarks, protocol_facts
from analysis.terminal import as_json, as_markdown, as_text, build_sections

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "report.schema.json").read_text(encoding="utf-8"))
DESCRIBED = (Path(__file__).parents[2] / "docs" / "report.md").read_text(encoding="utf-8")
#: Columns that differ between two records of the same numbers.
OF_THE_RUN = ("run_id", "runs", "logged_at")


@pytest.fixture(scope="module")
def extended(findings_of_extended):
    return findings_of_extended("extended")


def look_rows(findings, look):
    return findings.looks[findings.looks["look"] == look].set_index("arm")


def change(findings, **protocol):
    """The findings of the same runs under another protocol, phases told apart anew."""
    recorded = {"earlier confirm": "confirm", "earlier control": "control"}
    trials = findings.record.trials.assign(phase=findings.record.trials["phase"].replace(recorded))
    protocol = {**findings.record.protocol, **protocol}
    return find(replace(findings.record, trials=mark_earlier(trials, protocol), protocol=protocol))


@pytest.mark.parametrize("frame", ["table", "comparisons", "control", "audit"])
def test_the_answer_is_that_of_a_study_which_has_the_last_look_alone(extended, findings_of_extended, frame):
    alone = findings_of_extended("only-second")
    pd.testing.assert_frame_equal(getattr(extended, frame), getattr(alone, frame))
    assert extended.verdict.startswith(alone.verdict)
    assert extended.arms == alone.arms == ("cross_entropy", "focal", "hinge", "l1")


@pytest.mark.parametrize("key", list(FIGURES))
def test_every_figure_is_that_of_a_study_which_has_the_last_look_alone(extended, findings_of_extended, key):
    shown, expected = (
        FIGURES[key].info(findings).drop(columns=[*OF_THE_RUN], errors="ignore")
        for findings in (extended, findings_of_extended("only-second"))
    )
    pd.testing.assert_frame_equal(shown, expected)


def test_each_look_stands_as_its_own_report_would(extended, findings_of_extended):
    for look, study in ((1, "only-first"), (2, "only-second")):
        alone, rows = findings_of_extended(study), look_rows(extended, look)
        for frame in (alone.table, alone.comparisons):
            expected = frame.set_index("arm")
            shared = [column for column in expected if column in rows and column not in {"num_seeds", "num_diverged"}]
            assert {"accuracy", "p_holm"} & set(shared)
            for column in shared:
                shown = rows.loc[expected.index, column].astype(float).to_numpy()
                np.testing.assert_array_equal(shown, expected[column].astype(float).to_numpy())
        assert rows["num_seeds"].to_dict() == alone.table.set_index("arm")["num_seeds"].to_dict()
        assert rows["num_diverged"].to_dict() == alone.table.set_index("arm")["num_diverged"].to_dict()


def test_each_look_says_what_was_searched_and_confirmed(extended):
    first, second = look_rows(extended, 1), look_rows(extended, 2)
    assert set(first["trials_per_arm"]) == {3}
    assert set(second["trials_per_arm"]) == {6}
    assert first["finding"].to_dict() == {
        "focal": "better", "hinge": "equivalent", "l1": "worse", "cross_entropy": ""
    }  # fmt: skip
    assert second["finding"].to_dict() == {
        "focal": "equivalent", "hinge": "better", "l1": "worse", "cross_entropy": ""
    }  # fmt: skip
    assert first["winner"].to_dict() == {"cross_entropy": 1, "focal": 0, "hinge": 1, "l1": None}
    assert first["winner_changed"].tolist() == [None] * 4
    assert second["winner_changed"].to_dict() == {"cross_entropy": False, "focal": True, "hinge": False, "l1": None}
    ranked = extended.table["arm"].tolist()
    assert extended.looks["arm"].tolist() == [arm for arm in ranked for _ in range(2)]


def test_a_winner_trained_from_another_seed_is_the_same_configuration(extended):
    winner = dict(extended.record.protocol["winners"]["hinge"])
    looks = [dict(look) for look in extended.record.protocol["looks"]]
    looks[0]["winners"] = looks[0]["winners"] | {"hinge": winner | {"config": winner["config"] | {"seed": 99}}}
    assert look_rows(change(extended, looks=looks), 2).loc["hinge", "winner_changed"] is False


def test_looks_that_disagree_are_named_and_those_that_agree_are_not(extended):
    assert disagreements(extended.looks) == {
        "hinge": "no difference larger than δ at the first look, better at the second look",
        "focal": "better at the first look, no difference larger than δ at the second look",
    }
    assert extended.verdict.endswith(
        " This is the second look: after the first look the search went on from 3 to 6 trials per arm. The answer is "
        "from its fresh seeds alone and not corrected for earlier looks. The looks disagree on hinge and focal."
    )


def looks_frame(**findings):
    """A frame of looks with what each look found of each arm; ``twin`` is the baseline under another name."""
    rows = [
        {"look": look, "trials_per_arm": 10 * look, "arm": arm, "finding": found, "num_seeds": 5, "twin": arm == "twin"}
        for arm, own in findings.items()
        for look, found in enumerate(own, start=1)
    ]
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    ("found", "apart"),
    [
        (("better", "worse"), True),
        (("better", "inconclusive"), True),
        (("within luck", "worse"), True),
        (("better", "better"), False),
        (("equivalent", "inconclusive"), False),
        (("within luck", "inconclusive"), False),
        (("better", ""), False),  # not confirmed at the second
        (("better", "better", "worse"), True),
    ],
)
def test_looks_disagree_where_one_finds_a_difference_and_another_does_not(found, apart):
    assert list(disagreements(looks_frame(a=found))) == (["a"] if apart else [])
    assert disagreements(looks_frame(twin=found)) == {}


def test_the_sentence_counts_arms_that_are_too_many_to_name():
    frame = looks_frame(**dict.fromkeys("abcd", ("better", "worse")))
    assert say_look(frame).endswith("The looks disagree on 4 arms.")
    assert "disagree" not in say_look(looks_frame(a=("better", "better")))


def test_looks_are_counted_in_words_as_far_as_words_go():
    frame = looks_frame(a=("better", "better", "better"))
    assert title_of(frame) == "Third look"
    assert " This is the third look: after the second look the search went on from 20 to 30 trials" in say_look(frame)
    assert (named(10), named(11)) == ("the tenth look", "look 11")


def test_a_look_that_has_not_begun_leaves_the_earlier_ones_on_view(extended):
    looks = [*extended.record.protocol["looks"], {"trials_per_arm": 9, "confirm_seeds": [21, 22], "winners": {}}]
    findings = change(extended, looks=looks)
    assert findings.verdict == (
        "No verdict yet: no confirm run is on record, and the scores of a search are not results. This is the third "
        "look: after the second look the search went on from 6 to 9 trials per arm. What earlier confirmations found is"
        " listed by look."
    )
    assert look_rows(findings, 3)["num_seeds"].tolist() == [0] * 4
    assert look_rows(findings, 2).loc["hinge", "finding"] == "better"
    assert look_rows(findings, 3)["winner_changed"].tolist() == [None] * 4
    assert as_text(findings).count("Third look\n==========\n") == 1
    assert "section-looks" in build_page(findings)


def test_the_control_of_an_earlier_look_is_no_arm(extended):
    assert "kl_div" in set(extended.record.trials.query("phase == 'earlier control'")["arm"])
    assert "kl_div" not in arm_names(extended.record.trials, {})
    assert "kl_div" not in set(extended.looks["arm"])
    assert set(extended.control["seed"]) == set(range(11, 21))


def test_a_joint_study_lists_what_each_look_confirmed(extended):
    trials = extended.record.trials
    record = replace(extended.record, trials=trials[~((trials["arm"] == "l1") & (trials["phase"] == "confirm"))])
    findings = find(replace(record, protocol=record.protocol | {"mode": "joint"}))
    assert "l1" not in findings.arms
    assert look_rows(findings, 1).loc["l1", "finding"] == "worse"
    assert "l1" not in look_rows(findings, 2).index


def test_a_twin_shows_the_luck_of_the_search_at_each_look(extended):
    findings = change(extended, controls={"hinge": "cross_entropy"})
    twins = findings.looks.set_index("arm")["twin"]
    assert twins["hinge"].all()
    assert not twins.drop("hinge").any()
    assert "hinge" not in disagreements(findings.looks)
    assert look_rows(findings, 2).loc["focal", "finding"] == "equivalent"


@pytest.mark.parametrize("study", ["truth", "searching", "one-seed", "alone", "joint"])
def test_a_study_of_one_look_has_no_word_of_looks_and_the_same_report(findings_of, study):
    findings = findings_of(study)
    one = {"trials_per_arm": 6, "confirm_seeds": findings.record.protocol["confirm_seeds"], "winners": {}}
    views = (build_page, as_text, as_markdown, as_json)
    shown = [view(findings) for view in views]
    again = change(findings, looks=[one])
    assert [view(again) for view in views] == shown
    assert findings.looks.empty
    pd.testing.assert_frame_equal(findings.looks, no_looks())
    for content in shown:
        words = re.sub(r"<script>.*?</script>|<style>.*?</style>", "", content, flags=re.DOTALL).lower()
        assert not re.search(r"\blooks?\b|earlier", words)


def test_every_view_states_the_second_look(extended):
    caution = "with 2 looks the chance that at least one of them is a false positive is up to 10%"
    for content in (build_page(extended), as_text(extended), as_markdown(extended)):
        plain = " ".join(content.replace("\\", "").split())
        assert "This is the second look" in plain
        assert "Second look" in plain
        assert caution in plain
        assert "Each look is tested at 5%" in plain
        assert "The looks disagree on focal: better at the first look" in plain
    remark = "with 2 looks the chance that at least one is a false positive is up to 10%"
    assert next(line for line in audit_remarks(extended) if "look" in line).endswith(f"{remark}.")
    content = build_page(extended)
    assert content.index('id="verdict"') < content.index('id="section-arms"') < content.index('id="section-looks"')
    assert '<a href="#section-looks">Second look</a>' in content


def test_the_table_of_looks_holds_both(extended):
    titles = [section.title for section in build_sections(extended)]
    assert titles == ["Arms", "Comparisons", "Second look", "Audit", "Search", "Errors", "Protocol"]
    rows = {(row[0], row[1]): row for row in build_sections(extended)[2].rows}
    assert len(rows) == 8
    for look in (1, 2):
        expected = look_rows(extended, look).loc["focal"]
        row = rows["focal", str(look)]
        assert row[2] == str(3 * look)
        assert row[3] == f"{100 * expected['accuracy']:.2f}"
        assert row[5] == f"{expected['difference_points']:+.2f}"
        assert row[6] == f"[{expected['low_points']:+.2f}, {expected['high_points']:+.2f}]"
        assert row[7] == f"{expected['p_holm']:.2g}"
        assert row[10] == "10"
    assert [row[8] for key, row in rows.items() if key[0] == "focal"] == ["better", "equal"]
    assert [row[9] for key, row in rows.items() if key[0] == "focal"] == ["0", "1 (new)"]
    assert [row[9] for key, row in rows.items() if key[0] == "l1"] == ["-", "1"]
    assert rows["cross_entropy", "2"][5:10] == ["baseline", "-", "-", "-", "1 (same)"]
    assert rows["l1", "1"][10] == "10*"


@pytest.mark.parametrize("ascii_only", [False, True])
def test_the_table_of_looks_fits_120_columns_whatever_is_in_it(extended, ascii_only):
    widest = {"accuracy": 1.0, "accuracy_low": 0.5, "accuracy_high": 1.0, "trials_per_arm": 1000, "num_diverged": 1}
    widest |= {"difference_points": -100.0, "low_points": -100.0, "high_points": 100.0, "p_holm": 0.00012}
    looks = extended.looks.assign(**widest, arm="an arm of a long name", finding="equivalent", winner=1999)
    for findings in (extended, replace(extended, looks=looks)):
        lines = as_text(findings, ascii_only=ascii_only).splitlines()
        assert max(map(width, lines)) <= 120
    assert any(line.startswith("an arm") and "1999 (same)" in line for line in lines)


def test_names_with_markup_are_text_in_the_table_of_looks(extended):
    looks = extended.looks.assign(arm="<script>alert(1)</script>|`")
    assert "<script>" not in looks_section(looks)
    content = as_markdown(replace(extended, looks=looks))
    assert "\\<script\\>alert(1)" in content
    assert "|`" not in content.replace("\\|\\`", "")


def test_the_json_has_the_looks_and_keeps_to_its_schema(extended):
    content = json.loads(as_json(extended))
    jsonschema.validate(content, SCHEMA, cls=jsonschema.Draft202012Validator)
    assert "`looks`" in DESCRIBED
    assert [(row["arm"], row["look"]) for row in content["looks"]] == list(
        zip(extended.looks["arm"], extended.looks["look"], strict=True)
    )
    focal = [row for row in content["looks"] if row["arm"] == "focal"]
    assert [row["winner_changed"] for row in focal] == [None, True]
    assert focal[1]["difference_points"] == look_rows(extended, 2).loc["focal", "difference_points"]
    assert focal[0]["trials_per_arm"] == 3
    assert set(content["looks"][0]) == set(SCHEMA["properties"]["looks"]["items"]["properties"])
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(content | {"looks": [focal[0] | {"finding": "great"}]}, SCHEMA)


def test_the_protocol_names_the_looks_and_states_the_last(extended):
    facts = protocol_facts(extended)
    assert facts["Looks"] == (
        "first look: 3 trials per arm, 10 seeds (1 to 10); second look: 6 trials per arm, 10 seeds (11 to 20)"
    )
    assert facts["Trials per arm"] == "6"
    assert facts["Confirm seeds"].startswith("11, 12")
    assert facts["Nodes"].startswith(f"host-a ({len(extended.record.trials)} trials, busy ")


def test_the_trials_of_earlier_looks_stay_in_the_list_and_in_the_file(extended):
    listed = pd.DataFrame(describe_trials(extended)["trials"].values())
    phases = listed[1].value_counts().to_dict()
    assert phases == {"search": 24, "confirm": 40, "control": 10, "earlier confirm": 40, "earlier control": 10}
    content = to_parquet(extended.record.epochs, extended.record.trials)
    held = pd.read_parquet(io.BytesIO(content))
    assert held.drop_duplicates("run_id")["phase"].value_counts().to_dict() == phases


def test_several_studies_are_told_which_of_them_was_extended(extended, findings_of_extended):
    comparison = put_together([extended.record, findings_of_extended("only-second").record])
    remark = "extended was extended: it counts with the second look alone, not corrected for earlier looks."
    assert remark in comparison.remarks
    assert not [line for line in comparison.remarks if line.startswith("only-second was")]
