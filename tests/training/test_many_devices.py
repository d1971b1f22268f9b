"""Training on several devices, with two CPU processes: the curve of one, every clip once, resumed on another number."""

import csv
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from c3dvideo.errors import UsageError
from c3dvideo.training import launch, sampling
from c3dvideo.training import train as training
from c3dvideo.training.settings import make_settings
from c3dvideo.training.shared_norm import SharedBatchNorm, share_batch_norms

EPOCHS, N_TRAINED = 3, 12
SETTINGS: dict[str, Any] = {
    **{"width": 0.06, "fc_width": 16, "crop_size": 32, "epochs": EPOCHS, "validation_clips": 2, "test_clips": 1},
    **{"optimizer": "sgd", "learning_rate": 0.003},
    **{"mixup": 0.5, "cutmix": 0.5, "colour": 0.3, "dropout": 0.5, "batch_norm": True, "precision": "fp32", "ema": 0.9},
}
TOLERANCE = 2e-5
"""Largest difference of a loss between one process and two, which sum the gradients in another order."""

PROGRAM = """
import json, os, pathlib, sys
from c3dvideo.training import learner, sampling
from c3dvideo.training.train import train

class Stopped(BaseException):
    pass

out, stop_epoch, options = pathlib.Path(sys.argv[2]), int(sys.argv[3]), json.loads(sys.argv[4])
read, step = sampling.ClipSamples.__getitem__, learner.Learner.training_step

def recorded(self, draw):
    if draw.position >= 0 and draw.example < {n_trained}:
        with open(f"{{sys.argv[2]}}.rank{{os.environ.get('RANK', 0)}}", "a") as file:
            file.write(f"{{draw.epoch}} {{draw.example}}\\n")
    return read(self, draw)

def stopping(self, batch, number):
    if self.current_epoch == stop_epoch:
        raise RuntimeError("stopped here")
    return step(self, batch, number)

sampling.ClipSamples.__getitem__ = recorded
learner.Learner.training_step = stopping
train(sys.argv[1], out, accelerator="cpu", cache=out.parent / "cache", **options)
"""

