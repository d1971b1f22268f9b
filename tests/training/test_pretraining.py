"""Pre-training on generated clips: closed-form layers, gradient steps, resuming, and what the package ships."""

import dataclasses
from pathlib import Path

import pytest
import torch

from c3dvideo import C3D
from c3dvideo.choices import FrameOrder
from c3dvideo.errors import UsageError
from c3dvideo.probing.readout import decode_labels
from c3dvideo.synthetic import MOTION_TASKS
from c3dvideo.synthetic.figures import PARTS
from c3dvideo.synthetic.maps import MOVES
from c3dvideo.training.folding import with_batch_norm
from c3dvideo.training.pretraining import gradients
from c3dvideo.training.pretraining.batches import ALL_TASKS, BLOCK, NO_TARGET, Batch, batches, draw_any
from c3dvideo.training.pretraining.gradients import steps_of_stills
from c3dvideo.training.pretraining.objectives import Heads
from c3dvideo.training.pretraining.pretraining_run import pretrain
from c3dvideo.training.pretraining.pretraining_settings import PretrainSettings
from c3dvideo.training.pretraining.views import random_view
from c3dvideo.training.pretraining.whitening import fit_convolutions, gather_layer, sample_patches, whitened_units
from c3dvideo.weights.load import load_weights

TINY = PretrainSettings(
    stages=((4,), (4,), (4,), (4,), (4,)),
    fc_width=8,
    filter_clips=4,
    fc_clips=8,
    everyday_clips=2,
    n_directions=4,
    batch_size=2,
    crop=32,
    precision="fp32",
)


def weights_of(network: C3D) -> dict[str, torch.Tensor]:
    return {name: array.clone() for name, array in network.state_dict().items()}


def test_whitened_units_have_unit_variance_and_are_active_half_of_the_time() -> None:
    spread = torch.tensor([3.0, 2.5, 2.0, 1.5, 1.2, 1.0])
    samples = torch.randn(5000, 6) * spread + 7
    weight, bias = whitened_units(samples, 4, torch.Generator().manual_seed(0))
    outputs = samples @ weight.T + bias
    assert outputs.std(0).allclose(torch.ones(4), atol=1e-3)
    assert (outputs > 0).float().mean(0).allclose(torch.full((4,), 0.5), atol=1e-3)
    correlation = torch.corrcoef(outputs.T) - torch.eye(4)
    assert correlation.abs().max() < 0.35, "whitened directions are nearly uncorrelated"


def test_more_units_than_directions_is_an_overcomplete_code() -> None:
    weight, _ = whitened_units(torch.randn(50, 6), 20, torch.Generator().manual_seed(0), n_directions=3)
    assert weight.shape == (20, 6)
    assert torch.linalg.matrix_rank(weight) == 3


def test_sampled_patches_are_what_a_convolution_sees() -> None:
    inputs = torch.randn(2, 3, 4, 5, 6)
    patches = sample_patches(inputs, (3, 3, 3), 40, torch.Generator().manual_seed(0))
    kernel = torch.randn(1, 3, 3, 3, 3)
    everywhere = torch.nn.functional.conv3d(inputs, kernel, padding=1).flatten()
    sampled = patches @ kernel.permute(0, 2, 3, 4, 1).flatten()
    assert (sampled[:, None] - everywhere).abs().min(dim=1).values.max() < 1e-4


def test_gathered_units_are_means_of_neighbours_with_unit_spread() -> None:
    inputs = torch.rand(400, 6) * torch.tensor([1.0, 2.0, 5.0, 5.0, 9.0, 1.0])
    layer = torch.nn.Linear(6, 3)
    gather_layer(layer, inputs)
    outputs = layer(inputs)
    pairs = inputs.view(400, 3, 2).mean(2)
    assert torch.corrcoef(torch.cat([outputs, pairs], 1).T).diagonal(3).allclose(torch.ones(3), atol=1e-4)
    assert ((outputs.std(0) > 0.6) & (outputs.std(0) < 1)).all()
    with pytest.raises(UsageError, match="equal shares"):
        dataclasses.replace(TINY, fc_width=7)


