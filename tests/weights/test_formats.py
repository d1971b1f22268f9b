"""Weights of every published layout, written from one known network: after import all activations are equal."""

import bz2
import io
import pickle
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import h5py
import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from safetensors.torch import save_file

from c3dvideo import C3D, c3d_plain
from c3dvideo.errors import MissingExtraError, UnsafePickleError, UsageError, WeightsError
from c3dvideo.weights.formats.caffe import write_blob, write_model
from c3dvideo.weights.import_weights import import_weights, read_class_names, read_mean

GOLDEN = Path(__file__).parents[1] / "golden" / "tensorflow"
STAGES = ((2,), (3,), (4, 3), (4, 5), (4, 6))
LAYERS = ["conv1a", "conv2a", "conv3a", "conv3b", "conv4a", "conv4b", "conv5a", "conv5b", "fc6", "fc7", "fc8"]
DAVIDEA = {"conv1a": "conv1", "conv2a": "conv2"}
VGG = [f"features.{n}" for n in (0, 3, 6, 8, 11, 13, 16, 18)] + [f"classifier.{n}" for n in (0, 3, 6)]
Arrays = dict[str, tuple[np.ndarray, np.ndarray]]


def network(pool5: str = "ceil", num_classes: int = 5, **architecture: Any) -> C3D:
    torch.manual_seed(7)
    made = C3D(num_classes=num_classes, stages=STAGES, fc_width=7, pool5=pool5, filler="xavier", **architecture)
    for _, layer in made.named_layers():
        torch.nn.init.normal_(layer.bias, std=0.1)
    return made.eval()


def arrays_of(made: C3D) -> Arrays:
    return {name: (layer.weight.detach().numpy(), layer.bias.detach().numpy()) for name, layer in made.named_layers()}


def tensors(arrays: Arrays, rename: Callable[[str], str] = str, skip: tuple[str, ...] = ()) -> dict[str, torch.Tensor]:
    return {
        f"{rename(name)}.{kind}": torch.from_numpy(array)
        for name, pair in arrays.items()
        if name not in skip
        for kind, array in zip(("weight", "bias"), pair, strict=True)
    }


def channels_last(arrays: Arrays) -> Arrays:
    """Kernels (T, H, W, in, out), dense (in, out), the rows of fc6 in the order T, H, W, C."""
    turned = {name: (w.transpose(2, 3, 4, 1, 0) if w.ndim == 5 else w.T, b) for name, (w, b) in arrays.items()}
    weight, bias = arrays["fc6"]
    turned["fc6"] = (weight.reshape(7, 6, 1, 4, 4).transpose(2, 3, 4, 1, 0).reshape(-1, 7), bias)
    return turned


def caffe(arrays: Arrays, path: Path, suffix: str = "-1") -> None:
    write_model(path, {f"{n}{suffix}" if n.startswith("fc") else n: list(pair) for n, pair in arrays.items()})


def caffe_without_suffix(arrays: Arrays, path: Path) -> None:
    caffe(arrays, path, suffix="")


def davidea(arrays: Arrays, path: Path) -> None:
    torch.save(tensors(arrays, lambda n: DAVIDEA.get(n, n)), path, _use_new_zipfile_serialization=False)


def jfzhang(arrays: Arrays, path: Path) -> None:
    torch.save(tensors(arrays, lambda name: VGG[LAYERS.index(name)]), path)


def jfzhang_trained(arrays: Arrays, path: Path) -> None:
    state = tensors(arrays, lambda n: DAVIDEA.get(n, n))
    torch.save({"epoch": 3, "state_dict": state, "opt_dict": {"param_groups": [{"lr": 0.1}]}}, path)


def mmaction_name(name: str) -> str:
    return "cls_head.fc_cls" if name == "fc8" else f"backbone.{name}" + (".conv" if name.startswith("conv") else "")


def mmaction2(arrays: Arrays, path: Path) -> None:
    torch.save({"meta": {"epoch": np.float64(45)}, "state_dict": tensors(arrays, mmaction_name)}, path)


