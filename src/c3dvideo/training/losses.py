"""The losses of an epoch, read without making the device wait for the host.

    losses.add(loss, update=12, learning_rate=1e-3)      # a tensor on the device
    for each in losses.arrived():                        # those that the device has computed by now
        each.update, each.value

On a GPU the host runs several updates ahead of the device. Reading a loss at once (`loss.item()`) would end that: the
host would wait for the update, and the device then for the next one. Each loss is copied to host memory in the queue of
the device instead, and read when the copy is there, which is a few updates later. On a CPU it is there at once.

How much later differs among the processes of one run. One that stopped for a loss that the others have not read yet
would leave them waiting for its gradients. Such a run therefore reads every loss a fixed number of batches late.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

BATCHES_LATE = 8
"""How late a run of several processes reads a loss: more than a GPU is usually behind its host, so nothing waits."""


@dataclass(frozen=True)
class Loss:
    """The loss of one batch: the number of updates before it, its value and the learning rate."""

    update: int
    value: float
    learning_rate: float


@dataclass(frozen=True)
class _Copied:
    """A loss on its way to host memory. there: a CUDA event after the copy; None for a copy that has ended."""

    update: int
    learning_rate: float
    host: Tensor
    there: Any


class LossLog:
    """The losses of one epoch in order. values: those that have been read."""

    def __init__(self) -> None:
        self.values: list[float] = []
        self._waiting: deque[_Copied] = deque()

    def add(self, loss: Tensor, *, update: int, learning_rate: float) -> None:
        """Have a loss read later."""
        self._waiting.append(_Copied(update, learning_rate, *_start_copy(loss.detach())))

    def arrived(self, *, in_step: bool = False) -> Iterator[Loss]:
        """The losses that can be read without waiting, each once.

        in_step: those of all but the last BATCHES_LATE batches instead, so that all processes of a run read the same.
        """
        while self._waiting and self._is_due(self._waiting[0], in_step=in_step):
            yield self._read()

    def rest(self) -> Iterator[Loss]:
        """All losses that have not been read yet; waits for the device."""
        while self._waiting:
            yield self._read()

    def _is_due(self, copied: _Copied, *, in_step: bool) -> bool:
        if in_step:
            return len(self._waiting) > BATCHES_LATE
        return copied.there is None or bool(copied.there.query())

    def _read(self) -> Loss:
        copied = self._waiting.popleft()
        if copied.there is not None:
            copied.there.synchronize()
        self.values.append(float(copied.host))
        return Loss(copied.update, self.values[-1], copied.learning_rate)


def _start_copy(loss: Tensor) -> tuple[Tensor, Any]:
    """Host memory that will hold the loss, and the CUDA event after which it does."""
    if loss.device.type != "cuda":
        return loss, None
    host = torch.empty(loss.shape, dtype=loss.dtype, pin_memory=True)
    host.copy_(loss, non_blocking=True)
    event = torch.cuda.Event()  # type: ignore[no-untyped-call]
    event.record()
    return host, event
