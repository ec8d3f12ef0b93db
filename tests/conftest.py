"""Settings that every test shares: the same random examples in CI each time, new ones on a developer's machine."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

COMMON = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}  # a busy machine is no fault of the code
settings.register_profile("dev", **COMMON)
settings.register_profile("ci", derandomize=True, print_blob=True, **COMMON)
settings.load_profile("ci" if os.environ.get("CI") else "dev")


@pytest.fixture(autouse=True)
def _heard() -> Iterator[None]:
    """Let the library's logger speak, and undo what a test does to its level.

    `clearml`, once imported, switches every logger off that it did not make.
    """
    logger = logging.getLogger("mcp_policy")
    logger.disabled = False
    level = logger.level
    yield
    logger.setLevel(level)
