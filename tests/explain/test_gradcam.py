"""Grad-CAM: it follows the moving object, changes with the weights, and agrees with its definition."""

import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch

from c3dvideo import C3D
from c3dvideo.errors import MissingExtraError, UsageError
from c3dvideo.explain.gradcam import clip_scores, grad_cam
from c3dvideo.explain.layered import LayeredNetwork, class_model, network_input
from c3dvideo.probing.descriptors import Part, unit_rows
from c3dvideo.probing.probe import Probe

Squares = tuple[np.ndarray, np.ndarray, np.ndarray]


def share_inside(maps: np.ndarray, places: np.ndarray) -> float:
    """The mean share of a map's mass that lies in the place of the object."""
    total = maps.sum(axis=(1, 2, 3))
    return float(((maps * places).sum(axis=(1, 2, 3))[total > 0] / total[total > 0]).mean())


def test_the_trained_network_sees_which_way_the_square_moves(trained: C3D, squares: Squares) -> None:
    clips, directions, _ = squares
    scores, classes = clip_scores(trained, clips)
    assert classes == ("left", "right")
    assert (scores.argmax(axis=1) == directions).mean() > 0.9


@pytest.mark.parametrize(("layer", "plus_plus"), [("conv2a", False), ("conv2a", True), ("conv3a", True)])
def test_a_moving_object_attracts_the_map(
    layer: str, plus_plus: bool, trained: C3D, squares: Squares, make_network: Callable[[int], C3D]
) -> None:
    clips, _, places = squares
    area = places.mean()
    share = share_inside(grad_cam(trained, clips, layer=layer, plus_plus=plus_plus), places)
    untrained = share_inside(grad_cam(make_network(1).eval(), clips, layer=layer, plus_plus=plus_plus), places)
    assert share > 1.8 * area
    assert share > 1.3 * untrained


def test_randomised_weights_change_the_map_layer_by_layer(
    trained: C3D, squares: Squares, make_network: Callable[[int], C3D]
) -> None:
    """Adebayo et al. (2018): weights are replaced by random ones from the last layer down."""
    clips = squares[0][:16]
    right = unit_rows(grad_cam(trained, clips, target=1, layer="conv2a").reshape(16, -1))
    found = []
    for seed in (2, 3, 4):
        network, random = make_network(0).eval(), make_network(seed)
        network.load_state_dict(trained.state_dict())
        similarities = []
        for name, layer in reversed(list(random.named_layers())):
            network.get_submodule(name).load_state_dict(layer.state_dict())
            changed = unit_rows(grad_cam(network, clips, target=1, layer="conv2a").reshape(16, -1))
            similarities.append(float((right * changed).sum(axis=1).mean()))
        found.append(similarities)
    cascade = np.mean(found, axis=0)
    assert cascade.max() < 0.9, cascade
    assert cascade[-1] < 0.6, cascade


def test_maps_have_the_size_of_the_clips_and_a_maximum_of_one(trained: C3D, squares: Squares) -> None:
    for layer in ("conv1a", "pool1", "conv3b", "conv5b", "pool5"):
        maps = grad_cam(trained, squares[0][:6], target="right", layer=layer)
        assert maps.dtype == np.float32
        assert maps.shape == (6, 8, 32, 32)
        assert maps.min() >= 0
        assert set(np.unique(maps.max(axis=(1, 2, 3)).round(5))) <= {0.0, 1.0}


def test_it_is_the_mean_gradient_times_the_activation(trained: C3D, squares: Squares) -> None:
    """Grad-CAM written down once more, without Captum, before it is enlarged; and Grad-CAM++ by another formula."""
    clips = squares[0][:4]
    model, _ = class_model(trained)
    activation: list[torch.Tensor] = []
    hook = model.module_of("conv3b").register_forward_hook(lambda module, given, output: activation.append(output))
    scores = model(network_input(trained, clips))
    hook.remove()
    (gradient,) = torch.autograd.grad(scores[:, 1].sum(), activation[0])
    cam = torch.relu((gradient.mean(dim=(2, 3, 4), keepdim=True) * activation[0]).sum(dim=1, keepdim=True))
    cam = torch.nn.functional.interpolate(cam, size=(8, 32, 32), mode="trilinear")[:, 0].detach().numpy()
    largest = cam.max(axis=(1, 2, 3), keepdims=True)
    expected = np.divide(cam, largest, out=np.zeros_like(cam), where=largest > 0)
    assert grad_cam(trained, clips, target=1, layer="conv3b") == pytest.approx(expected, abs=1e-4)


