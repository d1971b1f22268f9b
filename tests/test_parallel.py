"""Jobs in threads: every job has a result or an error, none stops the others, and results do not pile up."""

import threading
import time

import pytest

from c3dvideo.errors import C3DVideoError, DecodeError, StoreError
from c3dvideo.parallel import in_parallel


def work(job: int) -> int:
    if job == 3:
        raise AttributeError("'NoneType' object has no attribute 'name'")
    if job == 5:
        raise MemoryError
    if job == 7:
        raise DecodeError("the file is damaged")
    return job * job


@pytest.mark.parametrize("workers", [1, 4])
def test_any_error_of_a_job_is_its_result(workers: int) -> None:
    results = dict(in_parallel(work, range(20), workers=workers, description="working"))
    assert sorted(results) == list(range(20))
    errors = {number: result for number, result in results.items() if isinstance(result, C3DVideoError)}
    assert {number: str(error) for number, error in errors.items()} == {
        3: "unexpected AttributeError: 'NoneType' object has no attribute 'name'",
        5: "unexpected MemoryError: no message",
        7: "the file is damaged",
    }
    assert isinstance(errors[3].__cause__, AttributeError) and isinstance(errors[7], DecodeError)
    assert all(results[number] == number**2 for number in range(20) if number not in errors)


@pytest.mark.parametrize("workers", [1, 3])
def test_a_full_disk_stops_all_jobs(workers: int) -> None:
    started = []

    def store(job: int) -> None:
        started.append(job)
        raise StoreError("the disk is full")

    with pytest.raises(StoreError, match="the disk is full"):
        list(in_parallel(store, range(1000), workers=workers, description="storing"))
    assert len(started) < 20


def test_results_do_not_pile_up_behind_a_slow_caller() -> None:
    lock, unread, most = threading.Lock(), 0, 0

    def make(job: int) -> int:
        nonlocal unread, most
        with lock:
            unread += 1
            most = max(most, unread)
        return job

    for _ in in_parallel(make, range(60), workers=3, description="making"):
        time.sleep(0.002)
        with lock:
            unread -= 1
    assert unread == 0 and most <= 7  # twice the workers, and the one that the caller has in hand
