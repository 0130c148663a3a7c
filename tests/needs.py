"""What some tests read or drive that pip does not install."""

import os
import shutil
from pathlib import Path

import pytest

FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist/train-images-idx3-ubyte.gz")


def need_fashion_mnist():
    """The real Fashion-MNIST: skip where a person has not installed it, fail where CI has not."""
    _need("dataset-fashion-mnist", present=FASHION_MNIST.exists())


def need_browser():
    """Chromium and its driver, likewise."""
    _need("chromium and chromium-driver", present=bool(shutil.which("chromium") and shutil.which("chromedriver")))


def _need(packages, *, present):
    if present:
        return
    reason = f"Debian's {packages} not installed (.ci/run installs them)"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)
