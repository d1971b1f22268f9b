"""Run one function over many jobs in threads, with a progress bar and one result or error per job.

for number, result in in_parallel(measure, videos, workers=4, description="measuring"):
    ...
"""

import errno
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from functools import partial
from typing import TypeVar

from c3dvideo.errors import C3DVideoError, StoreError
from c3dvideo.progress import Bar, progress

NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)
"""Errors of writing only, so they are never about the video that a job reads."""

Job = TypeVar("Job")
Result = TypeVar("Result")


def in_parallel(
    function: Callable[[Job], Result], jobs: Sequence[Job], *, workers: int, description: str, unit: str = "videos"
) -> Iterator[tuple[int, Result | C3DVideoError]]:
    """Pairs of a job's number and its result, or the error that it raised, in the order in which the jobs finish.

    An error that is no C3DVideoError becomes one, so that no job stops the others: a library may raise anything about
    a damaged video. Raised are only StoreError and the OSErrors of a full or read-only disk, with which no later job
    could succeed. At most twice as many results as there are workers wait for the caller.
    """
    with progress(description, total=len(jobs), unit=unit) as bar:
        if workers <= 1 or len(jobs) < 2:
            for number, job in enumerate(jobs):
                yield number, _result_of(partial(function, job))
                bar.advance()
            return
        with ThreadPoolExecutor(min(workers, len(jobs))) as pool:  # FFmpeg and numpy work outside Python's lock
            try:
                yield from _results(pool, function, jobs, at_a_time=2 * workers, bar=bar)
            finally:
                pool.shutdown(wait=True, cancel_futures=True)


def _results(
    pool: ThreadPoolExecutor, function: Callable[[Job], Result], jobs: Sequence[Job], *, at_a_time: int, bar: Bar
) -> Iterator[tuple[int, Result | C3DVideoError]]:
    """The results of jobs that are submitted one by one, so that results do not pile up behind a slow caller."""
    waiting = iter(enumerate(jobs))
    running: dict[Future[Result], int] = {}
    while True:
        for number, job in waiting:
            running[pool.submit(function, job)] = number
            if len(running) == at_a_time:
                break
        if not running:
            return
        done, _ = wait(running, return_when=FIRST_COMPLETED)
        for future in done:
            yield running.pop(future), _result_of(future.result)
            bar.advance()


def _result_of(call: Callable[[], Result]) -> Result | C3DVideoError:
    try:
        return call()
    except StoreError:
        raise
    except C3DVideoError as error:
        return error
    except Exception as error:
        if isinstance(error, OSError) and error.errno in NO_SPACE:
            raise
        wrapped = C3DVideoError(f"unexpected {type(error).__name__}: {str(error).strip() or 'no message'}")
        wrapped.__cause__ = error
        return wrapped
