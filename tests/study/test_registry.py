import shutil
from pathlib import Path

import pytest
import torch

from study.models import log_best_models
from study.registry import load_stored_model
from trainables.config import InputError


class Payload:
    """Leaves a file behind if it is ever unpickled."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return (Path.touch, (self.target,))


def model_folder(store, registered):
    return Path(store.client.get_logged_model(registered.model_id).artifact_location.removeprefix("file://"))


def test_the_winner_is_loaded_with_what_a_prediction_needs(logged_study):
    model = load_stored_model("digits-study", tracking_uri=logged_study.store.uri)
    assert (model.study, model.arm, model.seed) == ("digits-study", "focal", 2)
    assert (model.input_shape, model.class_names) == ((1, 8, 8), tuple("0123456789"))


def test_an_arms_own_best_is_loaded_by_the_arms_name(logged_study):
    model = load_stored_model("digits-study", arm="cross_entropy", tracking_uri=logged_study.store.uri)
    assert (model.arm, model.seed) == ("cross_entropy", 1)


def test_an_unknown_arm_is_answered_with_the_arms_of_the_study(logged_study):
    with pytest.raises(InputError, match=r"no model of an arm 'hinge'; choose from focal, cross_entropy\.$"):
        load_stored_model("digits-study", arm="hinge", tracking_uri=logged_study.store.uri)


def test_an_unknown_study_is_answered_with_the_newest_that_have_a_model(logged_study):
    client, uri = logged_study.store.client, logged_study.store.uri
    client.create_registered_model("newest-study", tags={"study": "newest-study"})
    client.create_registered_model("not-a-study")
    # The last two are registered, but nothing that a study logged stands behind them.
    for name in ("nothing", "", "it's", "a/b", "not-a-study", "newest-study"):
        with pytest.raises(
            InputError, match=r"^No registered model of a study .*newest first: newest-study, "
        ) as caught:
            load_stored_model(name, tracking_uri=uri)
        assert repr(name) in str(caught.value)


@pytest.mark.parametrize("file", ["model.pt2", "model.pth"])
def test_a_model_file_that_would_have_to_be_unpickled_is_refused_and_not_run(store, tmp_path, file):
    candidate, _ = store.candidate("mse", 1, 0.9, loss="mse")
    study = f"poisoned-{file}"
    registered = log_best_models([candidate], dataset=store.dataset, study=study, tracking_uri=store.uri)
    data = model_folder(store, registered) / "data"
    (data / "model.pt2").unlink()
    (data / "pickle_module_info.txt").write_text("pickle")
    torch.save(Payload(tmp_path / "ran"), data / file)
    with pytest.raises(InputError, match=r"pickle") as caught:
        load_stored_model(study, tracking_uri=store.uri)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()
    # The payload is a real one: unpickling it does run it.
    torch.load(data / file, weights_only=False)
    assert (tmp_path / "ran").exists()


def test_a_model_whose_files_are_gone_is_one_line(store):
    candidate, _ = store.candidate("mse", 1, 0.9, loss="mse")
    registered = log_best_models([candidate], dataset=store.dataset, study="gone", tracking_uri=store.uri)
    shutil.rmtree(model_folder(store, registered))
    with pytest.raises(InputError, match=r"^The MLflow record at [^\n]+ cannot be read: [^\n]+$"):
        load_stored_model("gone", tracking_uri=store.uri)


def test_a_model_that_no_study_logged_is_refused(store):
    candidate, _ = store.candidate("mse", 1, 0.9, loss="mse")
    registered = log_best_models([candidate], dataset=store.dataset, study="foreign", tracking_uri=store.uri)
    description = model_folder(store, registered) / "MLmodel"
    text = description.read_text()
    assert "\nmetadata:" in text
    description.write_text(text.replace("\nmetadata:", "\nunknown:"))
    with pytest.raises(InputError, match=r"was not logged by a study: its description lacks study, arm, seed"):
        load_stored_model("foreign", tracking_uri=store.uri)