def data_parallel(arrays: Arrays, path: Path) -> None:
    torch.save({"model": tensors(arrays, lambda name: f"module.{name}")}, path)


def plain(arrays: Arrays, path: Path) -> None:
    torch.save(tensors(arrays, lambda name: "out" if name == "fc8" else name), path)


def safetensors(arrays: Arrays, path: Path) -> None:
    save_file(tensors(arrays), path)


def lasagne(arrays: Arrays, path: Path) -> None:
    flat = [x for w, b in arrays.values() for x in (w if w.ndim == 5 else np.ascontiguousarray(w.T), b)]
    path.write_bytes(pickle.dumps(flat, protocol=2))


class Python2Pickler(pickle._Pickler):
    """Writes text and bytes as Python 2 did: the same kind of string, one byte a character."""

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)

    def save_string(self, text: str | bytes) -> None:
        content = text.encode("latin1") if isinstance(text, str) else text
        self.write(pickle.BINSTRING + struct.pack("<i", len(content)) + content)

    dispatch[str] = dispatch[bytes] = save_string


def lasagne_python2(arrays: Arrays, path: Path) -> None:
    flat = [x for w, b in arrays.values() for x in (w if w.ndim == 5 else np.ascontiguousarray(w.T), b)]
    buffer = io.BytesIO()
    Python2Pickler(buffer, protocol=2).dump(flat)
    path.write_bytes(buffer.getvalue().replace(b"cnumpy._core.multiarray", b"cnumpy.core.multiarray"))


def keras_theano(arrays: Arrays, path: Path) -> None:
    with h5py.File(path, "w") as file:
        for name, (weight, bias) in arrays.items():
            group = file.create_group(DAVIDEA.get(name, name))
            group["W"] = weight[:, :, ::-1, ::-1, ::-1] if weight.ndim == 5 else weight.T
            group["b"] = bias


def keras_tensorflow(arrays: Arrays, path: Path) -> None:
    with h5py.File(path, "w") as file:
        for name, (weight, bias) in channels_last(arrays).items():
            layer = DAVIDEA.get(name, name)
            file[f"{layer}/{layer}/kernel:0"], file[f"{layer}/{layer}/bias:0"] = weight, bias


def tensorflow(arrays: Arrays, path: Path) -> None:
    theirs = ["c1", "c2", "c3a", "c3b", "c4a", "c4b", "c5a", "c5b", "d1", "d2", "out"]
    turned = dict(zip(theirs, channels_last(arrays).values(), strict=True))
    flat = {f"var_name/w{name}": w for name, (w, _) in turned.items()}
    with path.open("wb") as file:
        np.savez(file, **flat, **{f"var_name/b{name}": b for name, (_, b) in turned.items()})


def chainer(arrays: Arrays, path: Path) -> None:
    flat = {f"{name}/{kind}": x for name, pair in arrays.items() for kind, x in zip("Wb", pair, strict=True)}
    with path.open("wb") as file:
        np.savez(file, **flat)


def onnx_graph(arrays: Arrays, path: Path, pads: tuple[int, ...] = (0, 1, 1, 0, 1, 1), ceil: int = 0) -> None:
    nodes, x = [], "data"
    for name, (weight, _) in arrays.items():
        parameters = [f"c3d0_{name}_weight", f"c3d0_{name}_bias"]
        if weight.ndim == 5:
            nodes.append(helper.make_node("Conv", [x, *parameters], [name], pads=[1] * 6, kernel_shape=[3] * 3))
            nodes.append(helper.make_node("Relu", [name], [f"{name}_relu"]))
            x = f"{name}_relu"
            if name in ("conv1a", "conv2a", "conv3b", "conv4b", "conv5b"):
                size = [1 if name == "conv1a" else 2, 2, 2]
                extra = {"pads": list(pads), "ceil_mode": ceil} if name == "conv5b" else {}
                nodes.append(helper.make_node("MaxPool", [x], [f"{x}_pool"], kernel_shape=size, strides=size, **extra))
                x = f"{x}_pool"
        else:
            nodes.append(helper.make_node("Flatten", [x], [f"{name}_flat"]))
            nodes.append(helper.make_node("Gemm", [f"{name}_flat", *parameters], [name], transB=1))
            nodes.append(helper.make_node("Relu", [name], [f"{name}_relu"]))
            x = f"{name}_relu"
    constants = [
        numpy_helper.from_array(array, f"c3d0_{name}_{kind}")
        for name, pair in arrays.items()
        for kind, array in zip(("weight", "bias"), pair, strict=True)
    ]
    shapes = (("data", [1, 3, 16, 112, 112]), (x, [1, len(arrays["fc8"][1])]))
    values = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name, shape in shapes]
    onnx.save(helper.make_model(helper.make_graph(nodes, "c3d", values[:1], values[1:], constants)), path)


