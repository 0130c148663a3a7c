"""The study as it will be run: arms picked and added, the baseline, the budgets, and its description."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from search_spaces.arms import Arm, Categorical, Parameter, Study, with_fixed
from search_spaces.full import STUDY as FULL
from study.looks import describe_looks, plan_looks
from study.options import Options
from study.protocol import constraints_sha256, delta_points, describe_study, git_state, resolve_study, versions
from study.schedule import schedule_of
from trainables.config import InputError, TrialConfig
from trainables.data import load_dataset

STUDY_JSON = {
    "schema",
    "arguments",
    "code_sha256",
    "study",
    "space",
    "question",
    "factor",
    "baseline",
    "mode",
    "arms",
    "controls",
    "delta",
    "seed",
    "confirm_seeds",
    "trials_per_arm",
    "looks",
    "dataset",
    "search",
    "stopping",
    "grace_period",
    "reduction_factor",
    "rungs",
    "time_attribute",
    "winners",
    "versions",
    "command",
    "git_commit",
    "git_dirty",
    "notes",
}
RUNGS = {"time_attribute": "epoch", "grace_period": 5, "reduction_factor": 3, "rungs": [5, 15]}


def an_options(**changes):
    required = {"command": "", "name": "s", "space": "full", "tracking_uri": "sqlite:////x.db", "experiment_name": "e"}
    return Options(**{**required, "storage_path": Path("/runs"), **changes})


def resolved(**changes):
    return resolve_study(FULL, an_options(**changes))


def names(study):
    return [arm.name for arm in study.arms]


def test_without_flags_the_study_is_the_space_with_the_fixed_values_named():
    study = resolved()
    assert names(study) == names(FULL)
    assert (study.baseline, study.trials, study.seeds) == (FULL.baseline, FULL.trials, FULL.seeds)
    assert study.controls == FULL.controls
    assert all((arm.fixed["precision"], arm.fixed["schedule"]) == ("fp32", "constant") for arm in study.arms)
    assert [arm.parameters for arm in study.arms] == [arm.parameters for arm in FULL.arms]


def test_budgets_of_the_flags_win():
    study = resolved(trials=3, seeds=7)
    assert (study.trials, study.seeds) == (3, 7)


def test_fixed_values_of_the_flags_are_in_every_arm_and_in_every_trial():
    study = resolved(precision="bf16", schedule="cosine", augment=True, model="convnet")
    for arm in study.arms:
        config = TrialConfig.from_flat(arm.sample(lambda _, d: d.choices[0] if isinstance(d, Categorical) else d.low))
        assert (config.precision, config.schedule, config.augment) == ("bf16", "cosine", True)
        assert config.model.name == "convnet"
        assert set(config.model.params) == {"activation", "width"}


def test_arms_are_picked_in_the_order_given():
    assert names(resolved(arms=("focal", "cross_entropy", "l1"))) == ["focal", "cross_entropy", "l1"]


def test_unknown_arm_is_refused_with_the_choices():
    with pytest.raises(InputError, match="Unknown arm 'focall'; choose from cross_entropy, kl_div, focal"):
        resolved(arms=("cross_entropy", "focall"))


@pytest.mark.parametrize(
    ("arms", "baseline", "chosen"),
    [
        (("cross_entropy", "focal"), None, "cross_entropy"),
        (("focal", "cross_entropy"), None, "cross_entropy"),
        (("focal", "l1"), None, "focal"),
        (("focal", "l1"), "l1", "l1"),
        (("cross_entropy", "l1"), "l1", "l1"),
        (None, "mse", "mse"),
    ],
)
def test_baseline_is_the_flags_else_the_spaces_else_the_first_arm(arms, baseline, chosen):
    assert resolved(arms=arms, baseline=baseline).baseline == chosen


@pytest.mark.parametrize("arms", [None, ("focal", "l1")])
def test_baseline_outside_the_arms_is_refused(arms):
    with pytest.raises(InputError, match=r"Unknown arm 'polly'; choose from .*focal.*l1"):
        resolved(arms=arms, baseline="polly")
    with pytest.raises(InputError, match="Unknown arm 'mse'; choose from focal, l1"):
        resolved(arms=("focal", "l1"), baseline="mse")


@pytest.mark.parametrize(
    ("arms", "controls"),
    [
        (("cross_entropy", "kl_div", "l1"), {"kl_div": "cross_entropy"}),
        (("cross_entropy", "l1"), {}),
        (("kl_div", "l1"), {}),
    ],
)
def test_control_is_kept_while_both_its_arms_are(arms, controls):
    assert resolved(arms=arms).controls == controls


def test_users_own_loss_is_added_as_an_arm_searched_like_the_baseline():
    study = resolved(arms=("cross_entropy", "focal", "package.module:poly"))
    assert names(study) == ["cross_entropy", "focal", "poly"]
    own, baseline = study.arm("poly"), study.arm("cross_entropy")
    assert own.fixed == {**baseline.fixed, "loss": "package.module:poly"}
    assert own.parameters == baseline.parameters


def test_users_own_arm_may_stand_alone_or_be_the_baseline():
    assert resolved(arms=("my_module:poly",)).baseline == "poly"
    assert resolved(arms=("cross_entropy", "my_module:poly"), baseline="poly").baseline == "poly"


def test_added_loss_does_not_inherit_the_parameters_of_the_baselines_loss():
    study = resolve_study(replace(FULL, baseline="focal"), an_options(arms=("focal", "my_module:poly")))
    assert {p.key for p in study.arm("focal").parameters} - {p.key for p in study.arm("poly").parameters} == {
        "loss.gamma"
    }


@pytest.mark.parametrize("arms", [("a:poly", "b:poly"), ("focal", "my_module:focal")])
def test_added_arms_must_not_share_a_name(arms):
    with pytest.raises(InputError, match="Arms must have different names; got"):
        resolved(arms=arms)


def test_arm_cannot_be_added_where_arms_do_not_differ_in_a_named_part():
    rate = Parameter("optimizer.learning_rate", Categorical((0.1,)))
    fixed = {"loss": "mse", "optimizer": "sgd", "model": "mlp", "batch_size": 32, "epochs": 4}
    space = Study("widths", "?", "width", (Arm("any", fixed, (rate, Parameter("width", Categorical((8,))))),), "any")
    with pytest.raises(InputError, match="`--arms my_module:wide`: arms of the space 'widths' do not differ"):
        resolve_study(space, an_options(arms=("any", "my_module:wide")))


def test_space_itself_is_left_as_it_was():
    before = names(FULL), FULL.baseline, FULL.trials, FULL.arm("l1").fixed
    resolved(arms=("l1",), trials=1, precision="bf16")
    assert (names(FULL), FULL.baseline, FULL.trials, FULL.arm("l1").fixed) == before


@pytest.mark.parametrize(
    ("dataset", "points"),
    [
        ("mnist", 0.2),
        ("fashion-mnist", 0.5),
        ("kmnist", 0.5),
        ("svhn", 0.5),
        ("digits", 1.0),
        ("cifar10", 1.0),
        ("cifar100", 1.0),
        ("npz:mnist", 1.0),
    ],
)
def test_smallest_difference_that_matters_depends_on_the_dataset(dataset, points):
    assert delta_points(an_options(dataset=dataset)) == points


def test_smallest_difference_of_the_flag_wins():
    assert delta_points(an_options(dataset="mnist", delta=3.0)) == 3.0


def describe(options, dataset):
    study = resolve_study(FULL, options)
    return describe_study(study, options, dataset, describe_looks(plan_looks(study, options, {})), RUNGS)


@pytest.fixture(scope="module")
def described():
    options = an_options(dataset="digits", train_size=600, seed=5, seeds=4, trials=2, arms=("focal", "l1"), delta=0.7)
    dataset = load_dataset("digits", train_size=600, seed=5)
    return describe(options, dataset), dataset


def test_description_has_every_key_and_survives_json(described):
    protocol, _ = described
    assert protocol.keys() == STUDY_JSON
    text = json.dumps(protocol)
    assert json.dumps(json.loads(text)) == text


def test_description_says_what_was_asked_for(described):
    protocol, _ = described
    assert {key: protocol[key] for key in ("study", "space", "factor", "baseline", "mode", "delta", "seed")} == {
        "study": "s",
        "space": "full",
        "factor": "loss",
        "baseline": "focal",
        "mode": "arms",
        "delta": 0.7,
        "seed": 5,
    }
    assert (protocol["trials_per_arm"], protocol["confirm_seeds"]) == (2, [6, 7, 8, 9])
    assert protocol["looks"] == [{"trials_per_arm": 2, "confirm_seeds": [6, 7, 8, 9], "winners": {}}]
    assert {key: protocol[key] for key in RUNGS} == RUNGS
    assert [arm["name"] for arm in protocol["arms"]] == ["focal", "l1"]
    assert protocol["arms"][0]["parameters"][0] == {
        "key": "loss.gamma",
        "kind": "float",
        "low": 0.0,
        "high": 5.0,
        "log": False,
        "when": None,
    }


def test_description_counts_the_dataset_as_the_trials_see_it(described):
    protocol, dataset = described
    described_dataset = protocol["dataset"]
    assert described_dataset["name"] == "digits train-size=600"
    assert described_dataset["num_train"] + described_dataset["num_val"] == 600
    assert described_dataset["num_test"] == len(dataset.test_labels)
    assert described_dataset["num_classes"] == len(described_dataset["class_names"]) == 10
    assert described_dataset["input_shape"] == [1, 8, 8]
    assert described_dataset["sha256"] == dataset.sha256
    again = load_dataset(**described_dataset["source"])
    assert again.sha256 == dataset.sha256, "the record says how to read the same data again"


@pytest.mark.parametrize("prefix", ["npz", "folder"])
def test_description_finds_a_users_own_data_from_any_folder(prefix, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = an_options(dataset=f"{prefix}:mine", classes=(0, 6), train_size=600)
    dataset = load_dataset("digits", train_size=600)
    described = describe(options, dataset)["dataset"]["source"]
    assert described == {"name": f"{prefix}:{tmp_path / 'mine'}", "classes": [0, 6], "train_size": 600}


def test_versions_name_python_and_what_decides_numbers():
    assert {"python", "ray", "torch", "optuna", "mlflow", "numpy"} <= versions().keys()
    assert all(version[0].isdigit() for version in versions().values())


def test_commit_is_unknown_outside_a_checkout(tmp_path, monkeypatch):
    monkeypatch.setattr("study.protocol.ROOT", tmp_path)
    assert git_state() == ("unknown", False)
    monkeypatch.setenv("PATH", "")
    assert git_state() == ("unknown", False)


def test_commit_is_that_of_the_checkout_and_dirty_once_a_file_differs(tmp_path, monkeypatch):
    import subprocess

    def git(*arguments):
        identity = ("-c", "user.name=someone", "-c", "user.email=someone@example.org")
        return subprocess.run(
            ["git", "-C", str(tmp_path), *identity, *arguments], capture_output=True, text=True, check=True
        ).stdout.strip()

    git("init", "-q")
    (tmp_path / "file").write_text("one")
    git("add", "file")
    git("commit", "-q", "-m", "one")
    monkeypatch.setattr("study.protocol.ROOT", tmp_path)
    assert git_state() == (git("rev-parse", "HEAD"), False)
    (tmp_path / "untracked").write_text("does not count")
    assert not git_state()[1]
    (tmp_path / "file").write_text("two")
    assert git_state() == (git("rev-parse", "HEAD"), True)


def test_digest_of_the_constraints_follows_the_pins_or_the_installed_versions(tmp_path, monkeypatch):
    monkeypatch.setattr("study.protocol.ROOT", tmp_path)
    installed = constraints_sha256()
    assert installed == constraints_sha256()
    (tmp_path / "constraints.txt").write_text("torch==1\n")
    pinned = constraints_sha256()
    (tmp_path / "constraints.txt").write_text("torch==2\n")
    assert len({installed, pinned, constraints_sha256()}) == 3
    assert len(pinned) == 64


def test_what_a_space_fixes_itself_stays_unless_a_flag_says_otherwise():
    own = with_fixed(FULL, schedule="cosine", precision="bf16")
    kept = resolve_study(own, an_options())
    assert {(arm.fixed["schedule"], arm.fixed["precision"]) for arm in kept.arms} == {("cosine", "bf16")}
    assert schedule_of(kept) == "cosine"
    plain = resolve_study(FULL, an_options())
    assert {(arm.fixed["schedule"], arm.fixed["precision"]) for arm in plain.arms} == {("constant", "fp32")}
    assert schedule_of(plain) == "constant"
    flagged = resolve_study(FULL, an_options(schedule="cosine", precision="bf16"))
    assert {(arm.fixed["schedule"], arm.fixed["precision"]) for arm in flagged.arms} == {("cosine", "bf16")}
