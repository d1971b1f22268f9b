"""Processes that work for the server, each held by one thread, with a time limit per job.

    with Workers(2, memory_bytes=4 << 30) as workers:
        info = workers.run("c3dvideo.video.viewing:view_info", {"path": "a.avi"}, seconds=20)

`run` waits, `start` does not. Urgent jobs overtake others; among equals the newest is first, because it is what the
viewer looks at now. A process that exceeds its time is killed and replaced, and its job raises JobError.
"""

import itertools
import os
import queue
import tempfile
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from c3dvideo.errors import C3DVideoError
from c3dvideo.features.child_process import ChildProcess
from c3dvideo.web.job_process import Answer, Job


class JobError(C3DVideoError):
    """A job took too long, or its process died."""


@dataclass(order=True)
class _Waiting:
    urgency: int
    age: int
    job: Job = field(compare=False)
    seconds: float = field(compare=False)
    result: "Future[Any]" = field(compare=False)


class Workers:
    """`n` processes for jobs; each starts with its first job. memory_bytes: a limit for each process, 0 for none."""

    def __init__(self, n: int, *, memory_bytes: int = 0) -> None:
        self._jobs: queue.PriorityQueue[_Waiting] = queue.PriorityQueue()
        self._numbers = itertools.count(1)
        self._closed = threading.Event()
        self._children: set[ChildProcess] = set()
        with tempfile.TemporaryFile() as file:
            file.write(str(memory_bytes).encode())
            file.flush()
            self._memory = os.dup(file.fileno())
        # Each process ends with the thread that started it (`end_with_parent`), so a thread lives as long as the pool.
        self._threads = [threading.Thread(target=self._work, name=f"worker {i}", daemon=True) for i in range(n)]
        for thread in self._threads:
            thread.start()

    def run(self, function: str, arguments: Mapping[str, Any], *, seconds: float, urgent: bool = False) -> Any:
        """What `function` returns. Raises what it raises of this package's errors, and JobError after `seconds`."""
        return self.start(function, arguments, seconds=seconds, urgent=urgent).result()

    def start(
        self, function: str, arguments: Mapping[str, Any], *, seconds: float, urgent: bool = False
    ) -> "Future[Any]":
        """The future result of a job; `seconds` count from when a process begins with it."""
        result: Future[Any] = Future()
        if self._closed.is_set():
            result.set_exception(JobError("the server is being stopped"))
            return result
        waiting = _Waiting(0 if urgent else 1, -next(self._numbers), Job(function, arguments), seconds, result)
        self._jobs.put(waiting)
        return result

    def close(self) -> None:
        """Kill all processes; jobs that wait or run raise JobError."""
        self._closed.set()
        for child in list(self._children):
            child.kill()
        for _ in self._threads:
            self._jobs.put(_Waiting(-1, 0, Job(""), 0, Future()))
        for thread in self._threads:
            thread.join(5)
        with suppress(queue.Empty):
            while True:
                waiting = self._jobs.get_nowait()
                if not waiting.result.done():
                    waiting.result.set_exception(JobError("the server is being stopped"))
        with suppress(OSError):
            os.close(self._memory)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _work(self) -> None:
        child: ChildProcess | None = None
        while not self._closed.is_set():
            waiting = self._jobs.get()
            if self._closed.is_set() or not waiting.result.set_running_or_notify_cancel():
                if not waiting.result.done():
                    waiting.result.set_exception(JobError("the server is being stopped"))
                continue
            if child is None:
                child = ChildProcess("c3dvideo.web.job_process:serve", self._memory)
                self._children.add(child)
            try:
                answer = self._answer(child, waiting)
            except JobError as error:
                self._drop(child)
                child = None
                waiting.result.set_exception(error)
                continue
            if answer.error is not None:
                waiting.result.set_exception(answer.error)
            else:
                waiting.result.set_result(answer.value)
        if child is not None:
            self._drop(child)

    def _answer(self, child: ChildProcess, waiting: _Waiting) -> Answer:
        child.send(waiting.job)
        try:
            if not child.connection.poll(waiting.seconds):
                raise JobError(f"it took more than {waiting.seconds:g} seconds and was stopped")
            answer: Answer = child.connection.recv()
        except (OSError, EOFError) as error:
            reason = "the server is being stopped" if self._closed.is_set() else "its process died"
            raise JobError(f"{reason}; the file may be damaged") from error
        return answer

    def _drop(self, child: ChildProcess) -> None:
        self._children.discard(child)
        child.kill()
        child.end(5)
