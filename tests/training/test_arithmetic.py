"""The arithmetic that a run takes, and the forward pass it takes it in."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from c3dvideo.errors import UsageError
from c3dvideo.training import arithmetic as machine
from c3dvideo.training.augment import Normalise, fixed_crop, resized_crop, train_batch
from c3dvideo.training.forward import fast_logits
from c3dvideo.training.initial import initial_network
from c3dvideo.training.sampling import release_draws
from c3dvideo.training.settings import make_settings


def test_auto_is_bf16_only_where_hardware_multiplies_it_and_gradients_are_right(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for amx, right, expected in ((True, True, "bf16"), (True, False, "fp32"), (False, True, "fp32")):
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda amx=amx: amx)
        monkeypatch.setattr(machine, "bf16_gradients_are_right", lambda right=right: right)
        assert machine.choose_precision("auto", accelerator="cpu") == expected
    assert machine.choose_precision("auto", accelerator="mps") == "fp32"
    monkeypatch.setattr(machine, "bf16_gradients_are_right", lambda: False)
    with pytest.raises(UsageError, match="bf16 gradients come out wrong on this processor"):
        machine.choose_precision("bf16", accelerator="cpu")
    with pytest.raises(UsageError, match="`precision=` is 'fp8'; expected auto, fp32, bf16 or fp16"):
        machine.choose_precision("fp8")
    with pytest.raises(UsageError, match="fp16 trains on a GPU only"):
        machine.choose_precision("fp16")
    for native in (True, False):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation, native=native: native)
        assert machine.choose_precision("auto") == ("bf16" if native else "fp32")
    assert machine.choose_precision("bf16") == "bf16"


def test_gradients_are_found_wrong_when_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = machine.functional.conv3d

    def broken(clips: torch.Tensor, weight: torch.Tensor, padding: int) -> torch.Tensor:
        if torch.is_autocast_enabled("cpu"):
            weight = weight + (weight - weight.detach())  # the same output, twice the gradient
        return whole(clips, weight, padding=padding)

    monkeypatch.setattr(machine.functional, "conv3d", broken)
    machine.bf16_gradients_are_right.cache_clear()
    assert not machine.bf16_gradients_are_right()
    machine.bf16_gradients_are_right.cache_clear()


@pytest.mark.parametrize("changes", [{}, {"batch_norm": False}, {"network": "c3d_small", "temporal_depths": (1,) * 5}])
def test_fast_logits_are_those_of_the_network_and_so_are_the_gradients(changes: dict[str, Any]) -> None:
    settings = make_settings(width=0.1, crop_size=32, dropout=0.0, **changes)
    network = initial_network(settings, ["a", "b", "c"], None).train()
    clips = torch.randn(3, 3, 16, 32, 32)
    results = []
    for forward in (network, lambda clips: fast_logits(network, clips)):
        network.zero_grad()
        logits = forward(clips)
        logits.square().sum().backward()
        results.append([logits.detach(), *(parameter.grad.clone() for parameter in network.parameters())])
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))


def test_fast_logits_in_bf16_are_close() -> None:
    settings = make_settings(width=0.1, crop_size=32, dropout=0.0)
    network = initial_network(settings, ["a", "b", "c"], None).train()
    network.head.weight.data.normal_()
    clips = torch.randn(6, 3, 16, 32, 32)
    exact = fast_logits(network, clips)
    with torch.autocast("cpu", torch.bfloat16):
        low = fast_logits(network, clips)
    assert low.dtype == torch.bfloat16
    assert float((low.float() - exact).norm().detach()) < 0.1 * float(exact.norm().detach())


def test_a_mean_volume_is_taken_off_before_crop_and_mirror() -> None:
    settings = replace(make_settings("release", crop_size=32), flip=True)
    volume = torch.rand(3, 16, 37, 49) * 255
    normalise = Normalise(1.0, volume, torch.ones(3, 1, 1, 1))
    pixels = torch.randint(0, 256, (5, 16, 3, 37, 49), dtype=torch.uint8)
    draws = release_draws(3, 0, 5, height_margin=5, width_margin=17)
    labels, generator = torch.zeros(5, dtype=torch.int64), torch.Generator()
    arguments: dict[str, Any] = {"n_classes": 2, "crop": (32, 2, 8), "generators": [generator] * 5}
    found, _ = train_batch(pixels, labels, normalise, settings, draws=draws, **arguments)
    whole = normalise(pixels.transpose(1, 2).float())
    assert torch.equal(found, fixed_crop(whole, draws, 32))
    boxes = torch.tensor([[1.0, 3.0, 20.0, 25.0]] * 5)
    cut = resized_crop(whole, boxes, 32, torch.tensor([True, False, True, False, True]))
    in_steps = normalise.cut(
        resized_crop(pixels.transpose(1, 2).float(), boxes, 32, torch.tensor([True, False, True, False, True])),
        lambda frames: resized_crop(frames, boxes, 32, torch.tensor([True, False, True, False, True])),
    )
    assert torch.allclose(cut, in_steps, atol=1e-3)


def test_the_release_stays_in_fp32() -> None:
    assert make_settings("release").precision == make_settings("release", fine_tuning=True).precision == "fp32"
    assert make_settings().precision == make_settings(fine_tuning=True).precision == "auto"
