"""Keep what another library logs or warns about its own parts off the terminal.

with quiet("torch.onnx"):
    torch.onnx.export(...)
"""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet(logger: str, *, all_warnings: bool = True) -> Iterator[None]:
    """Log errors of `logger` only, and drop warnings; logger and warnings are afterwards as they were.

    all_warnings: False drops no warning, and undoes the filters that are added inside the block.
    """
    log = logging.getLogger(logger)
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            if all_warnings:
                warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)
