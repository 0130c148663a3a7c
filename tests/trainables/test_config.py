"""The flat form goes there and back, every rule says what broke it, a user's own part is found by its path."""

import pickle
import subprocess
import sys
import types

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainables.config import (
    ARCHITECTURE,
    PRECISIONS,
    REDUCTIONS,
    SCHEDULES,
    Component,
    InputError,
    TrialConfig,
    resolve,
)

FLAT = {
    "loss": "focal",
    "loss.gamma": 2.0,
    "optimizer": "sgd",
    "optimizer.learning_rate": 0.1,
    "optimizer.momentum": 0.9,
    "batch_size": 64,
    "epochs": 10,
    "model": "mlp",
    "hidden_layers": 2,
    "width": 128,
    "activation": "relu",
    "seed": 3,
    "reduction": "sum",
    "schedule": "cosine",
    "precision": "bf16",
    "augment": True,
}

names = st.text(min_size=1)
scalars = st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
keys = st.from_regex(r"[a-z_]{1,12}", fullmatch=True)
params = st.dictionaries(keys, scalars, max_size=4)
rates = st.floats(min_value=0, exclude_min=True, allow_infinity=False) | st.integers(1, 10**6)
optimizers = st.builds(lambda name, more, rate: Component(name, {**more, "learning_rate": rate}), names, params, rates)


def build_config(first_epochs, more_epochs, second_optimizer, **fields):
    if second_optimizer is None or more_epochs == 0:
        return TrialConfig(epochs=first_epochs, **fields)
    switch = {"second_optimizer": second_optimizer, "switch_epoch": first_epochs}
    return TrialConfig(epochs=first_epochs + more_epochs, **switch, **fields)


configs = st.builds(
    build_config,
    loss=st.builds(Component, names, params),
    optimizer=optimizers,
    model=st.builds(Component, names, params | st.dictionaries(st.sampled_from(ARCHITECTURE), scalars)),
    batch_size=st.integers(min_value=1),
    first_epochs=st.integers(min_value=1),
    more_epochs=st.integers(min_value=0),
    second_optimizer=st.none() | optimizers,
    init_std=st.floats(min_value=0, allow_infinity=False),
    imbalance=st.floats(min_value=1, allow_infinity=False),
    seed=st.integers(min_value=0),
    reduction=st.sampled_from(REDUCTIONS),
    schedule=st.sampled_from(SCHEDULES),
    precision=st.sampled_from(PRECISIONS),
    augment=st.booleans(),
)


#: Keys that the flat form leaves out at their default.
LATER = {
    "init_std": 0.01,
    "imbalance": 100.0,
    "second_optimizer": "adam",
    "second_optimizer.learning_rate": 0.001,
    "second_optimizer.weight_decay": 0.1,
    "switch_epoch": 4,
}


def without(*left_out):
    return {key: value for key, value in FLAT.items() if key not in left_out}


@pytest.fixture
def own_module(tmp_path, monkeypatch):
    """Write a user's module that can be imported; returns its name."""

    def write(source):
        (tmp_path / "users_parts.py").write_text(source)
        return "users_parts"

    monkeypatch.syspath_prepend(tmp_path)
    yield write
    sys.modules.pop("users_parts", None)


@settings(deadline=None)  # a busy machine is not a failure
@given(configs)
def test_a_configuration_comes_back_from_its_flat_form_with_every_type(config):
    flat = config.to_flat()
    again = TrialConfig.from_flat(flat)
    assert again == config
    assert hash(again) == hash(config)
    assert [(key, type(value), value) for key, value in again.to_flat().items()] == [
        (key, type(value), value) for key, value in flat.items()
    ]


@settings(deadline=None)  # a busy machine is not a failure
@given(configs)
def test_a_configuration_survives_pickling(config):
    assert pickle.loads(pickle.dumps(config)) == config


def test_the_flat_form_writes_the_architecture_without_a_prefix():
    assert TrialConfig.from_flat(FLAT).to_flat() == FLAT


def test_later_keys_come_back_and_are_left_out_at_their_defaults():
    config = TrialConfig.from_flat(FLAT | LATER)
    assert config.to_flat() == FLAT | LATER
    assert config.second_optimizer == Component("adam", {"learning_rate": 0.001, "weight_decay": 0.1})
    assert (config.init_std, config.imbalance, config.switch_epoch) == (0.01, 100.0, 4)
    defaults = TrialConfig.from_flat(FLAT | {"init_std": 0.0, "imbalance": 1.0, "switch_epoch": 0})
    assert defaults == TrialConfig.from_flat(FLAT)
    assert defaults.second_optimizer is None
    assert defaults.to_flat() == FLAT


