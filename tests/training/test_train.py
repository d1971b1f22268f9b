"""Training: sanity of the optimisation, resuming bit for bit, what a run leaves, fine-tuning, and what stops it."""

import csv
import json
import math
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from c3dvideo.datasets.examples import Dataset, Example
from c3dvideo.errors import DatasetError, TrainingError, UsageError, WeightsError
from c3dvideo.inference.engine import make_engine
from c3dvideo.network.c3d import C3D
from c3dvideo.training import learner
from c3dvideo.training import train as training
from c3dvideo.training.augment import Normalise, train_batch
from c3dvideo.training.clip_loaders import Clips
from c3dvideo.training.folding import folded
from c3dvideo.training.frames import load_frames
from c3dvideo.training.initial import initial_network, scratch_profile
from c3dvideo.training.optim import make_optimizer
from c3dvideo.training.run_folder import check_state, held, load_state, save_state
from c3dvideo.training.settings import TrainSettings, make_settings
from c3dvideo.weights.load import load_weights

TINY: dict[str, Any] = {
    "width": 0.06,
    "fc_width": 16,
    "crop_size": 32,
    "batch_size": 4,
    "epochs": 2,
    "validation_clips": 1,
    "test_clips": 2,
}


@pytest.fixture
def videos(tmp_path: Path, moving_square: Callable[..., Path]) -> Dataset:
    """Two classes of four short videos each, all with a split."""
    examples = []
    for number in range(8):
        label = "ab"[number % 2]
        moving_square(tmp_path / f"videos/{label}/{number}.mp4", n_frames=20, height=48, width=64, seed=number)
        examples.append(Example(f"{label}/{number}.mp4", label, "val" if number >= 6 else "train"))
    return Dataset(tuple(examples), ("a", "b"), root=tmp_path / "videos")


def random_batch(n: int, size: int = 32) -> torch.Tensor:
    height, width = round(size * 128 / 112), round(size * 171 / 112)
    return torch.randint(0, 256, (n, 16, 3, height, width), dtype=torch.uint8)


