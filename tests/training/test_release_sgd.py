"""The release preset against traces of the authors' own program, and against a committed trace of ours."""

import copy
import hashlib
import tarfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from c3dvideo.datasets.examples import Dataset, Example
from c3dvideo.network.c3d import C3D
from c3dvideo.training import clip_loaders, learner
from c3dvideo.training.augment import Normalise, fixed_crop
from c3dvideo.training.clip_loaders import Clips
from c3dvideo.training.learner import Learner
from c3dvideo.training.lightning_trainer import fit
from c3dvideo.training.optim import CaffeSGD, make_optimizer, step_factor
from c3dvideo.training.run_folder import SETTINGS_FILE
from c3dvideo.training.sampling import TrainingBatches, mean_volume, release_draws
from c3dvideo.training.settings import make_settings
from c3dvideo.video.preprocess import CAFFE, Profile, resize_frame

GOLDEN = Path(__file__).parents[1] / "golden" / "release_sgd.npz"
LAYERS = ("conv1a", "conv2a", "conv3a", "conv3b", "conv4a", "conv4b", "conv5a", "conv5b", "fc6", "fc7", "fc8")
SEED_OF_JITTER = 20150712


def start_network() -> C3D:
    """The network that the recorded runs start from: seeded Gaussian weights, biases 0 or 1."""
    network = C3D(num_classes=10, stages=((8,), (16,), (32, 32), (64, 64), (64, 64)), fc_width=128, dropout=0.0)
    generator = np.random.default_rng(20150713)
    for name, layer in network.named_layers():
        std = 0.01 if name == "conv1a" else 0.03 if name.startswith("conv") else 0.02
        weight = generator.standard_normal(tuple(layer.weight.shape), dtype=np.float32) * np.float32(std)
        layer.weight.data.copy_(torch.from_numpy(weight))
        torch.nn.init.constant_(layer.bias, 0.0 if name in ("conv1a", "fc8") else 1.0)
    return network


class Decoded:
    """Frames in memory, uint8 (n, T, 3, H, W)."""

    problems: ClassVar[dict[str, str]] = {}

    def __init__(self, clips: np.ndarray) -> None:
        self.clips = clips
        self.n_frames = np.full(len(clips), clips.shape[1])

    def clip(self, example: int, indices: np.ndarray) -> np.ndarray:
        return self.clips[example][indices]


class InListOrder(TrainingBatches):
    """Clips in the order of their list, as the recorded runs read them."""

    def _order(self) -> np.ndarray:
        return np.arange(len(self.draws))


