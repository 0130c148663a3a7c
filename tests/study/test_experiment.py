"""The experiment's page: its description and views, without touching what somebody wrote there."""

import base64
import json
import zlib
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from study.experiment import NOTE, VIEW_TAG, VIEWS, build_view, describe_experiment

NOTE_KEY = "mlflow.note.content"


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    return MlflowClient(f"sqlite:///{tmp_path_factory.mktemp('store') / 'mlflow.db'}")


def state_of(view):
    packed = json.loads(view)["state"]
    assert packed.startswith("deflate;")
    return json.loads(zlib.decompress(base64.b64decode(packed.removeprefix("deflate;"))))


def test_a_new_experiment_says_what_it_holds_and_offers_its_views(client):
    experiment_id = client.create_experiment("new")
    describe_experiment(client, experiment_id, {})
    tags = client.get_experiment(experiment_id).tags
    assert tags[NOTE_KEY] == NOTE
    assert {key.removeprefix(VIEW_TAG) for key in tags if key.startswith(VIEW_TAG)} == set(VIEWS)
    assert tags["mlflow.experiment.primaryMetric.name"] == "val_accuracy"


def test_what_a_person_wrote_stays(client):
    own = {NOTE_KEY: "Mine.", f"{VIEW_TAG}studies": "My view"}
    experiment_id = client.create_experiment("own", tags=own)
    describe_experiment(client, experiment_id, own)
    tags = client.get_experiment(experiment_id).tags
    assert {key: tags[key] for key in own} == own
    assert f"{VIEW_TAG}confirmed" in tags


def test_a_store_that_refuses_costs_no_study(caplog):
    class Refusing:
        def set_experiment_tag(self, *_arguments):
            raise MlflowException("no permission")

    describe_experiment(Refusing(), "1", {})
    assert "keeps its page" in caplog.text


@pytest.mark.parametrize("key", VIEWS)
def test_a_view_selects_runs_by_a_filter_that_mlflow_understands(client, key):
    name, where, *_ = VIEWS[key]
    view = build_view(*VIEWS[key])
    assert json.loads(view)["name"] == name
    assert state_of(view)["searchFilter"] == where
    experiment_id = client.create_experiment(f"filter-{key}")
    phase = where.split("'")[1]
    wanted = client.create_run(experiment_id, tags={"phase": phase})
    client.create_run(experiment_id, tags={"phase": "other"})
    assert [run.info.run_id for run in client.search_runs([experiment_id], where)] == [wanted.info.run_id]


def test_columns_are_shown_in_their_order_under_the_keys_of_the_page():
    columns = ["tags.arm", "params.optimizer.learning_rate", "metrics.val_nll"]
    state = state_of(build_view("v", "", "metrics.val_nll", columns, None))
    keys = ["tags.`arm`", "params.`optimizer.learning_rate`", "metrics.`val_nll`"]
    assert state["selectedColumns"] == state["columnOrder"] == keys
    assert state["orderByKey"] == keys[-1]
    assert state["groupBy"] is None


def test_trials_are_grouped_by_their_arm():
    for key in ("confirmed", "searched"):
        assert state_of(build_view(*VIEWS[key]))["groupBy"]["groupByKeys"] == [{"mode": "tag", "groupByData": "arm"}]


def test_a_view_fits_into_a_tag():
    assert all(len(build_view(*view)) < 5000 for view in VIEWS.values())


def test_views_are_described_under_their_names():
    described = (Path(__file__).parents[2] / "docs" / "mlflow.md").read_text()
    assert not [key for key in VIEWS if f"`viewStateShareKey={key}`" not in described]
    assert not [name for name, *_ in VIEWS.values() if f"*{name}*" not in described]
