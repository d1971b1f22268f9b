"""A process that does one job after another for the server, which can kill it when a job takes too long.

The server sends `Job`, this process answers `Answer`. Videos are decoded here and not in the server, so that a file
that crashes or hangs a decoder costs one answer. See `workers` for the other end.
"""

import os
import signal
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from multiprocessing.connection import Connection
from typing import Any

from c3dvideo.errors import C3DVideoError
from c3dvideo.features.child_process import end_with_parent, limit_memory


@dataclass(frozen=True)
class Job:
    """A function of this package, as "module:name", and its arguments by name."""

    function: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """What the function returned, or the exception of this package that it raised."""

    value: Any = None
    error: C3DVideoError | None = None


def serve(connection_descriptor: int, memory_descriptor: int) -> None:
    """Do jobs until the connection is closed; memory_descriptor: a file with the number of bytes allowed, 0 for all."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the server, which then ends this process
    end_with_parent()
    limit = int(os.pread(memory_descriptor, 32, 0) or b"0")
    if limit:
        limit_memory(limit)
    connection = Connection(connection_descriptor)
    with suppress(OSError, EOFError):
        while True:
            connection.send(_do(connection.recv()))


def _do(job: Job) -> Answer:
    module, _, name = job.function.partition(":")
    try:
        return Answer(value=getattr(import_module(module), name)(**job.arguments))
    except C3DVideoError as error:
        return Answer(error=error)
    except Exception as error:  # whatever one video causes, the next job is not affected
        return Answer(error=C3DVideoError(f"{type(error).__name__}: {str(error)[:300]}"))