@dataclass
class Recorder:
    """Runs `fit`, the function that `train` calls, and keeps the losses and the weights after some update."""

    out: Path
    monkeypatch: pytest.MonkeyPatch
    losses: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)

    def train(
        self,
        network: C3D,
        clips: np.ndarray,
        labels: np.ndarray,
        *,
        n_updates: int,
        stepsize: int | None,
        **changes: Any,
    ) -> C3D:
        """The network after `n_updates` updates of the release preset on clips in the order of the list."""
        stepsize = stepsize or n_updates + 1  # the last update of a stage has the rate of the next one
        stages = -(-(n_updates + 1) // stepsize)
        settings = make_settings(
            "release", weight_decay=0.0005, steps=stages * stepsize, lr_stages=stages, validation_clips=1, **changes
        )
        self.monkeypatch.setattr(clip_loaders, "TrainingBatches", InListOrder)
        splits = ["train"] * len(clips) + ["val"]
        names = tuple(str(number) for number in range(network.architecture["num_classes"]))
        listed = zip([*labels.tolist(), int(labels[0])], splits, strict=True)
        examples = tuple(Example(f"{n}.mp4", names[label], split) for n, (label, split) in enumerate(listed))
        network.classes = names
        frames: Any = Decoded(np.concatenate([clips, clips[:1]]))
        trained = Learner(network, settings, Clips(Dataset(examples, names), frames, settings, workers=0))
        after: list[C3D] = []
        step = Learner.optimizer_step

        def record(self: Learner, *arguments: Any, **options: Any) -> None:
            rates.append(self.trainer.optimizers[0].param_groups[0]["lr"])
            step(self, *arguments, **options)
            losses.append(self.losses.values[-1])
            if len(losses) == n_updates:
                after.append(copy.deepcopy(self.network))

        losses, rates = self.losses, self.rates
        self.monkeypatch.setattr(Learner, "optimizer_step", record)
        self.out.mkdir(parents=True, exist_ok=True)
        (self.out / SETTINGS_FILE).write_text("{}")  # as `train` does before it calls `fit`
        fit(trained, self.out, accelerator="cpu")
        assert trained.history[-1]["updates"] == len(losses) == settings.steps
        del losses[n_updates:], rates[n_updates:]
        return after[0]


@pytest.fixture
def recorder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recorder:
    return Recorder(tmp_path / "run", monkeypatch)


def errors_of_change(network: C3D, start: C3D, trace: Any, prefix: str) -> list[float]:
    """Relative L2 error of every array's change against the recorded one, over its recorded elements."""
    errors = []
    for name in LAYERS:
        for kind in ("weight", "bias"):
            before, after = (net.get_parameter(f"{name}.{kind}").detach().numpy().ravel() for net in (start, network))
            chosen = np.linspace(0, before.size - 1, min(before.size, 1024)).astype(np.int64)
            own = f"{prefix}/{name}.{kind}"
            expected = trace[own if own in trace else recorded(prefix, name, kind)] - before[chosen]
            errors.append(float(np.linalg.norm(after[chosen] - before[chosen] - expected) / np.linalg.norm(expected)))
    return errors


def recorded(prefix: str, name: str, kind: str) -> str:
    caffe = f"{name}-1" if name.startswith("fc") else name
    return f"{prefix}/{caffe}.{kind}[linspace1024]"


def test_learning_rate_is_inside_the_velocity_and_counted_from_one() -> None:
    weight = torch.nn.Parameter(torch.tensor([1.0]))
    optimizer = CaffeSGD([weight], lr=0.1, momentum=0.9, weight_decay=0.5)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda update: step_factor(update, stepsize=2))
    velocity, value = 0.0, 1.0
    for rate in (0.1, 0.01, 0.01, 0.001):  # the 2nd update is the first with a tenth
        assert optimizer.param_groups[0]["lr"] == pytest.approx(rate)
        weight.grad = torch.tensor([2.0])
        optimizer.step()
        schedule.step()
        velocity = 0.9 * velocity + rate * (2.0 + 0.5 * value)
        value -= velocity
        assert weight.item() == pytest.approx(value, rel=1e-4)


def test_biases_learn_twice_as_fast_and_do_not_decay() -> None:
    network = C3D(num_classes=3, stages=((2,), (2,), (2,), (2,), (2,)), fc_width=4)
    groups = make_optimizer(network, make_settings("release")).param_groups
    assert {(g["name"].split(".")[1], g["lr"], g["weight_decay"]) for g in groups} == {
        ("weight", 0.003, 0.005),
        ("bias", 0.006, 0.0),
    }


def test_the_release_never_draws_the_last_offsets() -> None:
    draws = np.concatenate([release_draws(7, batch, 30) for batch in range(300)])
    assert draws.min(axis=0).tolist() == [0, 0, 0] and draws.max(axis=0).tolist() == [15, 58, 1]
    assert (release_draws(7, 5, 30) == draws[150:180]).all()


def test_mean_is_taken_off_before_the_mirror() -> None:
    mean = torch.arange(171.0).expand(3, 1, 128, 171)
    normalise = Normalise(1.0, mean, torch.ones(3, 1, 1, 1))
    clips = mean.expand(1, 3, 2, 128, 171).clone()
    assert fixed_crop(normalise(clips), np.array([[15, 58, 1]]), 112).abs().max() == 0


