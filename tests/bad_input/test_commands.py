"""Bad inputs as they are typed: real commands, each ended by one line and exit code 2, leaving nothing."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from hypothesis import given, settings

from tests.bad_input.conftest import PROFILE
from tests.bad_input.data_rules import RULES as DATA_RULES
from tests.bad_input.flag_rules import RULES as FLAG_RULES
from tests.bad_input.record_rules import RULES as RECORD_RULES
from tests.bad_input.sites import ROOT
from tests.bad_input.space_rules import RULES as SPACE_RULES
from tests.bad_input.workplace import Outcome, contents, workplace

NUM_COMMANDS = 50
#: Commands at once; most of their time is Python's own start.
AT_ONCE = 2
#: These start Ray, which a command cannot be kept from here, or look for a network.
LEFT_OUT = ("MLflow does not answer at", "could not be downloaded", "study/cluster.py: `--address {}`: {}")


def last_case(rule):
    """One of the rule's inputs, always the same."""
    found = []

    @settings(PROFILE, max_examples=7)
    @given(rule.cases)
    def note(case):
        found.append(case)

    note()
    return found[-1]


def chosen_cases():
    """Of all tables in turn; what only shows when the data are read as ``--dry-run``, which starts no Ray."""
    cases = [last_case(rule) for rule in (*FLAG_RULES, *SPACE_RULES) if rule.says not in LEFT_OUT]
    for rule in DATA_RULES:
        if rule.says not in LEFT_OUT:
            case = last_case(rule)
            cases.append(replace(case, arguments=(*case.arguments, "--dry-run")))
    own = [last_case(rule) for rule in RECORD_RULES]
    cases += [case for case in own if not any("{" in argument for argument in case.arguments)]
    return [cases[number * len(cases) // NUM_COMMANDS] for number in range(NUM_COMMANDS)]


def refuse(case):
    """The outcome of the real command, and what it changed."""
    with workplace(case) as (place, environment):
        before = contents(place)
        done = subprocess.run(
            [sys.executable, "-m", case.command, *case.arguments],
            cwd=place / "work",
            env={**environment, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            check=False,
            timeout=300,
        )
        after = contents(place)
    outcome = Outcome(done.returncode, done.stdout.decode(), done.stderr.decode())
    return case, outcome, sorted(key for key in {*before, *after} if before.get(key, 0) != after.get(key, 0))


def test_fifty_bad_commands_end_with_one_line_and_leave_nothing():
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for case, outcome, changed in pool.map(refuse, chosen_cases()):
            assert outcome.code == 2, (case, outcome)
            assert outcome.out == ""
            assert 1 <= len(outcome.lines) <= 3, (case, outcome)
            assert "Traceback" not in outcome.err
            assert changed == [], case