@pytest.mark.parametrize("key", ["init_std", "imbalance"])
def test_each_later_key_is_written_when_it_alone_is_set(key):
    flat = FLAT | {key: LATER[key]}
    assert TrialConfig.from_flat(flat).to_flat() == flat


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"switch_epoch": 0}, "an integer >= 1 and below `epochs` (10) where there is a `second_optimizer`; got 0."),
        ({"switch_epoch": 10}, "an integer >= 1 and below `epochs` (10) where there is a `second_optimizer`; got 10."),
        ({"epochs": 1, "switch_epoch": 1}, "below `epochs` (1) where there is a `second_optimizer`; got 1."),
        ({"second_optimizer.learning_rate": 0.0}, "`second_optimizer.learning_rate` must be a finite number > 0; got"),
        ({"second_optimizer.learning_rate": "1"}, "`second_optimizer.learning_rate` must be a finite number > 0; got"),
    ],
)
def test_a_switch_that_breaks_its_rule_is_refused(changes, message):
    with pytest.raises(InputError) as refused:
        TrialConfig.from_flat(FLAT | LATER | changes)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_switch_needs_both_its_keys_and_a_learning_rate():
    with pytest.raises(InputError, match=r"^`switch_epoch` 4 needs a `second_optimizer`; got none\.$"):
        TrialConfig.from_flat(FLAT | {"switch_epoch": 4})
    with pytest.raises(InputError, match=r"^A trial's configuration lacks second_optimizer\.$"):
        TrialConfig.from_flat(FLAT | {"second_optimizer.learning_rate": 0.1, "switch_epoch": 4})
    with pytest.raises(InputError, match=r"^`second_optimizer\.learning_rate` is missing for the optimizer 'adam'\.$"):
        TrialConfig.from_flat(FLAT | {"second_optimizer": "adam", "switch_epoch": 4})


def test_a_prefixed_architecture_key_means_the_same():
    assert TrialConfig.from_flat({**without("width"), "model.width": 128}).to_flat() == FLAT


def test_the_order_of_the_keys_does_not_matter():
    backwards = TrialConfig.from_flat(dict(reversed(FLAT.items())))
    assert backwards == TrialConfig.from_flat(FLAT)
    assert hash(backwards) == hash(TrialConfig.from_flat(FLAT))


def test_what_is_left_out_has_the_documented_default():
    config = TrialConfig.from_flat(without("seed", "reduction", "schedule", "precision", "augment"))
    defaults = (config.seed, config.reduction, config.schedule, config.precision, config.augment)
    assert defaults == (0, "mean", "constant", "fp32", False)


def test_parameters_of_a_component_cannot_be_changed():
    given_params = {"gamma": 2.0}
    component = Component("focal", given_params)
    given_params["gamma"] = 5.0
    assert component.params == {"gamma": 2.0}
    with pytest.raises(TypeError):
        component.params["gamma"] = 5.0


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("batch_size", 0, "`batch_size` must be an integer >= 1; got 0."),
        ("batch_size", 32.0, "`batch_size` must be an integer >= 1; got 32.0."),
        ("batch_size", True, "`batch_size` must be an integer >= 1; got True."),
        ("epochs", -1, "`epochs` must be an integer >= 1; got -1."),
        ("epochs", "10", "`epochs` must be an integer >= 1; got '10'."),
        ("seed", -1, "`seed` must be an integer >= 0; got -1."),
        ("seed", 1.0, "`seed` must be an integer >= 0; got 1.0."),
        ("seed", False, "`seed` must be an integer >= 0; got False."),
        ("reduction", "max", "`reduction` must be one of mean, sum; got 'max'."),
        ("schedule", "linear", "`schedule` must be one of constant, cosine; got 'linear'."),
        ("precision", "fp16", "`precision` must be one of fp32, bf16; got 'fp16'."),
        ("augment", "no", "`augment` must be True or False; got 'no'."),
        ("init_std", -0.1, "`init_std` must be a finite number >= 0; got -0.1."),
        ("init_std", float("inf"), "`init_std` must be a finite number >= 0; got inf."),
        ("init_std", True, "`init_std` must be a finite number >= 0; got True."),
        ("imbalance", 0.99, "`imbalance` must be a finite number >= 1; got 0.99."),
        ("imbalance", float("nan"), "`imbalance` must be a finite number >= 1; got nan."),
        ("imbalance", "10", "`imbalance` must be a finite number >= 1; got '10'."),
        ("switch_epoch", -1, "`switch_epoch` must be an integer >= 0; got -1."),
        ("switch_epoch", 2.0, "`switch_epoch` must be an integer >= 0; got 2.0."),
        ("switch_epoch", True, "`switch_epoch` must be an integer >= 0; got True."),
        ("optimizer.learning_rate", 0.0, "`optimizer.learning_rate` must be a finite number > 0; got 0.0."),
        ("optimizer.learning_rate", -0.1, "`optimizer.learning_rate` must be a finite number > 0; got -0.1."),
        ("optimizer.learning_rate", float("nan"), "`optimizer.learning_rate` must be a finite number > 0; got nan."),
        ("optimizer.learning_rate", float("inf"), "`optimizer.learning_rate` must be a finite number > 0; got inf."),
        ("optimizer.learning_rate", "0.1", "`optimizer.learning_rate` must be a finite number > 0; got '0.1'."),
        ("optimizer.learning_rate", True, "`optimizer.learning_rate` must be a finite number > 0; got True."),
    ],
)
def test_a_value_that_breaks_its_rule_is_named_with_the_rule(key, value, message):
    with pytest.raises(InputError) as refused:
        TrialConfig.from_flat({**FLAT, key: value})
    assert str(refused.value) == message