def test_mean_volume_counts_every_tenth_clip_but_the_first() -> None:
    clips = np.random.default_rng(0).integers(0, 256, (21, 2, 3, 4, 5), dtype=np.uint8)
    expected = (clips[10].astype(np.float32) + clips[20].astype(np.float32)) / np.float32(2)
    assert (mean_volume(iter(clips)) == expected.transpose(1, 0, 2, 3)).all()
    assert (mean_volume(iter(clips[:5])) == clips[0].transpose(1, 0, 2, 3)).all()


def generated_batches() -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = np.random.default_rng(3)
    return [
        (
            torch.from_numpy(generator.standard_normal((3, 3, 16, 32, 32), dtype=np.float32) * np.float32(50)),
            torch.from_numpy(generator.integers(0, 5, 3)),
        )
        for _ in range(8)
    ]


def golden_network() -> C3D:
    network = C3D(num_classes=5, stages=((4,), (4,), (8, 8), (8, 8), (8, 8)), fc_width=16, dropout=0.0, crop_size=32)
    generator = np.random.default_rng(4)
    for _, layer in network.named_layers():
        scale = np.float32(np.sqrt(2 / layer.weight[0].numel()))
        weight = generator.standard_normal(tuple(layer.weight.shape), dtype=np.float32) * scale
        layer.weight.data.copy_(torch.from_numpy(weight))
        torch.nn.init.constant_(layer.bias, 0.1)
    return network


