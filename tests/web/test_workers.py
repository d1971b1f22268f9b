"""Worker processes: answers, errors, time limits, and processes that die."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from c3dvideo.errors import C3DVideoError, DecodeError
from c3dvideo.web.workers import JobError, Workers

JOBS = """
import os, time
def double(number): return 2 * number
def sleep(seconds): time.sleep(seconds)
def die(): os.kill(os.getpid(), 11)
def allocate(n_bytes): return len(bytearray(n_bytes))
def note(path, text):
    with open(path, "a") as file: file.write(text)
"""


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    folder = tmp_path_factory.mktemp("jobs")
    (folder / "jobs_of_test.py").write_text(JOBS)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        with Workers(1, memory_bytes=1 << 30) as found:
            yield found


def double(workers: Workers, number: int) -> int:
    answer: int = workers.run("jobs_of_test:double", {"number": number}, seconds=60)
    return answer


def test_a_job_returns_what_its_function_returns(workers: Workers) -> None:
    assert double(workers, 21) == 42


def test_errors_of_the_package_pass_and_others_are_named(workers: Workers, tmp_path: Path) -> None:
    with pytest.raises(DecodeError, match="no such file"):
        workers.run("c3dvideo.video.viewing:view_info", {"path": str(tmp_path / "a.mp4")}, seconds=60)
    with pytest.raises(C3DVideoError, match="ModuleNotFoundError"):
        workers.run("no_such_module:f", {}, seconds=60)


def test_a_job_that_takes_too_long_is_stopped_and_the_next_one_is_done(workers: Workers) -> None:
    started = time.monotonic()
    with pytest.raises(JobError, match=r"more than 0\.3 seconds"):
        workers.run("jobs_of_test:sleep", {"seconds": 120}, seconds=0.3)
    assert time.monotonic() - started < 60
    assert double(workers, 2) == 4


def test_a_process_that_dies_costs_one_job(workers: Workers) -> None:
    with pytest.raises(JobError, match="died"):
        workers.run("jobs_of_test:die", {}, seconds=60)
    assert double(workers, 3) == 6


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="limits of memory are Linux's")
def test_memory_beyond_the_limit_is_an_error(workers: Workers) -> None:
    with pytest.raises(C3DVideoError, match="MemoryError"):
        workers.run("jobs_of_test:allocate", {"n_bytes": 4 << 30}, seconds=60)


def test_urgent_jobs_come_first_then_the_newest(workers: Workers, tmp_path: Path) -> None:
    held = workers.start("jobs_of_test:sleep", {"seconds": 0.5}, seconds=60)
    jobs = [
        workers.start(
            "jobs_of_test:note", {"path": str(tmp_path / "order"), "text": text}, seconds=60, urgent=text == "c"
        )
        for text in "abcd"
    ]
    for job in [held, *jobs]:
        job.result(60)
    assert (tmp_path / "order").read_text() == "cdba"


def test_closing_ends_what_runs_and_what_waits() -> None:
    pool = Workers(1)
    running = pool.start("subprocess:run", {"args": ["sleep", "60"]}, seconds=60)
    waiting = pool.start("builtins:dict", {}, seconds=60)
    pool.close()
    for job in (running, waiting, pool.start("builtins:dict", {}, seconds=60)):
        with pytest.raises(JobError, match="being stopped"):
            job.result(10)


def test_no_process_is_left_behind() -> None:
    pool = Workers(1)
    pid = pool.run("os:getpid", {}, seconds=60)
    pool.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
