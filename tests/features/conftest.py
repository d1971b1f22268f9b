"""What the tests of features share: which processes a test has started."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest


def _started_by(pid: int) -> list[int]:
    return [int(child) for task in Path(f"/proc/{pid}/task").glob("*/children") for child in task.read_text().split()]


@pytest.fixture
def children() -> Callable[..., list[int]]:
    """Return a function `children(pid)`: what a process, by default this one, has started since the test began.

    Test files that share a process with this one may have left helpers, such as a resource tracker.
    """
    before = set(_started_by(os.getpid()))

    def since(pid: int | None = None) -> list[int]:
        return [child for child in _started_by(pid or os.getpid()) if child not in before]

    return since
