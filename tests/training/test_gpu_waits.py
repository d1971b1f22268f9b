"""An update never makes the host wait for the GPU: nothing is read from the device, and no copy to it blocks.

The device "meta" takes the place of the GPU: its tensors have a shape but no values, so the test runs anywhere.
"""

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from c3dvideo.errors import TrainingError
from c3dvideo.network.c3d import C3D
from c3dvideo.training import losses
from c3dvideo.training.augment import Normalise
from c3dvideo.training.clip_loaders import reading_processes
from c3dvideo.training.learner import Learner
from c3dvideo.training.losses import LossLog
from c3dvideo.training.optim import MovingAverage, make_optimizer
from c3dvideo.training.settings import make_settings
from c3dvideo.video.preprocess import Profile

GPU = torch.device("meta")
PROFILE = Profile(
    name="small", resize_height=36, resize_width=48, crop_size=32, crop_top=2, crop_left=8, mean=(9.0,) * 3
)


class Waits(TorchDispatchMode):
    """Collects what would make the host wait: values that are read from the device, and copies to it that block."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        options = options or {}
        name = str(function)
        sources = [value.device for value in arguments if isinstance(value, torch.Tensor)]
        if "_local_scalar_dense" in name and GPU in sources:
            self.found.append(name)
        is_copy = "_to_copy" in name and options.get("device", sources[0]) != sources[0]
        if is_copy and not options.get("non_blocking"):
            self.found.append(name)
        return function(*arguments, **options)


class Event:
    """A CUDA event that is there after some questions."""

    def __init__(self, questions: int) -> None:
        self.questions = questions

    def query(self) -> bool:
        self.questions -= 1
        return self.questions < 0

    def synchronize(self) -> None:
        self.questions = 0


def fake_learner(**changes: Any) -> tuple[Learner, torch.optim.Optimizer]:
    settings = make_settings("modern", crop_size=32, batch_size=4, **changes)
    network = C3D(num_classes=3, stages=((4,),) * 5, fc_width=8, crop_size=32).to(GPU)
    network.profile, network.classes = PROFILE, ("a", "b", "c")
    clips: Any = SimpleNamespace(class_weights=lambda n: torch.ones(n, device=GPU))
    learner = Learner(network, settings, clips)
    learner.normalise = Normalise(1.0, torch.zeros(3, 1, 1, 1, device=GPU), torch.ones(3, 1, 1, 1, device=GPU))
    learner.first_input = (torch.zeros(()), [])  # the picture of the first input is drawn once per run
    optimizer = make_optimizer(network, settings)
    batches: Any = SimpleNamespace(share=lambda number: (0, 4), n_clips=lambda number: 4)
    trainer: Any = SimpleNamespace(
        global_rank=0,
        world_size=1,
        current_epoch=0,
        global_step=0,
        optimizers=[optimizer],
        strategy=SimpleNamespace(reduce=lambda loss, reduce_op: loss),
        logger=None,
        loggers=[],
    )
    learner.batches, learner._trainer, learner._device = batches, trainer, GPU
    if learner.average is not None:
        learner.average._n_averaged = 3  # read from the device once, before the first update
    return learner, optimizer


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"crops": "any", "mixup": 0.2, "optimizer": "sgd"},
        {"cutmix": 1.0, "balance": "loss"},
        {"optimizer": "release", "batch_norm": False, "ema": 0.0},
    ],
    ids=["modern", "mixup", "cutmix", "release"],
)
def test_an_update_waits_for_nothing(changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "_start_copy", lambda loss: (loss, Event(100)))
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # does not know the device
    learner, optimizer = fake_learner(**changes)
    batch = {
        "pixels": torch.empty(4, 16, 3, 36, 48, dtype=torch.uint8, device=GPU),
        "target": torch.empty(4, dtype=torch.int64, device=GPU),
    }
    with Waits() as waits:
        for number in range(2):
            loss = learner.training_step(batch, number)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(learner.network.parameters(), 5.0)
            optimizer.step()
            optimizer.zero_grad()
            if learner.average is not None:
                learner.average.update_parameters(learner.network)
    assert waits.found == []
    assert isinstance(learner.average, MovingAverage) == bool(learner.settings.ema)


def test_what_would_wait_is_found() -> None:
    with Waits() as waits:
        torch.zeros(3).to(GPU)
        torch.zeros(3).to(GPU, non_blocking=True)
        with pytest.raises(RuntimeError):  # it has no value
            float(torch.zeros((), device=GPU))
    assert len(waits.found) == 2


def test_losses_are_read_when_they_have_arrived(monkeypatch: pytest.MonkeyPatch) -> None:
    events = iter([Event(0), Event(2), Event(0)])
    monkeypatch.setattr(losses, "_start_copy", lambda loss: (loss, next(events)))
    log = LossLog()
    for update in range(3):
        log.add(torch.tensor(float(update)), update=update, learning_rate=0.1)
    assert [each.update for each in log.arrived()] == [0]
    assert [each.update for each in log.arrived()] == []
    assert [each.value for each in log.rest()] == [1.0, 2.0]
    assert log.values == [0.0, 1.0, 2.0]


def test_processes_of_one_run_read_the_same_losses(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that stops earlier than the others would leave them waiting for it, however fast their devices are."""
    read = []
    for questions in (0, 5, 100):
        monkeypatch.setattr(losses, "_start_copy", lambda loss, left=questions: (loss, Event(left)))
        log, found = LossLog(), []
        for update in range(12):
            log.add(torch.tensor(float(update)), update=update, learning_rate=0.1)
            found.append([each.update for each in log.arrived(in_step=True)])
        read.append((found, [each.update for each in log.rest()]))
    assert read[0] == read[1] == read[2]
    assert read[0] == ([[] for _ in range(8)] + [[0], [1], [2], [3]], [4, 5, 6, 7, 8, 9, 10, 11])


def test_a_late_loss_that_is_not_finite_names_its_own_update(monkeypatch: pytest.MonkeyPatch) -> None:
    events = iter([Event(2), Event(0), Event(0)])
    monkeypatch.setattr(losses, "_start_copy", lambda loss: (loss, next(events)))
    learner, _ = fake_learner()
    log = LossLog()
    for update, value in enumerate([float("nan"), 1.0, 1.0]):
        log.add(torch.tensor(value), update=update, learning_rate=0.1)
        if update < 2:
            assert list(log.arrived()) == []
    with pytest.raises(TrainingError, match=r"the loss is nan at update 0 \(epoch 0\)"):
        learner._watch(log.arrived())


def test_processes_that_read_clips(monkeypatch: pytest.MonkeyPatch) -> None:
    assert reading_processes(None, accelerator="cpu") == 0
    assert reading_processes(3, accelerator="cpu") == 3
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for cores, expected in ((2, 1), (8, 3), (64, 8)):
        monkeypatch.setattr("c3dvideo.training.clip_loaders.n_cores", lambda cores=cores: cores)
        assert reading_processes(None, accelerator="auto") == expected
