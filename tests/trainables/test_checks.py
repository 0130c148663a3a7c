import pytest

from trainables.checks import check_number, check_parameters, keyword_names, one_line
from trainables.config import InputError


def test_check_number_states_both_bounds():
    with pytest.raises(InputError, match=r"^`momentum` must be a finite number >= 0 and < 1; got 1\.0\.$"):
        check_number("momentum", 1.0, at_least=0, below=1)


def test_an_exception_becomes_one_line_that_begins_with_its_type():
    assert one_line(KeyError("a\n  b")) == "KeyError: 'a\\n b'"


def test_keyword_names_leave_out_what_is_given_by_position():
    def build(parameters, *, learning_rate, momentum=0.0, **_more):
        return parameters, learning_rate, momentum

    assert keyword_names(build, num_positional=1) == ("learning_rate", "momentum", "**")


def test_an_unknown_parameter_is_refused_with_the_known_ones():
    def loss(logits, labels, *, gamma):
        return logits, labels, gamma

    with pytest.raises(InputError, match="has no parameter 'gama'; it accepts gamma"):
        check_parameters("loss", "mine", loss, {"gama": 1.0}, num_positional=2)
