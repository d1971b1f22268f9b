"""What the tests of the video package share."""

import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

MAKER = Path(__file__).parents[1] / "golden" / "make_resize.py"


@pytest.fixture(scope="session")
def pattern() -> Callable[..., np.ndarray]:
    """Draws the pictures of the golden files: pattern(height, width, phase=0) -> uint8 (height, width, 3)."""
    spec = importlib.util.spec_from_file_location("make_resize", MAKER)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.pattern  # type: ignore[no-any-return]


@pytest.fixture(scope="session")
def golden() -> Path:
    """The folder of committed numbers."""
    return MAKER.parent