DIVERGING = """
import json, os, pathlib, sys
from c3dvideo.errors import TrainingError
from c3dvideo.training import losses
from c3dvideo.training.train import train

class Event:
    def __init__(self):
        self.questions = 100 * int(os.environ["RANK"])

    def query(self):
        self.questions -= 1
        return self.questions < 0

    def synchronize(self):
        pass

losses._start_copy, losses.BATCHES_LATE = lambda loss: (loss, Event()), 1
out = pathlib.Path(sys.argv[2])
try:
    train(sys.argv[1], out, accelerator="cpu", cache=out.parent / "cache", **json.loads(sys.argv[3]))
except TrainingError as error:
    out.with_name(f"stopped{os.environ['RANK']}").write_text(str(error))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, moving_square: Callable[..., Path]) -> Path:
    """A list of twelve short videos to train on and three to validate, and the frames of all of them."""
    root = tmp_path_factory.mktemp("many_devices")
    rows = ["path,label,split"]
    for number in range(N_TRAINED + 3):
        moving_square(root / f"{number}.mp4", n_frames=20, height=48, width=64, seed=number)
        rows.append(f"{number}.mp4,{'ab'[number % 2]},{'val' if number >= N_TRAINED else 'train'}")
    (root / "labels.csv").write_text("\n".join(rows) + "\n")
    (root / "program.py").write_text(PROGRAM.format(n_trained=N_TRAINED))
    (root / "diverging.py").write_text(DIVERGING)
    return root


def history(run: Path) -> list[dict[str, float]]:
    with (run / "log.csv").open() as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def alone(folder: Path) -> list[dict[str, float]]:
    """The history of one process with batches of four clips."""
    training.train(
        folder / "labels.csv", folder / "alone", accelerator="cpu", cache=folder / "cache", batch_size=4, **SETTINGS
    )
    return history(folder / "alone")


def assert_same_curve(found: list[dict[str, float]], expected: list[dict[str, float]]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one["updates"] == other["updates"]
        assert one["learning_rate"] == other["learning_rate"]
        for name in ("train_loss", "val_loss"):
            assert one[name] == pytest.approx(other[name], abs=TOLERANCE), (name, one, other)


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}


def test_two_processes_train_as_one_and_their_run_is_resumed_by_one(
    folder: Path, alone: list[dict[str, float]]
) -> None:
    """Under torchrun, stopped in the last epoch; one process then resumes it. No clip is read twice or left out."""
    options = json.dumps({**SETTINGS, "batch_size": 2})
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    given = [folder / "program.py", folder / "labels.csv", folder / "two", str(EPOCHS - 1), options]
    done = subprocess.run(
        [*torchrun, *given], env=environment(), capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode != 0 and "stopped here" in done.stderr, done.stderr
    assert_same_curve(history(folder / "two"), alone[: EPOCHS - 1])
    read = [(folder / f"two.rank{rank}").read_text().splitlines() for rank in (0, 1)]
    for epoch in range(EPOCHS - 1):
        shares = [[line.split()[1] for line in lines if line.startswith(f"{epoch} ")] for lines in read]
        assert [len(share) for share in shares] == [6, 6]
        assert Counter(shares[0] + shares[1]) == Counter(str(number) for number in range(N_TRAINED))

    training.train(
        *(folder / "labels.csv", folder / "two"),
        **{"resume": True, "accelerator": "cpu", "cache": folder / "cache", "batch_size": 2},
        **SETTINGS,
    )
    assert_same_curve(history(folder / "two"), alone)


def test_all_processes_stop_for_the_same_loss(folder: Path) -> None:
    """The device of one process is far behind: its losses arrive after those of the other, and both stop together."""
    options = {**SETTINGS, "batch_size": 2, "learning_rate": 1e30, "epochs": 1}
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    given = [folder / "diverging.py", folder / "labels.csv", folder / "diverged", json.dumps(options)]
    done = subprocess.run(
        [*torchrun, *given], env=environment(), capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    stopped = [(folder / f"stopped{rank}").read_text() for rank in (0, 1)]
    assert stopped[0] == stopped[1]
    assert stopped[0].startswith(("the loss is nan at update 1 ", "the loss is inf at update 1 "))


def test_the_run_of_one_process_is_resumed_by_two(
    folder: Path, alone: list[dict[str, float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lightning starts the second process itself, from `c3dvideo train --devices 2`."""
    step = training.Learner.training_step

    def stopping(self: training.Learner, batch: dict[str, Any], number: int) -> torch.Tensor:
        if self.current_epoch == 1:
            raise RuntimeError("stopped here")
        return step(self, batch, number)

    monkeypatch.setattr(training.Learner, "training_step", stopping)
    with pytest.raises(RuntimeError, match="stopped here"):
        training.train(
            *(folder / "labels.csv", folder / "one"),
            **{"accelerator": "cpu", "cache": folder / "cache", "batch_size": 4},
            **SETTINGS,
        )
    options = [f"--{name.replace('_', '-')}={value}" for name, value in SETTINGS.items() if name != "batch_norm"]
    machine = ["--accelerator", "cpu", "--devices", "2", "--batch-size", "4", "--cache", folder / "cache", "--resume"]
    command = [sys.executable, "-m", "c3dvideo", "train", folder / "labels.csv", "--out", folder / "one"]
    done = subprocess.run(
        [*command, *machine, *options], env=environment(), capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("weights in ") == 1  # the second process prints nothing
    assert_same_curve(history(folder / "one"), alone)


def test_a_batch_that_the_devices_cannot_share_is_refused(
    folder: Path, alone: list[dict[str, float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = launch.Launch("cpu", 3, 1, "ddp", 0, 3)
    monkeypatch.setattr(training, "find_launch", lambda **_: other)
    with pytest.raises(UsageError, match=r"batches of 4 clips .* which 3 devices cannot share"):
        training.train(folder / "labels.csv", folder / "alone", resume=True, batch_size=4, **SETTINGS)


def test_the_environment_of_a_launcher_gives_the_number_of_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    from lightning.pytorch.utilities import rank_zero_only

    monkeypatch.setattr(rank_zero_only, "rank", 0)  # Lightning sets it for the whole process
    chosen = {"accelerator": "cpu", "n_nodes": 1, "strategy": "auto"}
    assert launch.find_launch(devices="auto", **chosen).world == 1
    for name, value in {"RANK": 5, "LOCAL_RANK": 1, "WORLD_SIZE": 8, "LOCAL_WORLD_SIZE": 4, "GROUP_RANK": 1}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "a")
    found = launch.find_launch(devices="auto", **chosen)
    assert (found.rank, found.world, found.devices, found.n_nodes, found.first) == (5, 8, 4, 2, False)
    with pytest.raises(UsageError, match="are 3 processes, but the launcher has started 8"):
        launch.find_launch(devices=3, **chosen)


def test_the_last_small_batch_is_shared_by_all_processes() -> None:
    """Eleven clips, two processes with batches of eight: six and five, each clip once."""
    settings = make_settings(batch_size=8)
    shares = []
    for rank in range(2):
        batches = sampling.TrainingBatches([(i, None) for i in range(11)], settings, rank=rank, world=2)
        ((*drawn,),) = list(batches)
        shares.append([draw.example for draw in drawn])
    assert sorted(len(share) for share in shares) == [5, 6]
    assert sorted(shares[0] + shares[1]) == list(range(11))


@pytest.fixture
def one_process(tmp_path: Path) -> Any:
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'group'}", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("shape", [(5, 4, 2, 3, 3), (6, 4)])
def test_shared_normalisation_of_one_process_is_the_plain_one(one_process: None, shape: tuple[int, ...]) -> None:
    plain = torch.nn.Sequential(torch.nn.BatchNorm3d(4) if len(shape) > 2 else torch.nn.BatchNorm1d(4))
    shared = torch.nn.Sequential(type(plain[0])(4))
    torch.nn.init.normal_(plain[0].weight)
    shared.load_state_dict(plain.state_dict())
    share_batch_norms(shared, torch.device("cpu"))
    assert isinstance(shared[0], SharedBatchNorm)
    for _ in range(3):
        values = (torch.randn(shape) * 3 + 40).requires_grad_()
        same = values.detach().clone().requires_grad_()
        expected, found = plain(values), shared(same)
        assert torch.allclose(found, expected, atol=1e-5)
        weights = torch.randn_like(expected)
        (expected * weights).sum().backward()
        (found * weights).sum().backward()
        assert torch.allclose(same.grad, values.grad, atol=1e-5)
    for name, value in plain.state_dict().items():
        assert torch.allclose(shared.state_dict()[name], value, rtol=1e-5), name
    assert torch.allclose(shared.eval()(values), plain.eval()(values))