CASES = [
    (caffe, "Caffe model of the C3D release", "caffe_channel_mean", "ceil"),
    (caffe_without_suffix, "Caffe model of the C3D release", "caffe_channel_mean", "ceil"),
    (davidea, "DavideA state dict", "davidea", "symmetric"),
    (jfzhang, "jfzhang95 / ViP state dict", "jfzhang", "symmetric"),
    (jfzhang_trained, "checkpoint of jfzhang95's training", "jfzhang", "symmetric"),
    (mmaction2, "mmaction2 checkpoint", "mmaction2", "symmetric"),
    (data_parallel, "state dict", "caffe_channel_mean", "ceil"),
    (safetensors, "state dict", "caffe_channel_mean", "ceil"),
    (lasagne, "Lasagne list of arrays", "caffe_channel_mean", "ceil"),
    (lasagne_python2, "Lasagne list of arrays", "caffe_channel_mean", "ceil"),
    (keras_theano, "Keras, Theano order", "keras_theano_channel_mean", "symmetric"),
    (keras_tensorflow, "Keras, TensorFlow order", "axon_channel_mean", "ceil"),
    (tensorflow, "TensorFlow variables (hx173149)", "caffe_channel_mean", "ceil"),
    (chainer, "state dict", "caffe_channel_mean", "ceil"),
    (onnx_graph, "ONNX graph", "caffe_channel_mean", "symmetric"),
]


@pytest.mark.parametrize(("write", "layout", "profile", "pool5"), CASES, ids=[case[0].__name__ for case in CASES])
def test_all_activations_survive(write: Any, layout: str, profile: str, pool5: str, tmp_path: Path) -> None:
    original = network(pool5)
    write(arrays_of(original), tmp_path / "file")
    found = import_weights(tmp_path / "file")
    assert (found.provenance["layout"], found.profile.name, found.profile.pool5) == (layout, profile, pool5)
    assert found.architecture["stages"] == [list(stage) for stage in STAGES]
    clips = torch.randn(1, 3, 16, 112, 112)
    expected, activations = (each.activations(clips, each.steps) for each in (original, found))
    for name in original.steps:
        assert torch.equal(activations[name], expected[name]), name


def test_plain_network_keeps_its_names_and_its_pooling(tmp_path: Path) -> None:
    original = network("floor")
    plain(arrays_of(original), tmp_path / "plain.pth")
    found = import_weights(tmp_path / "plain.pth")
    with torch.device("meta"):
        assert list(found.state_dict()) == list(c3d_plain().state_dict())
    assert (found.architecture["pool5"], found.profile.pool5, found.architecture["dropout"]) == ("floor", "floor", 0.0)
    clips = torch.randn(1, 3, 16, 112, 112)
    assert torch.equal(found(clips), original(clips))
    assert "the file does not say how its pixels were prepared" in " ".join(found.provenance["notes"])