def test_golden_trace(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Losses and weights of eight updates on generated clips, as a float64 program of plain numpy rules found them."""
    golden = np.load(GOLDEN)
    batches = generated_batches()

    def generated_input(
        pixels: torch.Tensor, labels: torch.Tensor, *_: Any, **options: Any
    ) -> tuple[torch.Tensor, ...]:
        inputs, expected = batches[int(pixels[0, 0, 0, 0, 0]) // 3]
        assert labels.tolist() == expected.tolist()
        return inputs, torch.nn.functional.one_hot(labels, 5).float()

    monkeypatch.setattr(learner, "train_batch", generated_input)  # its numbers are no pixels
    numbered = np.broadcast_to(np.arange(24, dtype=np.uint8)[:, None, None, None, None], (24, 16, 3, 37, 49))
    labels = torch.cat([labels for _, labels in batches]).numpy()
    start = golden_network()
    start.profile = replace(CAFFE, resize_height=37, resize_width=49, crop_size=32, crop_top=None, crop_left=None)
    after = recorder.train(start, numbered, labels, n_updates=8, stepsize=3, batch_size=3, learning_rate=1e-4)
    assert recorder.rates == pytest.approx([1e-4] * 2 + [1e-5] * 3 + [1e-6] * 3)
    assert np.abs(recorder.losses - golden["loss"]).max() < 1e-4
    errors = errors_of_change(after, golden_network(), golden, "weights")
    assert np.median(errors) < 0.01 and max(errors) < 0.05


@pytest.fixture
def clips_of_trace(reference: Path) -> tuple[list[list[np.ndarray]], np.ndarray]:
    """All 12 clips of the recorded training list, uint8 (12, 16, H, W, 3) B,G,R at full size, and their labels."""
    from c3dvideo.video.decode import open_video

    homes = {"avi": reference / "data/ucf101", "mp4": reference / "oracle"}
    clips, labels, decoded = [], [], {}
    for line in (reference / "oracle/lists/train.lst").read_text().splitlines():
        path, start, label = line.split()
        source = homes[path.split("/")[1]] / Path(path).name
        if source not in decoded:
            with open_video(source) as video:
                decoded[source] = [frame.pixels for frame in video.frames()]
        clips.append(decoded[source][int(start) : int(start) + 16])
        labels.append(int(label))
    return clips, np.array(labels)


def resized(clips: list[list[np.ndarray]], profile: Profile) -> np.ndarray:
    frames = [[resize_frame(frame, profile) for frame in clip] for clip in clips]
    return np.array(frames)


@pytest.mark.oracle
@pytest.mark.parametrize(("run", "stepsize"), [("fixed_lo", None), ("step_lo", 4), ("jitter_lo", None)])
def test_recorded_runs_of_the_authors_program(
    reference: Path,
    clips_of_trace: tuple[list[list[np.ndarray]], np.ndarray],
    recorder: Recorder,
    run: str,
    stepsize: int | None,
) -> None:
    clips, labels = clips_of_trace
    trace = np.load(reference / "oracle/training.npz")
    mean, crops = oracle_mean(), "release"
    profile = replace(CAFFE, crop_top=None, crop_left=None)
    if run != "jitter_lo":  # these runs resized to the crop, and took the middle of the mean
        profile, crops = replace(profile, resize_height=112, resize_width=112), "centre"
        mean = mean[:, :, 8:120, 29:141].copy()
    network = start_network()
    network.profile, network.mean_volume = profile, mean
    settings = {"crops": crops, "flip": run == "jitter_lo", "seed": SEED_OF_JITTER, "learning_rate": 0.0003}
    after = recorder.train(
        network, resized(clips, profile), labels, n_updates=10, stepsize=stepsize, batch_size=4, **settings
    )
    assert np.abs(recorder.losses - trace[f"{run}/loss"]).max() < 1e-4
    errors = errors_of_change(after, start_network(), trace, f"{run}/iter10")
    assert np.median(errors) <= 0.02


def oracle_mean() -> np.ndarray:
    """The mean volume of the recorded runs, (3, 16, 128, 171): waves in multiples of 1/64."""
    c, t, h, w = np.ogrid[:3, :16, :128, :171]
    turn = 2 * np.pi
    base = np.array([100.6, 108.05, 107.8]).reshape(3, 1, 1, 1)
    value = (
        base
        + 9.0 * np.sin(turn * (1.0 * h / 128 + 0.13 * c))
        + 7.0 * np.sin(turn * (2.0 * w / 171 + 0.29 * c))
        + 3.0 * np.sin(turn * (7.0 * h / 128 + 5.0 * w / 171 + 0.41 * c))
        + 4.0 * np.cos(turn * (1.0 * t / 16 + 0.11 * c))
    )
    return (np.round(value * 64.0) / 64.0).astype(np.float32)


@pytest.mark.oracle
def test_mean_volumes_of_the_authors_tool_bit_for_bit(reference: Path, tmp_path: Path) -> None:
    """List files read, frames decoded and cached, clips averaged: the bytes are those of the release's tool."""
    from c3dvideo.datasets.layouts import read_list
    from c3dvideo.training.frames import load_frames

    recorded_means = np.load(reference / "oracle/mean_tool.npz")
    (tmp_path / "input/frm").mkdir(parents=True)
    (tmp_path / "input/avi").symlink_to(reference / "data/ucf101")
    (tmp_path / "input/mp4").symlink_to(reference / "oracle")
    for archive in (reference / "data/ucf101").glob("*.tar.gz"):
        with tarfile.open(archive) as packed:
            packed.extractall(tmp_path / "input/frm", filter="data")
    for name, listed, every in (
        ("mean_frm_d1", "frm_s16", 1),
        ("mean_frm_d3", "frm_s16", 3),
        ("mean_vid_d5", "video_s16", 5),
    ):
        dataset = read_list(reference / f"oracle/lists/{listed}.lst", root=tmp_path)
        assert not dataset.missing
        frames = load_frames(dataset, CAFFE, cache=tmp_path / "cache")
        starts = [example.start_frame or 0 for example in dataset.examples]
        clips = (frames.clip(number, start + np.arange(16)) for number, start in enumerate(starts))
        mean = mean_volume(clips, every=every)
        assert hashlib.sha256(mean.tobytes()).hexdigest() == str(recorded_means[f"{name}/sha256"])
