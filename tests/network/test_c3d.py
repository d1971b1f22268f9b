"""The network against the paper's figure, the release's definition and the ports' variants of it."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from c3dvideo import C3D, c3d, c3d_plain, c3d_small
from c3dvideo.errors import UsageError

NARROW: dict[str, Any] = {"stages": ((4,), (4,), (8, 8), (8, 8), (8, 8)), "fc_width": 16, "num_classes": 5}
SIZES = {
    "conv1a": (64, 16, 112, 112),
    "pool1": (64, 16, 56, 56),
    "conv2a": (128, 16, 56, 56),
    "pool2": (128, 8, 28, 28),
    "conv3a": (256, 8, 28, 28),
    "conv3b": (256, 8, 28, 28),
    "pool3": (256, 4, 14, 14),
    "conv4a": (512, 4, 14, 14),
    "conv4b": (512, 4, 14, 14),
    "pool4": (512, 2, 7, 7),
    "conv5a": (512, 2, 7, 7),
    "conv5b": (512, 2, 7, 7),
    "pool5": (512, 1, 4, 4),
    "fc6": (4096,),
    "fc7": (4096,),
    "fc8": (487,),
    "prob": (487,),
}
LAYERS = ["conv1a", "conv2a", "conv3a", "conv3b", "conv4a", "conv4b", "conv5a", "conv5b", "fc6", "fc7"]


def n_parameters(network: C3D) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(
    ("build", "arguments", "expected"),
    [
        (c3d, {}, 79_991_015),
        (c3d, {"num_classes": 101}, 78_409_573),
        (c3d, {"pool5": "symmetric"}, 79_991_015),
        (c3d_plain, {}, 65_310_951),
        (c3d_plain, {"num_class": 101}, 63_729_509),
        (c3d_small, {"temporal_depths": (1, 1, 1, 1, 1)}, 14_344_933),
        (c3d_small, {}, 17_444_965),
        (c3d_small, {"temporal_depths": (5, 5, 5, 5, 5)}, 20_544_997),
        (c3d_small, {"temporal_depths": (7, 7, 7, 7, 7)}, 23_645_029),
        (c3d_small, {"temporal_depths": (3, 3, 5, 5, 7)}, 21_573_733),
        (c3d_small, {"temporal_depths": (7, 5, 5, 3, 3)}, 18_189_157),
        (c3d_small, {"crop_size": 56}, 11_153_509),
        (c3d_small, {"crop_size": 224}, 34_746_469),
    ],
)
def test_parameter_counts_are_the_published_ones(build: Any, arguments: dict[str, Any], expected: int) -> None:
    with torch.device("meta"):
        assert n_parameters(build(**arguments)) == expected


def test_state_dict_names() -> None:
    with torch.device("meta"):
        names = {kind: list(network.state_dict()) for kind, network in {"c3d": c3d(), "plain": c3d_plain()}.items()}
    assert names["c3d"] == [f"{layer}.{kind}" for layer in (*LAYERS, "fc8") for kind in ("weight", "bias")]
    assert names["plain"] == [f"{layer}.{kind}" for layer in (*LAYERS, "out") for kind in ("weight", "bias")]


def test_sizes_of_the_figure() -> None:
    with torch.device("meta"):
        network = c3d()
        found = network.activations(torch.empty(2, 3, 16, 112, 112), SIZES)
    assert {name: tuple(x.shape[1:]) for name, x in found.items()} == SIZES
    assert {name: network.layer_shape(name) for name in SIZES} == SIZES
    assert c3d_plain().layer_shape("pool5") == (512, 1, 3, 3)


def test_activations_equal_the_definition_written_out(narrow_network: C3D) -> None:
    weights = narrow_network.state_dict()
    x = torch.randn(2, 3, 16, 112, 112)
    found = narrow_network.activations(x, narrow_network.steps)
    for name in LAYERS[:8]:
        x = functional.conv3d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], padding=1).clamp(min=0)
        assert torch.equal(found[name], x)
        if name in ("conv1a", "conv2a", "conv3b", "conv4b", "conv5b"):
            if name == "conv5b":  # the border window of the release, written as a zero after the last row and column
                x = functional.pad(x, (0, 1, 0, 1))
            x = functional.max_pool3d(x, (1, 2, 2) if name == "conv1a" else 2)
            assert torch.equal(found[f"pool{name[4]}"], x)
    x = x.flatten(1)
    for name in ("fc6", "fc7"):
        x = functional.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"]).clamp(min=0)
        assert torch.equal(found[name], x)
    x = functional.linear(x, weights["fc8.weight"], weights["fc8.bias"])
    assert torch.equal(found["fc8"], x)
    torch.testing.assert_close(found["prob"].sum(1), torch.ones(2))


def test_forward_is_fc8(narrow_network: C3D) -> None:
    clips = torch.randn(1, 3, 16, 112, 112)
    assert torch.equal(narrow_network(clips), narrow_network.activations(clips, ["fc8"])["fc8"])


def test_computes_no_further_than_the_deepest_layer(narrow_network: C3D, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    step = narrow_network.step
    monkeypatch.setattr(narrow_network, "step", lambda name, x: (done.append(name), step(name, x))[1])
    found = narrow_network.activations(torch.zeros(1, 3, 16, 112, 112), ["conv2a", "pool1", "conv2a"])
    assert list(found) == ["conv2a", "pool1"]
    assert done == ["conv1a", "pool1", "conv2a"]


def test_pool5_windows() -> None:
    x = torch.zeros(1, 1, 2, 7, 7)
    x[0, 0, 0] = torch.arange(49.0).reshape(7, 7)
    rows = {"ceil": [1, 3, 5, 6], "symmetric": [0, 2, 4, 6], "floor": [1, 3, 5]}
    for rule, last in rows.items():
        with torch.device("meta"):
            pool = C3D(pool5=rule, **NARROW).pool5
        assert pool(x)[0, 0, 0].tolist() == [[7.0 * row + column for column in last] for row in last], rule


def test_pool5_rule_changes_features_and_only_from_pool5_on(narrow_network: C3D) -> None:
    clips = torch.randn(1, 3, 16, 112, 112)
    layers = ["conv5b", "pool5", "fc6"]
    before = narrow_network.activations(clips, layers)
    narrow_network.use_pool5("symmetric")
    after = narrow_network.activations(clips, layers)
    assert torch.equal(before["conv5b"], after["conv5b"])
    assert before["pool5"].shape == after["pool5"].shape
    assert not torch.allclose(before["fc6"], after["fc6"])
    assert narrow_network.architecture["pool5"] == "symmetric"
    narrow_network.use_pool5("ceil")
    assert torch.equal(narrow_network.activations(clips, layers)["fc6"], before["fc6"])


def test_pool5_rule_that_does_not_fit_fc6(narrow_network: C3D) -> None:
    with pytest.raises(UsageError, match="'floor' leaves 9 cells per channel, but fc6 of these weights takes 16"):
        narrow_network.use_pool5("floor")


def test_gaussian_fillers_of_the_release() -> None:
    network = C3D(stages=((32,), (64,), (64, 64), (64, 64), (64, 64)), fc_width=256, num_classes=101)
    for name, layer in network.named_layers():
        expected = 0.005 if name in ("fc6", "fc7") else 0.01
        assert layer.weight.std().item() == pytest.approx(expected, rel=0.05), name
        assert abs(layer.weight.mean().item()) < expected * 0.1, name
        assert (layer.bias == (0.0 if name in ("conv1a", "fc8") else 1.0)).all(), name


def test_xavier_filler_and_pytorchs_own() -> None:
    plain = C3D(pool5="floor", filler="xavier", **NARROW)
    for name, layer in plain.named_layers():
        fan_in, fan_out = layer.weight[0].numel(), layer.weight.numel() // layer.weight.shape[1]
        bound = (6 / (fan_in + fan_out)) ** 0.5
        largest = layer.weight.abs().max().item()
        assert 0.9 * bound < largest <= bound, name
        assert not layer.bias.any(), name


def test_plain_network() -> None:
    network = c3d_plain(num_class=3)
    assert not network.conv1a.bias.any()
    assert network.fc6.in_features == 4608
    assert network.architecture["dropout"] == 0
    untouched = c3d_plain(num_class=3, init_weights=False)
    assert untouched.conv1a.bias.any()
    assert tuple(untouched.out.weight.shape) == (3, 4096)


def test_dropout_acts_in_training_and_after_the_named_activation() -> None:
    network = C3D(dropout=0.5, filler="xavier", **NARROW)
    clips = torch.randn(1, 3, 16, 112, 112)
    still = network.eval().activations(clips, ["fc6", "fc8"])
    torch.testing.assert_close(still["fc8"], network.activations(clips, ["fc8"])["fc8"], rtol=0, atol=0)
    moving = network.train().activations(clips, ["fc6", "fc8"])
    assert torch.equal(moving["fc6"], still["fc6"])
    assert not torch.equal(moving["fc8"], still["fc8"])


def test_names_and_shapes_that_are_refused(narrow_network: C3D) -> None:
    with pytest.raises(UsageError, match="unknown layer: fc9; this network has conv1a, pool1, conv2a"):
        narrow_network.activations(torch.zeros(1, 3, 16, 112, 112), ["fc6", "fc9"])
    with pytest.raises(UsageError, match="unknown layer: none"):
        narrow_network.activations(torch.zeros(1, 3, 16, 112, 112), [])
    with pytest.raises(UsageError, match=r"shape \(1, 16, 3, 112, 112\); this network takes \(N, 3, 16, 112, 112\)"):
        narrow_network(torch.zeros(1, 16, 3, 112, 112))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"stages": ((4,), (4,))}, "five stages"),
        ({"temporal_depths": (3, 3, 3, 3, 4)}, "odd"),
        ({"pool5": "same"}, "expected one of ceil, symmetric, floor"),
        ({"filler": "he"}, "expected one of gaussian, xavier"),
        ({"num_classes": 0}, "from 1 to 10,000,000"),
        ({"clip_length": 4, "crop_size": 8, "pool5": "floor"}, "leaves nothing after five poolings"),
    ],
)
def test_architectures_that_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        C3D(**{**NARROW, **arguments})


def test_any_depth_keeps_the_length_of_a_clip() -> None:
    network = C3D(temporal_depths=(7, 5, 5, 3, 1), **{**NARROW, "crop_size": 32})
    assert network.layer_shape("conv5b")[1:] == (2, 2, 2)
    assert network(torch.zeros(1, 3, 16, 32, 32)).shape == (1, 5)


def test_save_and_load_as_every_hub_model_does(narrow_network: C3D, tmp_path: Path) -> None:
    narrow_network.provenance = {"run": "a test"}
    narrow_network.save_pretrained(tmp_path)
    loaded = C3D.from_pretrained(tmp_path)
    clips = torch.randn(1, 3, 16, 112, 112)
    assert torch.equal(loaded(clips), narrow_network(clips))
    assert not loaded.training
    assert (loaded.classes, loaded.profile, loaded.provenance) == (
        narrow_network.classes,
        narrow_network.profile,
        {"run": "a test"},
    )
    assert loaded.mean_volume is not None
    assert (loaded.mean_volume == narrow_network.mean_volume).all()
    assert "library_name: c3dvideo" in (tmp_path / "README.md").read_text()


@pytest.mark.parametrize("name", ["fc_width", "clip_length", "crop_size", "num_classes"])
@pytest.mark.parametrize("value", [10**12, -1, 3.5, "16"])
def test_absurd_sizes_are_refused_before_any_memory_is_taken(name: str, value: object) -> None:
    with pytest.raises(UsageError, match=rf"{name} is .*; expected a whole number from 1 to"):
        C3D(**{name: value})


def test_the_state_dict_of_another_project_is_named_and_the_way_to_import_it(narrow_network: C3D) -> None:
    renamed = {name.replace("conv3a", "conv3"): array for name, array in narrow_network.state_dict().items()}
    with pytest.raises(RuntimeError, match=r"conv3.weight, conv3.bias are not .*c3dvideo weights import"):
        narrow_network.load_state_dict(renamed)
    cut = {name: array for name, array in narrow_network.state_dict().items() if name != "fc7.bias"}
    with pytest.raises(RuntimeError, match="Missing key") as caught:
        narrow_network.load_state_dict(cut)
    assert "import" not in str(caught.value)
