"""A configuration and a record come back as they were, whatever is in them; what is no configuration is refused."""

import contextlib
import math

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from analysis.load import as_text, convert, load_study
from study.ledger import COMPLETED, CONFIRM, Request
from study.record import MlflowRecord
from study.tracking import connect, start_study_run
from tests.bad_input.conftest import PROFILE
from tests.bad_input.rules import texts
from tests.bad_input.space_rules import FIXED
from tests.trainables.test_config import configs
from trainables.config import InputError, TrialConfig

NUM_TRIALS = 20
#: Text that Python, or a spreadsheet, would take for something else.
DISGUISED = (
    "1", "007", "1e5", "1_000", "nan", "inf", "-inf", "NaN", "True", "true", "False", "None", "", " 1", "0x10", "1.0",
    "1.", ".5", "-0", "٣", '"', '""', '"1"', '"a', "null", "[1]", "{}", "a\nb", "1e-05", "Infinity",
)  # fmt: skip
scalars = st.one_of(
    st.sampled_from(DISGUISED),
    texts,
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.integers().map(str),
    st.floats().map(str),
)


@settings(PROFILE, max_examples=500)
@given(scalars)
def test_a_parameter_comes_back_from_its_text_with_its_type(value):
    again = convert(as_text(value))
    assert (type(again), again) == (type(value), value)
    assert math.copysign(1, again) == math.copysign(1, value) if isinstance(value, float) else True


@pytest.mark.parametrize("value", [0.1, 1e-5, 1e22, 3, -7, True, False, "relu", "own.part:build", math.inf])
def test_what_older_records_hold_is_read_as_before(value):
    assert as_text(value) == str(value)
    assert convert(str(value)) == value


@settings(PROFILE, max_examples=200)
@given(configs)
def test_a_configuration_comes_back_from_what_mlflow_holds(config):
    held = {key: as_text(value) for key, value in config.to_flat().items()}
    again = TrialConfig.from_flat({key: convert(text) for key, text in held.items()})
    assert again == config
    assert [type(value) for value in again.to_flat().values()] == [type(value) for value in config.to_flat().values()]


@settings(PROFILE, max_examples=300)
@given(
    st.dictionaries(
        st.sampled_from([*FIXED, "seed", "loss.gamma", "width", "augment"]) | texts | st.integers(),
        scalars | st.none() | st.lists(st.integers(), max_size=2) | st.integers(10**300, 10**400) | st.floats(),
        max_size=8,
    )
)
def test_what_is_no_configuration_is_refused_in_a_line_and_never_otherwise(changes):
    flat = {**FIXED, **changes}
    with contextlib.suppress(InputError):
        config = TrialConfig.from_flat(flat)
        assert TrialConfig.from_flat(config.to_flat()) == config


@pytest.mark.parametrize("value", [None, [1], {"a": 1}, b"1", 1j, object()])
def test_a_value_that_no_record_could_hold_is_refused(value):
    with pytest.raises(InputError, match=r"`loss\.gamma` must be a number, text, True or False; got a value of type"):
        TrialConfig.from_flat({**FIXED, "loss.gamma": value})


def is_exact(config):
    """Whether a frame holds its integers as they are: where other trials lack the parameter, they become floats."""
    return all(not isinstance(value, int) or abs(value) < 2**53 for value in config.to_flat().values())


@settings(PROFILE, max_examples=2, phases=[Phase.generate])
@given(
    st.lists(configs.filter(is_exact), min_size=NUM_TRIALS, max_size=NUM_TRIALS),
    st.lists(st.floats(allow_nan=False, allow_infinity=False, width=64), min_size=NUM_TRIALS, max_size=NUM_TRIALS),
    st.dictionaries(texts, scalars.filter(lambda value: not isinstance(value, float)), max_size=4),
)
def test_a_record_comes_back_with_every_parameter_value_and_text(tmp_path_factory, found, values, final):
    folder = tmp_path_factory.mktemp("record")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    client, experiment = connect(uri, "own", folder.as_uri())
    protocol = {"study": "s", "question": "größe <b>\n?", "arms": [final]}
    parent = start_study_run(client, experiment, "s", {"study": "s", "phase": "study"}, protocol)
    record = MlflowRecord(client, experiment, parent, {"study": "s"})
    requests = [Request("mse", CONFIRM, number, config.to_flat()) for number, config in enumerate(found)]
    for request, value in zip(requests, values, strict=True):
        record.start(request)
        record.row(request.key, 1, {"val_accuracy": value})
        record.end(request.key, COMPLETED, {"node": "here"}, {"of": final})
    record.close()
    again = load_study("s", tracking_uri=uri)
    assert again.protocol == protocol
    assert list(again.finals.values()) == [{"of": final}] * NUM_TRIALS
    rows = {row["trial_id"]: row for row in again.trials.to_dict("records")}
    for request, value in zip(requests, values, strict=True):
        row = rows[request.key]
        assert row["val_accuracy"] == value
        assert {key: row[key] for key in request.config} == request.config
