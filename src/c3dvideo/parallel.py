"""Run one function over many jobs in threads, with a progress bar and one result or error per job.

for number, result in in_parallel(measure, videos, workers=4, description="measuring"):
    ...
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from functools import partial
from typing import TypeVar

from c3dvideo.errors import C3DVideoError
from c3dvideo.progress import progress

Job = TypeVar("Job")
Result = TypeVar("Result")


def in_parallel(
    function: Callable[[Job], Result], jobs: Sequence[Job], *, workers: int, description: str, unit: str = "videos"
) -> Iterator[tuple[int, Result | C3DVideoError]]:
    """(number of the job, its result or the C3DVideoError it raised), as they finish, under a progress bar."""
    with progress(description, total=len(jobs), unit=unit) as bar:
        if workers <= 1 or len(jobs) < 2:
            for number, job in enumerate(jobs):
                yield number, _result_of(partial(function, job))
                bar.advance()
            return
        with ThreadPoolExecutor(min(workers, len(jobs))) as pool:  # FFmpeg and numpy work outside Python's lock
            running: dict[Future[Result], int] = {pool.submit(function, job): n for n, job in enumerate(jobs)}
            try:
                for future in as_completed(running):
                    yield running[future], _result_of(future.result)
                    bar.advance()
            finally:
                pool.shutdown(wait=True, cancel_futures=True)


def _result_of(call: Callable[[], Result]) -> Result | C3DVideoError:
    try:
        return call()
    except C3DVideoError as error:
        return error