def test_the_activations_are_those_of_the_network(trained: C3D, squares: Squares) -> None:
    x = network_input(trained, squares[0][:3])
    with torch.no_grad():
        assert torch.allclose(class_model(trained)[0](x), trained(x), atol=1e-5)
        for layer in ("conv1a", "pool3", "fc6"):
            model = LayeredNetwork(trained, [layer], lambda found, name=layer: found[name].flatten(1)).eval()
            assert torch.allclose(model(x), trained.activations(x, [layer])[layer].flatten(1), atol=1e-5)


def test_targets_are_names_numbers_or_the_best_class(trained: C3D, squares: Squares) -> None:
    clips = squares[0][:4]
    best = clip_scores(trained, clips)[0].argmax(axis=1)
    chosen = grad_cam(trained, clips, target=[int(index) for index in best], layer="conv3b")
    assert np.array_equal(grad_cam(trained, clips, layer="conv3b"), chosen)
    left, right = (grad_cam(trained, clips, target=target, layer="conv3b") for target in ("left", "right"))
    assert not np.allclose(left, right)
    assert np.array_equal(left, grad_cam(trained, clips, target=0, layer="conv3b"))
    assert np.array_equal(left, grad_cam(trained, clips, target="0", layer="conv3b"))


def test_the_classes_of_a_probe(trained: C3D, squares: Squares) -> None:
    """A probe on two layers: scores as `Probe.scores` gives them, and maps that follow the probe's class."""
    generator = np.random.default_rng(0)
    parts = (Part("fc6", 32, {}), Part("pool5", 16, {}))
    probe = Probe(("one", "two", "three"), generator.normal(size=(3, 48)), generator.normal(size=3), parts, 1.0)
    clips = squares[0][:5]
    with torch.no_grad():
        found = trained.activations(network_input(trained, clips), ["fc6", "pool5"])
    rows = np.concatenate([unit_rows(found[name].flatten(1).numpy()) for name in ("fc6", "pool5")], axis=1)
    scores, classes = clip_scores(trained, clips, probe)
    assert classes == ("one", "two", "three")
    assert scores == pytest.approx(probe.scores(rows), abs=1e-4)
    one, two = (grad_cam(trained, clips, target=name, probe=probe, layer="conv3b") for name in ("one", "two"))
    assert not np.allclose(one, two)


@pytest.mark.parametrize("target", ["up", 2, -1, "2", "²", "9" * 30, [0], ""])
def test_an_unknown_class_is_refused(target: object, trained: C3D, squares: Squares) -> None:
    with pytest.raises(UsageError, match=r"there is no class|1 targets"):
        grad_cam(trained, squares[0][:2], target=target)  # type: ignore[arg-type]


@pytest.mark.parametrize("layer", ["fc6", "conv9z", "", "prob"])
def test_a_layer_without_maps_is_refused(layer: str, trained: C3D, squares: Squares) -> None:
    with pytest.raises(UsageError, match="conv5b"):
        grad_cam(trained, squares[0][:2], layer=layer)


def test_clips_of_another_kind_are_refused(trained: C3D, squares: Squares) -> None:
    for clips in (squares[0].astype(np.float32), squares[0][0], squares[0][..., :31]):
        with pytest.raises(UsageError, match=r"expected uint8 \(N, 3, 8, 32, 32\)"):
            grad_cam(trained, clips)
    assert grad_cam(trained, squares[0][:0]).shape == (0, 8, 32, 32)


def test_without_captum_the_extra_is_named(trained: C3D, squares: Squares, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    with pytest.raises(MissingExtraError, match=r"c3dvideo\[explain\]"):
        grad_cam(trained, squares[0][:1])


def test_the_authors_profile_and_the_papers_layers(narrow_network: C3D) -> None:
    """Ceil-mode pool5, mean volume, BGR, seventeen layers: every one has a map."""
    clip = np.random.default_rng(0).integers(0, 255, (1, 3, 16, 112, 112), np.uint8)
    for layer in ("conv5b", "pool5"):
        maps = grad_cam(narrow_network, clip, target="c", layer=layer, plus_plus=True)
        assert maps.shape == (1, 16, 112, 112)
        assert np.isfinite(maps).all()