def test_fitting_can_be_interrupted_between_layers() -> None:
    clips = 50 * torch.randn(3, 3, 16, 32, 32)
    networks = [C3D(num_classes=2, stages=TINY.stages, fc_width=4, crop_size=32) for _ in range(2)]
    names = list(fit_convolutions(networks[0], clips, seed=3))
    assert names == ["conv1a", "conv2a", "conv3a", "conv4a", "conv5a"]
    done = next(fit_convolutions(networks[1], clips, seed=3))
    assert list(fit_convolutions(networks[1], clips, seed=3, skip=(done,))) == names[1:]
    for name in names:
        assert networks[0].get_submodule(name).weight.equal(networks[1].get_submodule(name).weight)


def test_a_run_leaves_a_weights_folder_that_is_the_network(tmp_path: Path) -> None:
    network = pretrain(tmp_path / "run", settings=TINY, device="cpu")
    stored = load_weights(tmp_path / "run/weights")
    assert stored.profile == network.profile and stored.profile.mean != "volume"
    assert stored.classes == network.classes and len(stored.classes) == 8
    assert stored.provenance["recipe"]["fc_width"] == 8
    for name, array in network.state_dict().items():
        assert array.isfinite().all()
        assert stored.state_dict()[name].allclose(array, rtol=2e-3, atol=1e-4)
    with pytest.raises(UsageError, match="other settings"):
        pretrain(tmp_path / "run", settings=dataclasses.replace(TINY, seed=1), device="cpu")
    with pytest.raises(UsageError, match="device 'gpu' is not known; choose auto, cpu, cuda"):
        pretrain(tmp_path / "run", settings=TINY, device="gpu")