@pytest.mark.parametrize("file", ["v1.model", "v2.model.index", "model.h5", "model.keras", "model.weights.h5"])
def test_files_that_tensorflow_and_keras_wrote(file: str) -> None:
    expected = np.load(GOLDEN / "expected.npz")
    clip = np.random.default_rng(1).standard_normal((1, 16, 112, 112, 3), dtype=np.float32)
    found = import_weights(GOLDEN / file)
    activations = found.activations(torch.from_numpy(clip).permute(0, 4, 1, 2, 3).contiguous(), expected.files)
    for name in expected.files:
        error = np.linalg.norm(activations[name].detach().numpy() - expected[name]) / np.linalg.norm(expected[name])
        assert error < 1e-5, name


def test_rows_of_the_one_tensorflow_file_that_differs(tmp_path: Path) -> None:
    original = arrays_of(network())
    tensorflow(original, tmp_path / "arrays.npz")
    turned = dict(np.load(tmp_path / "arrays.npz"))
    turned["var_name/wd1"] = original["fc6"][0].T
    np.savez(tmp_path / "finetuned.npz", **turned)
    assert np.array_equal(
        import_weights(tmp_path / "finetuned.npz", fc6_rows="chw").fc6.weight.detach(), original["fc6"][0]
    )
    assert not np.array_equal(import_weights(tmp_path / "finetuned.npz").fc6.weight.detach(), original["fc6"][0])
    davidea(original, tmp_path / "c3d.pickle")
    with pytest.raises(UsageError, match="`fc6_rows=` is for TensorFlow files"):
        import_weights(tmp_path / "c3d.pickle", fc6_rows="chw")


@pytest.mark.parametrize(("pads", "ceil", "rule"), [((0,) * 6, 1, "ceil"), ((0, 0, 0, 0, 1, 1), 0, "ceil")])
def test_pool5_rule_is_read_off_the_graph(pads: tuple[int, ...], ceil: int, rule: str, tmp_path: Path) -> None:
    onnx_graph(arrays_of(network()), tmp_path / "c3d.onnx", pads, ceil)
    assert import_weights(tmp_path / "c3d.onnx").architecture["pool5"] == rule


def test_four_hundred_classes_are_gluoncvs(tmp_path: Path) -> None:
    onnx_graph(arrays_of(network(num_classes=400)), tmp_path / "c3d.onnx")
    found = import_weights(tmp_path / "c3d.onnx")
    assert (found.profile.name, found.profile.channel_order, found.profile.std) == (
        "gluoncv",
        "rgb",
        (0.229, 0.224, 0.225),
    )


@pytest.mark.parametrize(("write", "rename"), [(jfzhang, "vgg"), (mmaction2, "mmaction")])
def test_files_without_a_last_layer(write: Any, rename: str, tmp_path: Path) -> None:
    original = arrays_of(network())
    names = {
        "vgg": lambda name: VGG[LAYERS.index(name)],
        "mmaction": lambda name: mmaction_name(name).removeprefix("backbone."),
    }
    torch.save(tensors(original, names[rename], skip=("fc8",)), tmp_path / "pretrain.pth")
    found = import_weights(tmp_path / "pretrain.pth")
    assert found.architecture["num_classes"] == 487
    assert not found.fc8.weight.any()
    assert found.classes == ()
    assert "the file has no last layer" in " ".join(found.provenance["notes"])
    assert np.array_equal(found.fc7.weight.detach(), original["fc7"][0])


def test_network_of_the_depth_study(tmp_path: Path) -> None:
    original = C3D(num_classes=4, stages=((2,),) * 5, temporal_depths=(7, 5, 5, 3, 1), fc_width=6).eval()
    caffe(arrays_of(original), tmp_path / "small")
    found = import_weights(tmp_path / "small")
    assert found.architecture["temporal_depths"] == [7, 5, 5, 3, 1]
    clips = torch.randn(1, 3, 16, 112, 112)
    assert torch.equal(found(clips), original(clips))


