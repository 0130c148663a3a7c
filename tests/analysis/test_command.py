"""How every command ends."""

import gc

import pytest

from analysis.command import leave


@pytest.mark.parametrize("code", [0, 1, 2, 130])
def test_a_command_ends_with_its_code_and_nothing_left_to_look_through(code):
    try:
        with pytest.raises(SystemExit) as ended:
            leave(code)
        assert ended.value.code == code
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()