def loss_of(network: C3D, settings: TrainSettings, pixels: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    normalise = Normalise(1.0, torch.full((3, 1, 1, 1), 128.0), torch.full((3, 1, 1, 1), 64.0))
    inputs, targets = train_batch(
        pixels,
        labels,
        normalise,
        settings,
        n_classes=len(network.classes),
        crop=(settings.crop_size, 2, 8),
        generators=[torch.Generator().manual_seed(0)] * len(pixels),
    )
    return torch.nn.functional.cross_entropy(network(inputs), targets)


@torch.no_grad()
@pytest.mark.parametrize("preset", ["modern", "release"])
@pytest.mark.parametrize("n_classes", [2, 7, 101])
def test_first_loss_is_the_log_of_the_number_of_classes(preset: str, n_classes: int) -> None:
    settings = make_settings(preset, width=0.125, crop_size=32)
    network = initial_network(settings, [str(i) for i in range(n_classes)], None)
    labels = torch.randint(0, n_classes, (8,))
    assert float(loss_of(network, settings, random_batch(8), labels)) == pytest.approx(math.log(n_classes), abs=0.15)


def test_one_batch_is_learned_by_heart() -> None:
    settings = make_settings(
        width=0.1, crop_size=32, crops="centre", flip=False, colour=0, dropout=0, label_smoothing=0
    )
    network = initial_network(settings, ["a", "b", "c"], None).train()
    optimizer = make_optimizer(network, settings)
    pixels, labels = random_batch(6), torch.tensor([0, 1, 2, 0, 1, 2])
    for _ in range(25):
        loss = loss_of(network, settings, pixels, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.02


def test_folding_leaves_outputs_alone_and_no_trace() -> None:
    settings = make_settings(width=0.1, crop_size=32)
    network = initial_network(settings, ["a", "b", "c"], None)
    with torch.no_grad():
        for _ in range(3):
            network.train()(torch.randn(4, 3, 16, 32, 32) + 1)
    plain = folded(network)
    assert set(plain.state_dict()) == set(C3D(**network.architecture).state_dict())
    clips = torch.randn(2, 3, 16, 32, 32)
    with torch.no_grad():
        expected = network.eval().activations(clips, ["conv5b", "fc8"])
        for name, values in plain.activations(clips, ["conv5b", "fc8"]).items():
            assert torch.allclose(values, expected[name], rtol=1e-4, atol=1e-5)


def states(run: Path) -> dict[str, Any]:
    return torch.load(run / "checkpoints/last.ckpt", weights_only=True)


def assert_same(one: Any, other: Any) -> None:
    """Equal to the last bit, through dicts and lists; paths and clocks aside."""
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for left, right in zip(one, other, strict=True):
            assert_same(left, right)
    else:
        assert one == other


EVERYTHING: dict[str, Any] = {**TINY, "epochs": 3, "mixup": 0.5, "cutmix": 0.5, "batch_size": 2, "accumulate": 2}


@pytest.mark.parametrize("preset", ["modern", "release"])
def test_resumed_run_equals_one_that_never_stopped(
    tmp_path: Path, videos: Dataset, monkeypatch: pytest.MonkeyPatch, preset: str
) -> None:
    """Killed in the middle of the second epoch, it starts again at that epoch's beginning, and ends the same."""
    steps = {"steps": 8}  # three updates per epoch, so the last epoch has two
    settings = EVERYTHING if preset == "modern" else {**TINY, **steps, "batch_size": 2}
    training.train(videos, tmp_path / "whole", preset=preset, cache=tmp_path / "cache", **settings)
    whole_step, n_steps = learner.Learner.training_step, 0

    def killed(self: learner.Learner, batch: dict[str, Any], number: int) -> torch.Tensor:
        nonlocal n_steps
        n_steps += 1
        if n_steps == 5:
            raise RuntimeError("killed")
        return whole_step(self, batch, number)

    monkeypatch.setattr(learner.Learner, "training_step", killed)
    with pytest.raises(RuntimeError, match="killed"):
        training.train(videos, tmp_path / "cut", preset=preset, cache=tmp_path / "cache", **settings)
    monkeypatch.undo()
    torch.manual_seed(99)
    torch.rand(7)
    training.train(videos, tmp_path / "cut", preset=preset, cache=tmp_path / "cache", resume=True, **settings)
    whole, cut = states(tmp_path / "whole"), states(tmp_path / "cut")
    for part in ("state_dict", "optimizer_states", "lr_schedulers", "global_step", "epoch", "history"):
        assert_same(whole[part], cut[part])
    for file in ("log.csv", "metrics.json", "weights/model.safetensors"):
        assert (tmp_path / "whole" / file).read_bytes() == (tmp_path / "cut" / file).read_bytes()
    assert whole["global_step"] == (3 if preset == "modern" else 8)
    assert [row["updates"] for row in whole["history"]] == ([1, 2, 3] if preset == "modern" else [3, 6, 8])


def test_the_loader_of_a_resumed_run_starts_with_its_epoch(videos: Dataset) -> None:
    """Loader processes read ahead before Lightning sets the epoch, so the order has to be right from the start."""
    settings = make_settings(**TINY)
    frames = load_frames(videos, scratch_profile(settings))
    network = initial_network(settings, videos.classes, None)
    resumed = learner.Learner(network, settings, Clips(videos, frames, settings, workers=0))
    for finished, epoch in ((0, 0), (1, 1), (2, 1)):
        progress = SimpleNamespace(current=SimpleNamespace(processed=finished))
        loop = SimpleNamespace(epoch_progress=progress)
        resumed._trainer = SimpleNamespace(global_rank=0, world_size=1, fit_loop=loop)
        resumed.train_dataloader()
        assert resumed.batches is not None
        assert {draw.epoch for batch in resumed.batches for draw in batch} == {epoch}


def test_what_auto_chose_is_recorded_and_resumed(
    tmp_path: Path, videos: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    once = {**TINY, "epochs": 1}
    monkeypatch.setattr(training, "choose_precision", lambda wanted, accelerator: "fp32")
    training.train(videos, tmp_path / "run", **once)
    stored = json.loads((tmp_path / "run/recipe.json").read_text())["recipe"]
    assert stored["precision"] == "fp32"
    monkeypatch.setattr(training, "choose_precision", lambda wanted, accelerator: "bf16")
    training.train(videos, tmp_path / "run", resume=True, **once)
    with pytest.raises(UsageError, match="precision: fp32 -> bf16"):
        training.train(videos, tmp_path / "run", resume=True, precision="bf16", **once)


def test_the_same_seed_gives_the_same_run_and_another_another(tmp_path: Path, videos: Dataset) -> None:
    for name, seed in (("one", 0), ("two", 0), ("three", 1)):
        torch.manual_seed(hash(name) % 1000)
        training.train(videos, tmp_path / name, cache=tmp_path / "cache", seed=seed, **{**TINY, "epochs": 1})
    assert_same(states(tmp_path / "one")["state_dict"], states(tmp_path / "two")["state_dict"])
    first, other = (states(tmp_path / name)["state_dict"]["network.fc6.weight"] for name in ("one", "three"))
    assert not torch.equal(first, other)


def test_what_a_run_leaves(tmp_path: Path, videos: Dataset) -> None:
    result = training.train(videos, tmp_path / "run", **TINY)
    run = tmp_path / "run"
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics == result.metrics
    assert metrics["val"]["n_videos"] == 2 and metrics["training_videos"] == 6 and metrics["epochs"] == 2
    with (run / "log.csv").open() as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["0", "1"]
    for name in ("input_batch.png", "val_confusion.png", "val_confusion.csv", "val_classes.csv", "recipe.json"):
        assert (run / name).stat().st_size > 20
    assert list((run / "tensorboard").glob("events*"))
    network = load_weights(result.weights)
    assert network.classes == ("a", "b") and network.provenance["recipe"]["width"] == 0.06
    assert network.profile.crop_size == 32 and network.profile.mean != "volume"


def test_saved_weights_judge_as_the_run_says(tmp_path: Path, videos: Dataset) -> None:
    """The weights folder, read like any other and run by the engine on decoded clips, gives the run's accuracy."""
    from c3dvideo.video.clips import ClipPlan
    from c3dvideo.video.reader import read_clips

    result = training.train(videos, tmp_path / "run", preset="release", **{**TINY, "test_clips": 1})
    network = load_weights(result.weights)
    assert network.mean_volume is not None and network.mean_volume.shape == (3, 16, 37, 49)
    engine = make_engine(network, layers=["prob"])
    n_right = 0
    for example in videos.part("val").examples:
        plan = ClipPlan(stride_frames=2)  # the middle one of the starts 0, 2, 4 is the one clip of spread_starts
        clips = list(read_clips(videos.source(example), plan=plan, profile=network.profile, views=engine.views))
        scores = engine(clips[1].pixels)["prob"]
        n_right += network.classes[int(scores.argmax())] == example.label
    assert n_right / 2 == result.metrics["val"]["video_accuracy"]


def test_fine_tuning_copies_freezes_and_slows_lower_layers(tmp_path: Path, videos: Dataset) -> None:
    start = C3D(stages=((4,), (4,), (4, 4), (4, 4), (4, 4)), num_classes=5, fc_width=8, crop_size=32, filler="xavier")
    start.profile = replace(
        start.profile, mean=(90.0, 90.0, 90.0), resize_height=37, resize_width=49, crop_size=32, crop_top=2, crop_left=8
    )
    settings = {name: TINY[name] for name in ("batch_size", "validation_clips", "test_clips")}
    frozen = ("conv1a", "conv2a")
    result = training.train(videos, tmp_path / "run", init=start, epochs=1, freeze=frozen, **settings)
    tuned = load_weights(result.weights)
    assert tuned.architecture["num_classes"] == 2 and tuned.profile == start.profile
    assert torch.equal(tuned.conv2a.weight, start.conv2a.weight)
    assert not torch.equal(tuned.conv3a.weight, start.conv3a.weight)
    assert (tuned.conv3a.weight - start.conv3a.weight).abs().max() < 0.01

    normalised = training.train(
        videos, tmp_path / "bn", init=start, epochs=1, freeze=frozen, batch_norm=True, **settings
    )
    tuned = load_weights(normalised.weights)
    assert torch.equal(tuned.conv2a.weight, start.conv2a.weight) and tuned.profile == start.profile
    assert not torch.equal(tuned.conv3a.weight, start.conv3a.weight)

    tuning = make_settings("release", fine_tuning=True)
    assert (tuning.steps, tuning.learning_rate, tuning.lr_stages, tuning.weight_decay) == (20_000, 0.0001, 4, 0.0005)
    network = initial_network(tuning, ["a", "b"], start)
    assert torch.equal(network.conv5b.weight, start.conv5b.weight)
    assert not torch.equal(network.fc6.weight, start.fc6.weight)
    assert network.fc7.bias.eq(1).all()  # the release's filler

    optimizer = make_optimizer(tuned, make_settings(layer_decay=0.5, freeze=frozen))
    groups = {group["name"]: group["lr"] for group in optimizer.param_groups}
    assert groups["fc8.weight"] == 2 * groups["fc7.weight"] == 4 * groups["fc6.weight"]
    assert "conv1a.weight" not in groups and "conv3a.bias" in groups
    with pytest.raises(UsageError, match="`freeze=` names conv9z; the layers are conv1a, "):
        make_optimizer(tuned, make_settings(freeze=("conv9z",)))


def test_class_imbalance_in_the_loss_and_workers_without_a_cache(tmp_path: Path, videos: Dataset) -> None:
    examples = videos.examples[:1] + videos.examples[1::2] + videos.examples[6:7]
    unequal = Dataset(examples, videos.classes, root=videos.root)
    balanced = {**TINY, "epochs": 1, "balance": "loss"}
    result = training.train(unequal, tmp_path / "run", cache="none", workers=1, **balanced)
    assert result.metrics["training_videos"] == 4
    assert not (tmp_path / "run/frames").exists()


def test_early_stopping(tmp_path: Path, videos: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    result = training.train(videos, tmp_path / "run", **{**TINY, "epochs": 30, "patience": 2, "learning_rate": 1e-9})
    assert result.metrics["epochs"] <= 5


def test_a_loss_that_is_no_number_stops_with_the_rate_and_a_hint(tmp_path: Path, videos: Dataset) -> None:
    wild = {"learning_rate": 1e12, "epochs": 20, "optimizer": "sgd", "clip_gradient": 0.0, "batch_norm": False}
    with pytest.raises(TrainingError, match=r"the loss is (nan|inf) at update \d+ \(epoch \d+\)") as stop:
        training.train(videos, tmp_path / "run", **{**TINY, **wild, "warmup": 0.0})
    assert "`learning_rate=3e+11` or less (now 1e+12), or with `clip_gradient=5`" in str(stop.value)
    assert "last.ckpt" in str(stop.value)
    assert (tmp_path / "run/checkpoints/last.ckpt").exists()


def test_out_of_memory_names_the_batch_size_to_try(
    tmp_path: Path, videos: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: C3D, clips: torch.Tensor, dropout: Any) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    monkeypatch.setattr(learner, "fast_logits", full)
    with pytest.raises(
        TrainingError, match="batch of 4 clips does not fit in memory; try `batch_size=2` with `accumulate=2`"
    ):
        training.train(videos, tmp_path / "run", **TINY)


def test_a_run_is_resumed_only_as_itself(tmp_path: Path, videos: Dataset) -> None:
    run = tmp_path / "run"
    with pytest.raises(UsageError, match="holds no run to resume"):
        training.train(videos, run, resume=True, **TINY)
    training.train(videos, run, **{**TINY, "epochs": 1})
    with pytest.raises(UsageError, match="already holds a run; continue it with `resume=True`"):
        training.train(videos, run, **TINY)
    with pytest.raises(UsageError, match=r"other settings \(epochs: 1 -> 2\)"):
        training.train(videos, run, resume=True, **TINY)
    less = Dataset(videos.examples[1:], videos.classes, root=videos.root)
    with pytest.raises(UsageError, match="other data or another split"):
        training.train(less, run, resume=True, **{**TINY, "epochs": 1})
    wider = {**TINY, "epochs": 1, "width": 0.1}
    training.train(videos, tmp_path / "wider", **wider)
    (run / "checkpoints/last.ckpt").replace(tmp_path / "wider/checkpoints/last.ckpt")
    with pytest.raises(WeightsError, match=r"belongs to another architecture \(size mismatch for network\.conv1a"):
        training.train(videos, tmp_path / "wider", resume=True, **wider)


def test_a_damaged_checkpoint_is_one_error(tmp_path: Path, videos: Dataset) -> None:
    run = tmp_path / "run"
    once = {**TINY, "epochs": 1}
    training.train(videos, run, **once)
    last = run / "checkpoints/last.ckpt"
    whole = last.read_bytes()
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :]
    for damaged in (b"", b"no checkpoint", whole[:middle], flipped):
        last.write_bytes(damaged)
        with pytest.raises(TrainingError, match=r"last\.ckpt is not a checkpoint that can be continued: .*delete it"):
            training.train(videos, run, resume=True, **once)


def test_a_state_that_is_saved_is_loaded_and_a_damaged_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    save_state({"step": 3, "network": {"w": torch.ones(2)}}, path)
    check_state(path)
    assert load_state(path)["step"] == 3
    for content in (b"", b"\x80\x02}q\x00.", path.read_bytes()[:-30]):
        path.write_bytes(content)
        for read in (load_state, check_state):
            with pytest.raises(TrainingError, match=r"a\.pt is not a checkpoint that can be continued"):
                read(path)


def test_a_folder_in_which_another_process_trains_is_refused(tmp_path: Path, videos: Dataset) -> None:
    from filelock import FileLock

    (tmp_path / "run").mkdir()
    with (
        FileLock(tmp_path / "run/.lock"),
        pytest.raises(UsageError, match=r"another process is training in .*run; wait for it, or choose another `out=`"),
    ):
        training.train(videos, tmp_path / "run", **TINY)
    assert not (tmp_path / "run/recipe.json").exists()


def test_a_run_whose_folder_is_deleted_stops_and_can_be_started_again(tmp_path: Path, videos: Dataset) -> None:
    def delete(line: str) -> None:  # after the first epoch
        shutil.rmtree(tmp_path / "run")

    with pytest.raises(TrainingError, match=r"recipe\.json was deleted or moved during the run; start "):
        training.train(videos, tmp_path / "run", note=delete, **TINY)
    assert not (tmp_path / "run/checkpoints/last.ckpt").exists()
    assert training.train(videos, tmp_path / "run", **TINY).metrics["updates"] > 0


def test_what_a_killed_run_left_is_deleted_by_the_next(tmp_path: Path) -> None:
    for folder in ("", "checkpoints", "weights", "frames"):
        (tmp_path / "run" / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / "run" / folder / ".0123456789abcdef.tmp").write_bytes(b"half a file")
    with held(tmp_path / "run"):
        left = [path.relative_to(tmp_path / "run").as_posix() for path in (tmp_path / "run").rglob(".*.tmp")]
    assert left == ["frames/.0123456789abcdef.tmp"]  # other runs may share the cache


def test_a_run_of_an_older_version_is_resumed(tmp_path: Path, videos: Dataset) -> None:
    """Settings that it lacks are today's defaults, and its moving average had another name."""
    once = {**TINY, "epochs": 1}
    training.train(videos, tmp_path / "run", **once)
    stored = json.loads((tmp_path / "run/recipe.json").read_text())
    del stored["recipe"]["layer_decay"]
    (tmp_path / "run/recipe.json").write_text(json.dumps(stored))
    checkpoint = states(tmp_path / "run")
    state = checkpoint["state_dict"]
    del state["average.n_averaged"]
    for name in [name for name in state if name.startswith("average.module.")]:
        state[name.replace("average.module.", "average.")] = state.pop(name)
    torch.save(checkpoint, tmp_path / "run/checkpoints/last.ckpt")
    assert training.train(videos, tmp_path / "run", resume=True, **once).metrics["updates"] == 1
    (tmp_path / "run/recipe.json").write_text('{"recipe": ')
    with pytest.raises(UsageError, match=r"recipe\.json, line 1, is not the settings of a run: it is not JSON"):
        training.train(videos, tmp_path / "run", resume=True, **once)


def test_sources_on_both_sides_are_refused_or_counted(tmp_path: Path, videos: Dataset) -> None:
    grouped = tuple(replace(example, group=f"g{number % 6}") for number, example in enumerate(videos.examples))
    leaking = replace(videos, examples=grouped)
    with pytest.raises(DatasetError, match="2 source videos are in train and in val or test, such as 'g0'"):
        training.train(leaking, tmp_path / "run", **TINY)
    assert not (tmp_path / "run").exists()
    notes: list[str] = []
    once = {**TINY, "epochs": 1, "allow_leaks": True}
    result = training.train(leaking, tmp_path / "run", note=notes.append, **once)
    assert result.metrics["leaking_sources"] == 2
    assert notes[0].startswith("warning: 2 source videos are in training and in validation or testing")
    assert notes[1].startswith("epoch 1/1: 1 updates, training loss ") and len(notes) == 2
    with pytest.warns(UserWarning, match="2 source videos are in training"):
        training.train(leaking, tmp_path / "run", resume=True, **once)


def test_videos_that_cannot_be_read_are_left_out_and_named(tmp_path: Path, videos: Dataset) -> None:
    (videos.root / "a/0.mp4").write_bytes(b"broken")
    result = training.train(videos, tmp_path / "run", **{**TINY, "epochs": 1})
    assert list(result.metrics["unreadable"]) == ["a/0.mp4"] and result.metrics["training_videos"] == 5
    for example in videos.examples:
        videos.source(example).write_bytes(b"broken")
    with pytest.raises(DatasetError, match="none of the 8 videos can be read"):
        training.train(videos, tmp_path / "none", **TINY)


def test_settings_that_make_no_sense(tmp_path: Path, videos: Dataset) -> None:
    with pytest.raises(UsageError, match="`preset=` is 'best'; expected modern or release"):
        make_settings("best")
    with pytest.raises(UsageError, match="there is no training setting lerning_rate; expected one of preset, seed, "):
        make_settings(lerning_rate=1)
    with pytest.raises(UsageError, match="`batch_size=` is 0; expected more than 0"):
        make_settings(batch_size=0)
    with pytest.raises(UsageError, match="`dropout=` is 1; expected from 0 to below 1"):
        make_settings(dropout=1)
    with pytest.raises(UsageError, match=r"`crop_area=` is \(0\.5, 2\)"):
        make_settings(crop_area=(0.5, 2))
    with pytest.raises(UsageError, match="`crop_size=`, `width=` cannot be chosen with `init=`"):
        make_settings(fine_tuning=True, width=0.5, crop_size=56)
    with pytest.raises(UsageError, match="give those as `init=`"):
        make_settings(copy_layers="conv")
    with pytest.raises(UsageError, match="`init=` names no weights"):
        make_settings(mean="weights")
    assert make_settings("release").steps == 60_000 and make_settings("release", epochs=3).steps is None
    with pytest.raises(DatasetError, match="no training video has the 64 frames of one clip"):
        training.train(videos, tmp_path / "run", preset="release", sampling_rate=4, **TINY)


def test_validation_is_held_out_by_group_or_refused(tmp_path: Path, videos: Dataset) -> None:
    from c3dvideo.datasets.splits import with_validation

    names = [f"{c}/v_{c}_g{g:02d}_c{k:02d}.mp4" for c in "ab" for g in range(5) for k in range(3)]
    unsplit = Dataset(tuple(Example(name, name[0]) for name in names), ("a", "b"))
    with pytest.raises(DatasetError, match="come from one source video"):
        with_validation(unsplit, 0.2)
    grouped = Dataset(tuple(Example(e.path, e.label, group=e.path[7:9]) for e in unsplit.examples), ("a", "b"))
    split = with_validation(grouped, 0.2)
    assert split.part("val").counts() == {"a": 3, "b": 3}
    tested = Dataset((*split.part("train").examples, Example("t.mp4", "a", "test", "t")), ("a", "b"))
    assert {e.split for e in with_validation(tested, 0.25).examples} == {"train", "val", "test"}
    listed = tuple(Example(f"{i}.mp4", "ab"[i % 2], start_frame=start) for i in range(8) for start in (0, 16))
    clips = Dataset(listed, ("a", "b"))
    sides = {(e.path, e.split) for e in with_validation(clips, 0.25).examples}
    assert len(sides) == 8
    with pytest.raises(DatasetError, match="has no split, but others have train"):
        with_validation(Dataset((Example("x", "a"), Example("y", "a", "train")), ("a",)), 0.2)
    assert np.isfinite(split.targets()).all()


def test_two_processes_train_one_network(tmp_path: Path, videos: Dataset) -> None:
    """What several GPUs do, with two CPU processes: half of every batch each, one result."""
    program = tmp_path / "program.py"
    program.write_text(
        "from c3dvideo.training.train import train\n"
        "if __name__ == '__main__':\n"
        f"    settings = { ({**TINY, 'steps': 2, 'batch_size': 2})!r}\n"
        f"    train({str(tmp_path / 'labels.csv')!r}, {str(tmp_path / 'run')!r}, accelerator='cpu', devices=2,"
        " strategy='ddp', cache='none', **settings)\n"
    )
    rows = [f"videos/{example.path},{example.label},{example.split}" for example in videos.examples[:7]]
    (tmp_path / "labels.csv").write_text("\n".join(["path,label,split", *rows]) + "\n")
    subprocess.run([sys.executable, program], check=True, timeout=240, capture_output=True)
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    assert metrics["updates"] == 2 and metrics["val"]["n_videos"] == 1