def test_half_precision_becomes_float32(tmp_path: Path) -> None:
    halves = {name: array.half() for name, array in tensors(arrays_of(network())).items()}
    torch.save(halves, tmp_path / "half.pth")
    found = import_weights(tmp_path / "half.pth")
    assert found.conv1a.weight.dtype == torch.float32
    assert torch.equal(found.conv1a.weight, halves["conv1a.weight"].float())


# ---- profiles, means and class names


def test_mean_volumes(tmp_path: Path) -> None:
    caffe(arrays_of(network()), tmp_path / "model")
    volume = np.random.default_rng(0).uniform(80, 120, (3, 16, 128, 171)).astype(np.float32)
    write_blob(tmp_path / "mean.binaryproto", volume)
    np.save(tmp_path / "mean.npy", volume[None].astype(np.float64))
    for name in ("mean.binaryproto", "mean.npy"):
        found = import_weights(tmp_path / "model", mean=tmp_path / name)
        assert found.profile.name == "caffe"
        assert found.mean_volume is not None
        assert np.array_equal(found.mean_volume, volume)


@pytest.mark.oracle
def test_published_mean_files(reference: Path) -> None:
    bz2 = read_mean(reference / "data" / "mean" / "train01_16_128_171_mean.npy.bz2")
    assert bz2.shape == (3, 16, 128, 171)
    assert np.allclose(bz2.mean((1, 2, 3)), (90.25, 97.66, 101.41), atol=0.01)
    crop = np.load(reference / "data" / "mean" / "crop_mean.npy")
    assert np.allclose(bz2[:, :, 8:120, 29:141].transpose(1, 2, 3, 0), crop)
    i380k = read_mean(reference / "data" / "mean" / "fb_train16_128_mean.binaryproto")
    assert i380k.shape == (3, 16, 128, 128)
    assert np.allclose(i380k.mean((1, 2, 3)), (105.70, 115.76, 127.54), atol=0.01)


def test_a_mean_volume_chooses_the_profile_that_it_fits(tmp_path: Path) -> None:
    np.save(tmp_path / "mean.npy", np.full((3, 16, 128, 171), 100.0))
    np.save(tmp_path / "square.npy", np.full((3, 16, 128, 128), 100.0))
    np.save(tmp_path / "odd.npy", np.full((3, 16, 112, 112), 100.0))
    arrays = arrays_of(network())
    davidea(arrays, tmp_path / "davidea")
    jfzhang(arrays, tmp_path / "vip")
    caffe(arrays, tmp_path / "caffe")
    found = import_weights(tmp_path / "davidea", mean=tmp_path / "mean.npy")
    assert (found.profile.name, found.architecture["pool5"]) == ("caffe", "ceil")
    found = import_weights(tmp_path / "vip", mean=tmp_path / "mean.npy")
    assert (found.profile.name, found.profile.mean, found.architecture["pool5"]) == (
        "jfzhang_volume",
        "volume",
        "symmetric",
    )
    assert import_weights(tmp_path / "caffe", mean=tmp_path / "square.npy").profile.name == "i380k"
    with pytest.raises(
        UsageError, match=r"mean volume is \(3, 16, 112, 112\), and profile 'caffe' makes frames of 128 x 171"
    ):
        import_weights(tmp_path / "caffe", mean=tmp_path / "odd.npy")


def test_the_profile_asked_for_decides_the_pool5_rule(tmp_path: Path) -> None:
    davidea(arrays_of(network()), tmp_path / "c3d.pickle")
    np.save(tmp_path / "mean.npy", np.full((3, 16, 128, 171), 100.0))
    found = import_weights(tmp_path / "c3d.pickle", profile="caffe", mean=tmp_path / "mean.npy")
    assert (found.profile.name, found.architecture["pool5"]) == ("caffe", "ceil")
    with pytest.raises(UsageError, match="profile 'caffe' subtracts a mean volume: give its file as `mean=`"):
        import_weights(tmp_path / "c3d.pickle", profile="caffe")
    with pytest.raises(UsageError, match="unknown profile 'cafe'; there are caffe, "):
        import_weights(tmp_path / "c3d.pickle", profile="cafe")


