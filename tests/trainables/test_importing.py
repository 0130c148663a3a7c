"""Garbage is left alone while modules are imported, and only then."""

import gc
from importlib import import_module

import pytest

from trainables.importing import importing


@pytest.fixture
def collecting():
    """Whether Python looks for garbage, put back after the test."""
    was = gc.isenabled()
    yield
    (gc.enable if was else gc.disable)()


@pytest.mark.parametrize("before", [True, False])
def test_garbage_is_left_alone_in_the_block_whatever_ends_it(collecting, before):
    (gc.enable if before else gc.disable)()
    with importing():
        assert not gc.isenabled()
    assert gc.isenabled() is before
    with pytest.raises(ModuleNotFoundError), importing():
        import_module("no_module_of_this_name")
    assert gc.isenabled() is before
