"""Thousands of bad inputs through the entry functions: each refused by its rule, in a line, leaving nothing."""

import pytest
from hypothesis import given

from tests.bad_input.conftest import LEAST, PROFILE
from tests.bad_input.data_rules import RULES as DATA_RULES
from tests.bad_input.exceptions import EXCEPTIONS
from tests.bad_input.flag_rules import RULES as FLAG_RULES
from tests.bad_input.record_rules import RULES as RECORD_RULES
from tests.bad_input.sites import ROOT, site_of
from tests.bad_input.space_rules import RULES as SPACE_RULES

RULES = [*FLAG_RULES, *SPACE_RULES, *DATA_RULES, *RECORD_RULES]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule.says} {rule.also}".strip())
def test_every_input_that_breaks_a_rule_is_refused_by_it(rule, counted, all_sites):
    site = site_of(rule.says, all_sites)
    tried = set()

    @PROFILE
    @given(rule.cases)
    def refuse(case):
        outcome, sites = counted.refuse(case)
        assert site in sites, outcome
        assert rule.also in outcome.err
        tried.add((case.arguments, tuple(case.files.items())))

    refuse()
    assert len(tried) >= LEAST


def test_the_inputs_are_two_thousand():
    assert len(RULES) * LEAST >= 2000


def test_every_refusal_of_the_project_has_a_rule_or_a_reason(all_sites):
    ruled = {site_of(rule.says, all_sites) for rule in RULES}
    excepted = {site_of(says, all_sites) for says in EXCEPTIONS}
    assert ruled & excepted == set()
    assert set(all_sites) - ruled - excepted == set(), "add a rule to the tables beside this file"


@pytest.mark.parametrize(("file", "words"), [where.split(": ") for _, where in EXCEPTIONS.values() if where])
def test_what_is_excepted_is_tested_where_it_says(file, words):
    assert words in (ROOT / file).read_text()