@pytest.mark.parametrize(
    ("num_classes", "some", "mean"),
    [
        (487, {0: "boomerang"}, "caffe_channel_mean"),
        (101, {0: "ApplyEyeMakeup", 100: "YoYo"}, "caffe_ucf101_channel_mean"),
    ],
)
def test_class_names_that_belong_to_the_number(
    num_classes: int, some: dict[int, str], mean: str, tmp_path: Path
) -> None:
    caffe(arrays_of(network(num_classes=num_classes)), tmp_path / "model")
    found = import_weights(tmp_path / "model")
    assert len(set(found.classes)) == num_classes
    assert {index: found.classes[index] for index in some} == some
    assert found.profile.name == mean


def test_own_class_names(tmp_path: Path) -> None:
    caffe(arrays_of(network()), tmp_path / "model")
    (tmp_path / "names.txt").write_text("1 a b\n2 c\n3 d\n4 e\n5 f\n")
    assert import_weights(tmp_path / "model", classes=tmp_path / "names.txt").classes == ("a b", "c", "d", "e", "f")
    (tmp_path / "few.txt").write_text("a\nb\n")
    with pytest.raises(UsageError, match=r"has 2 class names, the network has 5 classes"):
        import_weights(tmp_path / "model", classes=tmp_path / "few.txt")
    with pytest.raises(UsageError, match="could not be read"):
        read_class_names(tmp_path / "none.txt")


def test_what_was_not_used_is_said(tmp_path: Path) -> None:
    state = tensors(arrays_of(network()), lambda name: f"module.{name}") | {"module.extra.weight": torch.zeros(2, 3)}
    torch.save({"state_dict": state, "epoch": 3, "optimizer": {}}, tmp_path / "model.pth")
    notes = import_weights(tmp_path / "model.pth").provenance["notes"]
    assert "not used: extra.weight (2, 3)" in notes
    assert "not used: epoch, optimizer" in notes


# ---- files that are refused


