"""Work shared among threads, each of which computes alone.

share_out([(0, 0), (0, 2), (0, 4)], compute)         # calls compute(item) for every item
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from threading import Barrier
from typing import TypeVar

import torch

Work = TypeVar("Work")


def share_out(work: Sequence[Work], compute: Callable[[Work], None]) -> None:
    """Call `compute` on each piece of work, on as many threads as PyTorch has, one piece per thread at a time.

    PyTorch's own way, all threads on one operation, makes them wait for each other after every small operation. On a
    busy machine that is most of the time. It also sums in another order for another number of threads, where a piece
    that one thread computes has the same bits on any number.
    """
    n_threads = torch.get_num_threads()
    if n_threads == 1:
        for piece in work:
            compute(piece)
        return
    # Inference mode belongs to a thread, so that each piece enters it anew.
    for done in [_workers(n_threads).submit(torch.inference_mode()(compute), piece) for piece in work]:
        done.result()


@cache
def _workers(n_threads: int) -> ThreadPoolExecutor:
    """Threads in which PyTorch uses one thread."""
    # torch.set_num_threads also sets what threads that start later begin with. The barrier makes all threads start now,
    # before that number is restored.
    pool = ThreadPoolExecutor(n_threads, "c3dvideo-shared", initializer=_use_one_thread)
    everyone = Barrier(n_threads)
    for started in [pool.submit(everyone.wait) for _ in range(n_threads)]:
        started.result()
    torch.set_num_threads(n_threads)
    return pool


def _use_one_thread() -> None:
    # PyTorch sets the number at the first use in a thread, to that of the process. Unless that comes first, it undoes
    # the second line.
    torch.get_num_threads()
    torch.set_num_threads(1)
