"""Tests that need something this machine may not have."""

import os
from typing import NoReturn

import pytest


def not_run(why: str) -> NoReturn:
    """Skip the test and say why; in CI it fails, for there nothing may be left out in silence."""
    if os.environ.get("CI"):
        pytest.fail(why)
    pytest.skip(why)