class Malicious:
    """Unpickling it would make a folder."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[Any, ...]:
        import os

        return os.mkdir, (str(self.proof),)


@pytest.mark.parametrize("kind", ["plain pickle", "torch", "torch before 1.6", "python 2 list", "npz"])
def test_a_malicious_pickle_runs_nothing(kind: str, tmp_path: Path) -> None:
    proof, file = tmp_path / "proof", tmp_path / "weights"
    if kind == "plain pickle":
        file.write_bytes(pickle.dumps({"conv1a.weight": Malicious(proof)}))
    elif kind == "python 2 list":
        file.write_bytes(pickle.dumps([np.zeros(3), Malicious(proof)], protocol=0))
    elif kind == "npz":
        with file.open("wb") as opened:
            np.savez(opened, **{"conv1a.weight": np.array(Malicious(proof), dtype=object)})
    else:
        torch.save({"a": Malicious(proof)}, file, _use_new_zipfile_serialization=kind == "torch")
    with pytest.raises(WeightsError) as caught:
        import_weights(file)
    assert not proof.exists()
    if kind == "npz":
        assert "not Python objects" in str(caught.value)
    else:
        assert isinstance(caught.value, UnsafePickleError)
        assert "calls for posix.mkdir" in str(caught.value).replace("nt.mkdir", "posix.mkdir")
        assert "can run any code" in str(caught.value)


def test_a_pickled_module_and_a_script_are_refused(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "module.pth")
    with pytest.raises(UnsafePickleError, match=r"calls for torch.nn.modules.linear.Linear"):
        import_weights(tmp_path / "module.pth")


def broken(kind: str, path: Path) -> None:
    arrays = arrays_of(network())
    weight, bias = arrays["conv3b"]
    if kind == "wrong shape":
        arrays["conv3b"] = (weight[:, :2], bias)
    elif kind == "NaN":
        arrays["conv3b"] = (np.where(weight == weight.max(), np.nan, weight), bias)
    elif kind == "no bias":
        state = tensors(arrays)
        del state["conv3b.bias"]
        torch.save(state, path)
        return
    elif kind == "fc6 of another clip":
        arrays["fc6"] = (np.zeros((7, 6 * 25), np.float32), arrays["fc6"][1])
    elif kind == "another network":
        torch.save({"layer1.0.weight": torch.zeros(3, 3)}, path)
        return
    caffe(arrays, path)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("wrong shape", r"conv3b.weight is \(3, 2, 3, 3, 3\), expected \(3, 4, 3, 3, 3\)"),
        ("NaN", r"conv3b.weight holds 1 values that are not finite"),
        ("no bias", r"conv3b.bias is missing"),
        ("fc6 of another clip", r"fc6 takes 150 inputs of 6 channels, so 25 per channel; .* 16 .* or 9"),
        ("another network", r"is of another network: conv1a.weight, .* missing .* it has no array of C3D"),
    ],
)
def test_arrays_that_do_not_fit(kind: str, message: str, tmp_path: Path) -> None:
    broken(kind, tmp_path / "weights")
    with pytest.raises(WeightsError, match=message):
        import_weights(tmp_path / "weights")


@pytest.mark.parametrize(
    "write",
    [caffe, davidea, jfzhang, safetensors, lasagne, keras_theano, tensorflow, onnx_graph],
    ids=lambda write: write.__name__,
)
def test_cut_short(write: Any, tmp_path: Path) -> None:
    write(arrays_of(network()), tmp_path / "whole")
    content = (tmp_path / "whole").read_bytes()
    for name, part in (("half", content[: len(content) // 2]), ("nearly", content[:-60])):
        (tmp_path / name).write_bytes(part)
        with pytest.raises(WeightsError, match=r"damaged|cut short|another network|missing|expected"):
            import_weights(tmp_path / name)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html><html>Quota exceeded</html>", "is a text or web page, not weights"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "is a text or web page, not weights"),
        (b"hello, these are no weights", "is of no known weights format; there are Caffe models, PyTorch"),
        (b"\x12\x01\x00\x00\x00\x00\x00\x00rest", "is an MXNet parameter file; import GluonCV's ONNX"),
        (b"\x04\x00\x00\x00\x01\x00\x00\x00rest", "is a Torch7 file"),
        (pickle.dumps([1, 2, 3], protocol=2), "a list of 3 things, 0 of them arrays"),
        (pickle.dumps({"a": 1}, protocol=2), "no arrays in it: it holds a mapping with the keys a"),
        (b"\x0a\x03c3d", "holds no layer of a Caffe model"),
    ],
)
def test_files_that_are_no_weights(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(WeightsError, match=message):
        import_weights(tmp_path / "file")


@pytest.mark.parametrize(("module", "write"), [("h5py", keras_theano), ("onnx", onnx_graph)])
def test_a_missing_extra_is_named(module: str, write: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(arrays_of(network()), tmp_path / "file")
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=rf'{module} is not installed; run: pip install "c3dvideo\['):
        import_weights(tmp_path / "file")


def test_paths_that_are_no_weights_files(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read: it does not exist"):
        import_weights(tmp_path / "none")
    with pytest.raises(UsageError, match="is a folder, not a weights file"):
        import_weights(tmp_path)
    with pytest.raises(UsageError, match=r"mean file .* cannot be read"):
        read_mean(tmp_path / "none")


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((16, 3, 128, 171)), r"holds an array \(16, 3, 128, 171\); expected \(3, T, H, W\)"),
        (np.full((3, 16, 128, 171), np.nan), "not finite"),
    ],
)
def test_means_that_are_refused(array: np.ndarray, message: str, tmp_path: Path) -> None:
    np.save(tmp_path / "mean.npy", array)
    with pytest.raises(WeightsError, match=message):
        read_mean(tmp_path / "mean.npy")
    (tmp_path / "cut.npy").write_bytes((tmp_path / "mean.npy").read_bytes()[:1000])
    with pytest.raises(WeightsError, match="cut short"):
        read_mean(tmp_path / "cut.npy")


def test_a_checkpoint_without_its_data_file(tmp_path: Path) -> None:
    (tmp_path / "v2.model.index").write_bytes((GOLDEN / "v2.model.index").read_bytes())
    with pytest.raises(WeightsError, match=r"data file v2.model.data-00000-of-00001 is not beside it"):
        import_weights(tmp_path / "v2.model.index")


class MessageHub:
    """As a training framework stores beside the weights: a class that this package does not have."""

    def __init__(self) -> None:
        self.scalars = {"loss": [1.0, 0.5]}


@pytest.mark.parametrize("zipped", [True, False])
def test_objects_beside_the_state_dict_of_a_checkpoint_are_left_out(zipped: bool, tmp_path: Path) -> None:
    original = arrays_of(network())
    davidea(original, tmp_path / "plain.pickle")
    state = torch.load(tmp_path / "plain.pickle", weights_only=True)
    whole = {"meta": {"epoch": 3}, "state_dict": state, "message_hub": MessageHub(), "history": [MessageHub()]}
    torch.save(whole, tmp_path / "epoch_3.pth", _use_new_zipfile_serialization=zipped)
    found = import_weights(tmp_path / "epoch_3.pth")
    assert np.array_equal(found.fc6.weight.detach(), original["fc6"][0])
    assert "message_hub" in " ".join(found.provenance["notes"])


def test_an_object_inside_the_state_dict_is_refused(tmp_path: Path) -> None:
    proof = tmp_path / "ran"
    torch.save({"state_dict": {"conv1a.weight": Malicious(proof)}}, tmp_path / "bad.pth")
    with pytest.raises(UnsafePickleError, match=r"calls for (posix|nt)\.mkdir"):
        import_weights(tmp_path / "bad.pth")
    torch.save({"state_dict": {"a": torch.zeros(2)}, "optimizer": Malicious(proof)}, tmp_path / "beside.pth")
    with pytest.raises(WeightsError, match="another network"):
        import_weights(tmp_path / "beside.pth")
    assert not proof.exists()


def test_a_damaged_pickle_of_any_kind_is_a_weights_error(tmp_path: Path) -> None:
    davidea(arrays_of(network()), tmp_path / "whole.pth")
    whole = (tmp_path / "whole.pth").read_bytes()
    plain = pickle.dumps({"conv1a.weight": np.zeros((2, 3, 3, 3, 3), np.float32)}, protocol=2)
    generator = np.random.default_rng(0)
    for content in (whole, plain):
        for _ in range(60):
            damaged = bytearray(content)
            for place in generator.integers(0, min(len(damaged), 4000), 8):
                damaged[place] = generator.integers(256)
            (tmp_path / "damaged").write_bytes(damaged[: generator.integers(1, len(damaged) + 1)])
            try:
                import_weights(tmp_path / "damaged")
            except (WeightsError, UsageError) as error:
                assert str(error)


def test_an_onnx_graph_whose_arrays_lie_in_a_missing_file(tmp_path: Path) -> None:
    onnx_graph(arrays_of(network()), tmp_path / "inside.onnx")
    model = onnx.load(str(tmp_path / "inside.onnx"))
    onnx.save(model, str(tmp_path / "split.onnx"), save_as_external_data=True, location="data.bin", size_threshold=0)
    (tmp_path / "data.bin").unlink()
    with pytest.raises(WeightsError, match="arrays lie in another file"):
        import_weights(tmp_path / "split.onnx")


def test_a_mean_that_unpacks_to_gigabytes_is_refused_early(tmp_path: Path) -> None:
    (tmp_path / "mean.npy.bz2").write_bytes(10 * bz2.compress(bytes(40 << 20)))  # streams in a row are one file
    assert (tmp_path / "mean.npy.bz2").stat().st_size < 4000
    with pytest.raises(WeightsError, match="is not a mean volume"):
        read_mean(tmp_path / "mean.npy.bz2")
