"""Who makes machines is marked by that alone, so that no test can forget to say so."""

import pytest

from tests.cluster.lab import Lab


@pytest.hookimpl(tryfirst=True)  # before the marks are looked at
def pytest_collection_modifyitems(items):
    for item in items:
        if getattr(item.module, "Lab", None) is Lab:
            item.add_marker(pytest.mark.machines)