def test_a_stopped_run_goes_on_to_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = dataclasses.replace(TINY, still_steps=3, n_steps=3)
    monkeypatch.setattr(gradients, "_CHECKPOINT_EVERY", 2)
    # The head is fitted after the part that resumes.
    monkeypatch.setattr("c3dvideo.training.pretraining.pretraining_run.fit_head", lambda *args: None)
    monkeypatch.setattr(gradients, "batches", lambda *args, **kwargs: batches(*args, **kwargs, n_workers=0))
    whole = weights_of(pretrain(tmp_path / "whole", settings=settings, device="cpu"))

    step = gradients._Run._loss
    calls: list[object] = []

    def stop_in_each_phase(*args: object) -> object:
        calls.append(args)
        if len(calls) in (3, 10):  # in the third step of the phase, of one loss a step and of two
            raise KeyboardInterrupt
        return step(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(gradients._Run, "_loss", stop_in_each_phase)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            pretrain(tmp_path / "stopped", settings=settings, device="cpu")
    resumed = weights_of(pretrain(tmp_path / "stopped", settings=settings, device="cpu"))
    assert len(calls) == 12, "steps after the last checkpoint are taken again, and no others"
    convolutions = [name for name in whole if name.startswith("conv")]
    assert len(convolutions) == 10
    assert all(whole[name].equal(resumed[name]) for name in convolutions)


def numbers(batch: Batch) -> int:
    return int(batch.clips.long().sum())


@pytest.mark.parametrize("kind", ["stills", "clips"])
def test_batches_come_twice_and_start_anywhere(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("c3dvideo.training.pretraining.batches.BLOCK", 2)
    row = batches(TINY, kind, first=0, n_workers=0)  # type: ignore[arg-type]
    found = [numbers(next(row)) for _ in range(7)]
    assert sorted(found[:2]) == sorted(found[2:4]) and sorted(found[4:6]) != sorted(found[:2])
    assert BLOCK > 2
    later = batches(TINY, kind, first=3, n_workers=1)  # type: ignore[arg-type]
    assert [numbers(next(later)) for _ in range(4)] == found[3:7]


def test_stills_are_four_moments_of_a_scene_without_labels_of_motion() -> None:
    batch = next(batches(TINY, "stills", first=0, n_workers=0))
    assert batch.clips.shape == (8, 3, 1, 40, 40) and batch.clips.dtype == torch.uint8
    assert batch.maps.shape == (8, 1, 1, 20, 20) and batch.maps.max() < len(PARTS)
    assert batch.scenes.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    motion = torch.tensor([task in MOTION_TASKS for task in ALL_TASKS])
    assert (batch.labels[:, motion] == NO_TARGET).all() and (batch.labels[:, ~motion] != NO_TARGET).any()
    clips = next(batches(TINY, "clips", first=0, n_workers=0))
    assert clips.clips.shape == (2, 3, 16, 40, 40) and clips.maps.shape == (2, 2, 8, 20, 20)
    assert clips.maps[:, 1].max() < len(MOVES)
    assert (clips.labels[:, ~motion] == NO_TARGET).all() and (clips.labels[:, motion] != NO_TARGET).any()


def test_the_share_of_people() -> None:
    people = [
        "touch" in draw_any(3, index, 0.75).labels or "shot" in draw_any(3, index, 0.75).labels for index in range(40)
    ]
    assert 20 < sum(people) < 39
    assert all("shot" in draw_any(3, index, 1.0).labels for index in range(5))


def test_single_frames_meet_the_middle_of_every_kernel() -> None:
    network = C3D(num_classes=2, stages=((4,), (4,), (4, 4), (4,), (4,)), fc_width=4, crop_size=32)
    with_batch_norm(network, skip=("fc6", "fc7"))
    network.train()
    frames = 255 * torch.rand(3, 3, 1, 32, 32)
    found = dict(steps_of_stills(network, frames))
    x = frames - torch.tensor([110.0, 105.0, 100.0]).view(1, 3, 1, 1, 1)
    for name, value in found.items():
        if name.startswith("pool"):
            x = torch.nn.functional.max_pool3d(torch.relu(x), (1, 2, 2))
        else:
            x = network.get_submodule(name)(torch.relu(x) if name != "conv1a" else x)
        assert torch.relu(value).allclose(torch.relu(x), atol=1e-4), name
    assert found["pool5"].shape == (3, 4, 1, 1, 1)


@pytest.mark.parametrize("kind", ["stills", "clips"])
def test_every_objective_learns(kind: str) -> None:
    """On one batch again and again, all losses fall: each is connected to the convolutions."""
    torch.manual_seed(0)
    network = C3D(num_classes=2, stages=((8,), (8,), (8,), (8,), (8,)), fc_width=4, crop_size=32)
    with_batch_norm(network, skip=("fc6", "fc7"))
    heads = Heads(network, crop=32).eval()  # no dropout
    batch = next(batches(dataclasses.replace(TINY, batch_size=4), kind, first=0, n_workers=0))  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(0)
    pairs = [random_view(batch.clips, batch.maps, crop=32, generator=generator) for _ in range(2)]
    views, maps = (torch.cat(each) for each in zip(*pairs, strict=True))
    parameters = [*network.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=5e-3)
    history = []
    for _ in range(60 if kind == "clips" else 30):
        seen = dict(gradients._STEPS[kind](network, views))  # type: ignore[index]
        losses, found = heads(seen, maps, batch.labels.repeat(2, 1), batch.scenes.repeat(2), temperature=0.2)
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        history.append({name: float(loss.detach()) for name, loss in losses.items()})
    assert set(history[0]) == {"parts", "labels", "contrast"} | ({"moves"} if kind == "clips" else set())
    assert ("horizontal" in found) == (kind == "clips") != ("touch" in found)
    assert all(history[-1][name] < 0.8 * value for name, value in history[0].items()), (history[0], history[-1])


def test_units_that_look_for_movement_start_by_comparing_frames() -> None:
    """Every second unit, and no other, tells a clip from the same one backwards, by places moved along its way."""
    network = C3D(num_classes=2, stages=((16,), (4,), (4,), (4,), (4,)), fc_width=4, crop_size=32)
    with_batch_norm(network, skip=("fc6", "fc7"))
    before = network.conv1a.weight.detach().clone()
    gradients._start_side_taps(network)
    weight = network.conv1a.weight.detach()
    assert weight[::2, :, 1].equal(before[::2, :, 1]) and not weight[::2, :, [0, 2]].any()
    clip = torch.rand(1, 3, 3, 20, 20)
    answers, backwards = (torch.nn.functional.conv3d(x, weight)[0, :, 0] for x in (clip, clip.flip(2)))
    assert answers[::2].allclose(backwards[::2]) and (answers[1::2] - backwards[1::2]).abs().amax((1, 2)).min() > 0.01
    unit = 3  # the second that looks for movement: to the left
    assert weight[unit, :, 2, :, :2].equal(before[unit, :, 1, :, 1:]) and not weight[unit, :, 2, :, 2].any()
    assert weight[unit, :, 0, :, 1:].equal(-before[unit, :, 1, :, :2]) and not weight[unit, :, 0, :, 0].any()


def test_views_keep_size_range_time_and_the_places_of_parts() -> None:
    clips = torch.arange(16, dtype=torch.uint8).view(1, 1, 16, 1, 1).expand(2, 3, 16, 80, 80) * 12
    parts = torch.zeros(2, 2, 8, 40, 40, dtype=torch.uint8)
    parts[..., 20:] = 2
    parts[:, 1] += 1
    view, maps = random_view(clips, parts, crop=64, generator=torch.Generator().manual_seed(0))
    assert view.shape == (2, 3, 16, 64, 64) and maps.shape == (2, 2, 8, 32, 32)
    assert view.min() >= 0 and view.max() <= 255
    brightness = view.mean(dim=(1, 3, 4))
    assert (brightness.diff(dim=1) > -1e-3).all(), "frames stay in order"
    assert not view[0].equal(view[1])
    assert set(maps[:, 0].unique().tolist()) == {0, 2} and maps[:, 1].equal(maps[:, 0] + 1)
    halves = torch.where(torch.arange(80) < 40, 0, 200).to(torch.uint8).expand(2, 3, 16, 80, 80)
    view, maps = random_view(halves, parts, crop=64, generator=torch.Generator().manual_seed(3))
    for clip in range(2):
        bright = view[clip, 0, 0].view(32, 2, 32, 2)[10, 0, :, 0]
        right = maps[clip, 0, 0, 10] == 2
        assert right.any() and (~right).any(), "the seed shows both halves"
        assert bright[right].min() >= bright[~right].max() - 1, "what is on the right of the clip is so in its parts"


def test_the_shipped_network_is_small_and_complete() -> None:
    network = load_weights("embedded")
    folder = Path(gradients.__file__).parents[2] / "network" / "embedded"
    assert (folder / "model.safetensors").stat().st_size <= 10_000_000
    assert (folder / "README.md").is_file()
    assert network.profile.mean != "volume", "overlapping clips can share work"
    assert network.steps[-4:] == ("fc6", "fc7", "fc8", "prob") and network.architecture["clip_length"] == 16
    assert "no video" in network.provenance["source"]
    card = (folder / "README.md").read_text(encoding="utf-8")
    for source in network.provenance["sources"]:
        assert f"{source['pictures']:,}" in card and source["licence"] in card, "the card names every source"
    assert network.descriptor_mean is not None and network.descriptor_mean.shape == (1024,)


def test_the_shipped_network_represents_direction() -> None:
    """A linear read-out of pool5 separates left from right and up from down on new clips, unless they are shuffled."""
    network = load_weights("embedded")
    tasks = ("horizontal", "vertical")

    def read_out(frames: FrameOrder) -> float:
        rows = decode_labels(network, layers=["pool5"], tasks=tasks, n_clips=120, seed=2_000_000, frames=frames)
        assert tuple(row.task for row in rows) == tasks
        return sum(row.accuracy * row.n_clips for row in rows) / sum(row.n_clips for row in rows)

    assert read_out("in order") > 0.7
    assert read_out("shuffled") < 0.6