def test_a_missing_learning_rate_names_the_optimizer():
    with pytest.raises(InputError) as refused:
        TrialConfig.from_flat(without("optimizer.learning_rate"))
    assert str(refused.value) == "`optimizer.learning_rate` is missing for the optimizer 'sgd'."


@pytest.mark.parametrize("key", ["loss", "optimizer", "model", "batch_size", "epochs"])
def test_a_missing_key_is_named(key):
    with pytest.raises(InputError) as refused:
        TrialConfig.from_flat(without(key))
    assert str(refused.value) == f"A trial's configuration lacks {key}."


def test_all_missing_keys_are_named_at_once():
    with pytest.raises(InputError, match=r"^A trial's configuration lacks loss, batch_size\.$"):
        TrialConfig.from_flat(without("loss", "batch_size"))


@pytest.mark.parametrize("key", ["lerning_rate", "losss.gamma", "loss.", ".gamma", "seed.value", ""])
def test_an_unknown_key_is_named_with_the_known_ones(key):
    with pytest.raises(InputError) as refused:
        TrialConfig.from_flat({**FLAT, key: 1})
    assert str(refused.value).startswith(f"Unknown key {key!r} in a trial's configuration; known: augment, batch_size")
    assert str(refused.value).endswith(
        "activation, hidden_layers, width, loss.*, optimizer.*, second_optimizer.*, model.*."
    )


def test_resolve_gives_the_entry_of_the_table():
    assert resolve("loss", "mine", {"mine": 3}) == 3


def test_resolve_imports_a_users_own(own_module):
    assert resolve("loss", f"{own_module('answer = 42')}:answer", {}) == 42


def test_resolve_prefers_the_table_even_where_a_name_has_a_colon():
    assert resolve("dataset", "npz:FILE", {"npz:FILE": "entry"}) == "entry"


def test_resolve_states_an_unknown_name_and_the_choices_in_order():
    with pytest.raises(InputError) as refused:
        resolve("loss", "cross", {"mse": 1, "focal": 2})
    assert str(refused.value) == (
        "Unknown loss 'cross'; choose from focal, mse, or give your own as package.module:name."
    )


@pytest.mark.parametrize("name", ["absent_module:build", "json:absent", ":build", "json:", "..json:build"])
def test_resolve_states_what_cannot_be_imported(name):
    with pytest.raises(InputError) as refused:
        resolve("model", name, {})
    assert str(refused.value).startswith(f"The model {name!r} cannot be imported: ")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("build = 1 / 0", "ZeroDivisionError: division by zero"),
        ("def build(:", "SyntaxError: invalid syntax"),
        ("raise ImportError('two\\nlines')", "ImportError: two lines"),
    ],
)
def test_a_users_module_that_fails_is_refused_in_one_line(own_module, source, reason):
    with pytest.raises(InputError) as refused:
        resolve("model", f"{own_module(source)}:build", {})
    assert str(refused.value).startswith(f"The model 'users_parts:build' cannot be imported: {reason}")
    assert "\n" not in str(refused.value)


def test_an_attribute_of_a_module_made_at_run_time_is_found(monkeypatch):
    module = types.ModuleType("made_at_run_time")
    module.build = len
    monkeypatch.setitem(sys.modules, "made_at_run_time", module)
    assert resolve("model", "made_at_run_time:build", {}) is len


def test_the_configuration_needs_the_standard_library_alone():
    code = (
        "import sys; before = set(sys.modules); import trainables.config;"
        "packages = {name.partition('.')[0] for name in set(sys.modules) - before};"
        "print(packages - sys.stdlib_module_names)"
    )
    finished = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert finished.stdout.strip() == "{'trainables'}"
