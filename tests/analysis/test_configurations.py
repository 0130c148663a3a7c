import json
import math
import re
from dataclasses import replace

import pandas as pd
import pytest

from analysis.configurations import (
    configuration_keys,
    describe_trials,
    hover_text,
    run_prefix,
    search_trials,
    searched_parameters,
    show,
    trials_section,
)
from analysis.findings import Findings
from analysis.load import StudyRecord

HOSTILE = "<script>alert(1)</script>"
TRIALS = pd.DataFrame(
    {
        "run_id": ["r0", "r1"],
        "arm": ["focal", HOSTILE],
        "phase": ["search", "confirm"],
        "seed": pd.array([0, 3], dtype="Int64"),
        "number": pd.array([7, None], dtype="Int64"),
        "stop_reason": ["completed", "failed"],
        "end": 0,
        "optimizer": "sgd",
        "optimizer.learning_rate": [0.000123456, math.inf],
        "hidden_layers": [2.0, math.nan],
        "val_accuracy": [0.91234, math.nan],
        "epochs_done": [8, 0],
    }
)
RECORD = StudyRecord("made", "p", "12", "sqlite:////tmp/a.db", {}, {}, TRIALS, pd.DataFrame(), {})
EMPTY = pd.DataFrame()
FINDINGS = Findings(RECORD, ("focal", HOSTILE), "focal", 1.0, EMPTY, EMPTY, EMPTY, EMPTY, "")


@pytest.mark.parametrize(
    ("uri", "prefix"),
    [
        ("http://host:5000", "http://host:5000/#/experiments/12/runs/"),
        ("https://user:secret@host/mlflow/?x=1", "https://host/mlflow/#/experiments/12/runs/"),
        ("sqlite:////tmp/a.db", "http://127.0.0.1:5000/#/experiments/12/runs/"),
        ("file:///tmp/mlruns", "http://127.0.0.1:5000/#/experiments/12/runs/"),
        ("postgresql://user:secret@host/db", "http://127.0.0.1:5000/#/experiments/12/runs/"),
    ],
)
def test_a_run_is_found_on_its_server_or_where_mlflow_ui_serves_it(uri, prefix):
    assert run_prefix(replace(RECORD, tracking_uri=uri)) == prefix


def test_an_experiment_cannot_lead_the_address_elsewhere():
    assert run_prefix(replace(RECORD, experiment_id="../x?y")).endswith("/#/experiments/..%2Fx%3Fy/runs/")


def test_the_command_that_serves_the_record_is_told_where_one_is_needed():
    assert describe_trials(FINDINGS)["serve"] == "mlflow ui --backend-store-uri 'sqlite:////tmp/a.db'"
    on_server = replace(FINDINGS, record=replace(RECORD, tracking_uri="http://host:5000"))
    assert describe_trials(on_server)["serve"] == ""


def test_no_password_reaches_the_page():
    for uri in ("https://user:secret@host", "postgresql://user:secret@host/db"):
        assert "secret" not in trials_section(replace(FINDINGS, record=replace(RECORD, tracking_uri=uri)))


def test_every_trial_is_described_once_and_what_all_share_only_once():
    data = describe_trials(FINDINGS)
    assert data["common"] == {"optimizer": "sgd"}
    assert data["columns"][6:] == ["optimizer.learning_rate", "hidden_layers"]
    assert data["trials"] == {
        "r0": ["focal", "search", "trial 7", "completed", 8, 91.23, 0.0001235, 2],
        "r1": [HOSTILE, "confirm", "seed 3", "failed", 0, "", "inf", ""],
    }


def test_the_section_holds_the_data_as_valid_json_and_no_markup_of_a_name():
    page = trials_section(FINDINGS)
    assert "<script>alert" not in page
    held = re.search(r'<script type="application/json" id="trials-data">(.*?)</script>', page, re.DOTALL)
    assert held is not None
    assert json.loads(held[1]) == describe_trials(FINDINGS)
    assert "NaN" not in held[1]
    assert "Infinity" not in held[1]


def test_a_study_without_trials_has_no_list():
    assert trials_section(replace(FINDINGS, record=replace(RECORD, trials=TRIALS.iloc[:0]))) == ""


def test_a_hover_names_the_trial_its_end_and_what_it_was_given():
    text = hover_text(TRIALS.to_dict("records")[0], configuration_keys(TRIALS))
    assert text.split("<br>") == [
        "<b>focal</b>, trial 7: 91.23%",
        "completed after 8 epochs",
        "optimizer = sgd",
        "optimizer.learning_rate = 0.0001235",
        "hidden_layers = 2",
    ]
    assert "<script" not in hover_text(TRIALS.to_dict("records")[1], ["arm"])
    assert "no accuracy on record" in hover_text(TRIALS.to_dict("records")[1], [])


@pytest.mark.parametrize(
    ("value", "shown"), [(64.0, "64"), (0.1, "0.1"), (1e-5, "1e-05"), (True, "True"), (1e9, "1e+09"), ("relu", "relu")]
)
def test_values_are_short(value, shown):
    assert show(value) == shown


RATES = [
    {
        "key": "optimizer.learning_rate",
        "kind": "float",
        "low": low,
        "high": 1.0,
        "log": True,
        "when": {"optimizer": [name]},
    }
    for name, low in (("adam", 1e-5), ("sgd", 1e-3))
]
ONE = {"key": "hidden_layers", "kind": "categorical", "choices": [2], "when": None}


def test_a_trial_has_the_range_of_its_own_condition_and_none_where_there_is_one_value():
    protocol = {"arms": [{"name": "focal", "fixed": {}, "parameters": [*RATES, ONE]}]}
    found = searched_parameters(TRIALS.to_dict("records")[0], protocol)
    assert found == {"optimizer.learning_rate": RATES[1]}


def test_the_factor_was_searched_in_a_joint_search_only():
    arms = [{"name": name, "fixed": {"loss": name}, "parameters": []} for name in ("focal", "hinge")]
    trial = {"arm": "hinge", "loss": "hinge"}
    joint = searched_parameters(trial, {"arms": arms, "mode": "joint", "factor": "loss"})
    assert joint["loss"]["choices"] == ["focal", "hinge"]
    assert searched_parameters(trial, {"arms": arms, "mode": "arms", "factor": "loss"}) == {}


def test_without_a_protocol_nothing_is_known_to_have_been_searched():
    assert searched_parameters(TRIALS.to_dict("records")[0], {}) == {}


def test_search_trials_are_those_that_ended_by_themselves():
    assert list(search_trials(FINDINGS)["run_id"]) == ["r0"]
    bare = replace(FINDINGS, record=replace(RECORD, trials=TRIALS.drop(columns="val_accuracy")))
    assert search_trials(bare).empty
