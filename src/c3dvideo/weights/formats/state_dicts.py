"""Convert the names and axes of each project to ours: `conv1a.weight` ... `fc8.bias`, axes as in PyTorch.

    found = from_state_dict(torch_tensors)
    found.layout, found.profile.name, sorted(found.arrays)

Our axes: convolution weights (out, in, T, H, W), not flipped; fully connected weights (out, in), with the inputs of fc6
in the order C, T, H, W of pool5. The result includes the project's profile and pool5 rule, and notes on unused arrays.
"""

import io
import json
import re
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from c3dvideo.choices import Pool5, Pool5Order
from c3dvideo.errors import MissingExtraError, WeightsError
from c3dvideo.video.preprocess import CAFFE, PROFILES, Profile
from c3dvideo.weights.formats.caffe import read_model
from c3dvideo.weights.formats.pickles import STATE_DICT_KEYS

Array = np.ndarray[Any, np.dtype[Any]]
Pairs = list[tuple[Array, Array]]

CONVOLUTIONS = {
    8: ("conv1a", "conv2a", "conv3a", "conv3b", "conv4a", "conv4b", "conv5a", "conv5b"),
    5: ("conv1a", "conv2a", "conv3a", "conv4a", "conv5a"),
}
DENSE = ("fc6", "fc7", "fc8")
_ASSUMED = (
    "the file does not say how its pixels were prepared: the release's profile was assumed (`profile=` names another)"
)
_PORT = (
    "profile and pool5 rule are this project's; the network was trained by the release, whose features need "
    "profile caffe and the mean volume as `mean=`"
)
_WRAPPERS = ("module.", "backbone.", "model.", "network.", "net.")


@dataclass(frozen=True, kw_only=True)
class Found:
    """Arrays of a recognised file under our names, and its project's preprocessing.

    pool5: the rule, if the file states it. plain: the last layer is named `out`, as in `c3d_plain`.
    notes: one sentence per assumption and per list of unused arrays. source: the file, for messages.
    """

    layout: str
    arrays: dict[str, Array]
    profile: Profile
    pool5: Pool5 | None = None
    plain: bool = False
    notes: tuple[str, ...] = ()
    source: str = ""


def from_caffe(path: Path) -> Found:
    """Arrays of the release's Caffe files. The Sports-1M model has the layer names fc6-1, fc7-1 and fc8-1."""
    arrays: dict[str, Array] = {}
    unknown = []
    for name, blobs in read_model(path).items():
        ours = re.sub(r"-\d+$", "", name)
        if len(blobs) != 2 or ours not in (*CONVOLUTIONS[8], *DENSE):
            unknown.append(f"layer {name} ({', '.join(str(blob.shape) for blob in blobs)})")
            continue
        weight, bias = blobs
        arrays[f"{ours}.weight"] = weight if ours.startswith("conv") else weight.reshape(weight.shape[-2:])
        arrays[f"{ours}.bias"] = bias.reshape(-1)
    return Found(layout="Caffe model of the C3D release", arrays=arrays, profile=CAFFE, notes=_unused(unknown))


def from_checkpoint(content: object) -> Found:
    """Arrays of a PyTorch file or plain pickle: a state dict, possibly nested in others, or a list of arrays."""
    wrapped: list[str] = []
    while isinstance(content, Mapping):
        inner = next((key for key in STATE_DICT_KEYS if isinstance(content.get(key), Mapping | list)), None)
        if inner is None:
            break
        wrapped += [str(key) for key in content if key != inner]
        content = content[inner]
    if isinstance(content, list | tuple):
        return from_lasagne(content)
    items = content.items() if isinstance(content, Mapping) else ()
    arrays = {str(name): _numpy(value) for name, value in items if hasattr(value, "shape")}
    wrapped += [str(name) for name, value in items if not hasattr(value, "shape")]
    if not arrays:
        raise WeightsError(f"no arrays in it: it holds {_describe(content)}")
    found = from_named_arrays(arrays)
    if "opt_dict" in wrapped and found.layout.startswith("DavideA"):  # jfzhang95's script has the same layer names
        found = replace(found, layout="checkpoint of jfzhang95's training", profile=PROFILES["jfzhang"])
    return replace(found, notes=(*found.notes, *_unused(wrapped)))


def from_named_arrays(arrays: Mapping[str, Array]) -> Found:
    """Arrays of a flat mapping of names: TensorFlow's variables, or a state dict of PyTorch or Chainer."""
    if any(name.rsplit("/", 1)[-1] == "wc1" for name in arrays):
        return from_tensorflow(arrays)
    return from_state_dict({_chainer_name(name): array for name, array in arrays.items()})


def from_state_dict(tensors: Mapping[str, Array]) -> Found:
    """Arrays of a state dict of this package, the plain network, DavideA, jfzhang95, ViP or mmaction2."""
    bare = {_unwrapped(name): array for name, array in tensors.items()}
    layout, profile, notes = _project(bare)
    renamed = _vgg_names(bare) if any(name.startswith("features.") for name in bare) else {}
    arrays: dict[str, Array] = {}
    unknown = []
    for name, array in bare.items():
        ours = renamed.get(name) or _our_name(name)
        if ours is None:
            unknown.append(f"{name} {array.shape}")
        elif ours in arrays:
            raise WeightsError(f"two arrays have the name {ours} in this package; one of them is {name}")
        else:
            arrays[ours] = array
    return Found(
        layout=layout,
        arrays=arrays,
        profile=profile,
        plain="out.weight" in bare,
        notes=(*notes, *_unused(unknown)),
    )


def from_lasagne(content: Sequence[object]) -> Found:
    """Arrays of Lasagne's list W, b, W, b, ... from conv1a to fc8. Its dense weights are (in, out)."""
    arrays = [_numpy(item) for item in content if hasattr(item, "shape")]
    if len(arrays) != len(content) or len(arrays) % 2:
        raise WeightsError(f"a list of {len(content)} things, {len(arrays)} of them arrays; expected weight, bias, ...")
    pairs = list(zip(arrays[::2], arrays[1::2], strict=True))
    convolutions = [pair for pair in pairs if pair[0].ndim == 5]
    dense = [(weight.T, bias) for weight, bias in pairs if weight.ndim == 2]
    return Found(layout="Lasagne list of arrays", arrays=_in_order(convolutions, dense), profile=CAFFE)


def from_tensorflow(variables: Mapping[str, Array], *, rows: Pool5Order = "hwc") -> Found:
    """Arrays of variables wc1 ... wc5b, wd1, wd2, wout and biases: (T, H, W, in, out) and (in, out), channels last.

    rows: order of the rows of wd1; H, W, C in all published files except sports1m_finetuning_ucf101.model.
    """
    by_name = {name.rsplit("/", 1)[-1]: array for name, array in variables.items()}
    pairs: dict[str, tuple[Array, Array]] = {}
    for name, array in by_name.items():
        if (match := re.fullmatch(r"w(c\d[ab]?|d\d|out)", name)) and f"b{match[1]}" in by_name:
            pairs[match[1]] = (array, by_name[f"b{match[1]}"])
    used = {f"{kind}{name}" for name in pairs for kind in "wb"}
    convolutions = [pairs[name] for name in sorted(pairs) if name.startswith("c")]
    dense = [pairs[name] for name in ("d1", "d2", "out") if name in pairs]
    return Found(
        layout="TensorFlow variables (hx173149)",
        arrays=_in_order(*_channels_first(convolutions, dense, rows)),
        profile=CAFFE,
        notes=(
            f"the rows of wd1 were assumed in the order {', '.join(rows.upper())} (`fc6_rows=` sets another)",
            *_unused(f"{name} {array.shape}" for name, array in by_name.items() if name not in used),
        ),
    )


def from_keras(path: Path) -> Found:
    """Arrays of Keras weights or models, HDF5 or .keras, in TensorFlow order or Theano order (flipped kernels)."""
    try:
        import h5py
    except ImportError as error:
        raise MissingExtraError("h5py", "hdf5") from error
    source: Path | io.BytesIO = path
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            source = io.BytesIO(archive.read("model.weights.h5"))
    layers: dict[str, list[Array]] = {}
    with h5py.File(source, "r") as file:
        pool5 = _keras_pool5(file.attrs.get("model_config"))

        def collect(name: object, item: object) -> None:
            if isinstance(item, h5py.Dataset) and item.ndim in (1, 2, 5) and not str(name).startswith("optimizer"):
                layers.setdefault(str(name).rsplit("/", 1)[0], []).append(np.asarray(item))

        file.visititems(collect)
    pairs = [sorted(layers[name], key=lambda array: -array.ndim) for name in sorted(layers, key=_natural)]
    convolutions = [(pair[0], pair[1]) for pair in pairs if len(pair) == 2 and pair[0].ndim == 5]
    dense = [(pair[0], pair[1]) for pair in pairs if len(pair) == 2 and pair[0].ndim == 2]
    if not convolutions or not dense:
        raise WeightsError(f"{path} is an HDF5 file without convolution and dense layers of Keras")
    if convolutions[0][0].shape[:3] == convolutions[-1][0].shape[:3]:
        arrays = _in_order(*_channels_first(convolutions, dense))
        return Found(layout="Keras, TensorFlow order", arrays=arrays, profile=PROFILES["axon"], pool5=pool5)
    flipped = [(weight[:, :, ::-1, ::-1, ::-1], bias) for weight, bias in convolutions]
    arrays = _in_order(flipped, [(weight.T, bias) for weight, bias in dense])
    profile = replace(PROFILES["axon"], name="keras_theano", pool5="symmetric")
    return Found(layout="Keras, Theano order", arrays=arrays, profile=profile, pool5=pool5, notes=(_PORT,))


def from_onnx(path: Path) -> Found:
    """Arrays of an ONNX graph: its convolutions and fully connected layers in order, and the padding of pool5."""
    try:
        import onnx
    except ImportError as error:
        raise MissingExtraError("onnx", "onnx") from error
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        graph = onnx.load(str(path)).graph
    except (OSError, onnx.checker.ValidationError) as error:
        raise WeightsError(
            f"{path} is an ONNX graph whose arrays lie in another file, which cannot be read: {error}; put that file "
            "beside it under its own name"
        ) from error
    except DecodeError as error:
        raise WeightsError(f"{path} is damaged or cut short, or is no ONNX graph: {error}") from error
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    convolutions: list[tuple[Array, Array]] = []
    dense: list[tuple[Array, Array]] = []
    pads: list[int] = []
    for node in graph.node:
        weights = [constants[name] for name in node.input if name in constants]
        attributes = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
        if node.op_type == "Conv" and len(weights) == 2:
            convolutions.append((weights[0], weights[1]))
            pads = []
        elif node.op_type == "Gemm" and len(weights) == 2:
            dense.append((weights[0] if attributes.get("transB") else weights[0].T, weights[1]))
        elif node.op_type == "MatMul" and len(weights) == 1:
            dense.append((weights[0].T, np.zeros(0, np.float32)))
        elif node.op_type == "Add" and len(weights) == 1 and dense and not dense[-1][1].size:
            dense[-1] = (dense[-1][0], weights[0].reshape(-1))
        elif node.op_type in ("MaxPool", "Pad"):
            given = list(attributes.get("pads", []))
            pads = given if any(given) else [0, 0, 0, 0, 1, 1] if attributes.get("ceil_mode") else pads
    if not convolutions:
        raise WeightsError(f"{path} is an ONNX graph without convolutions that have weights and biases")
    arrays, middle = _in_order(convolutions, dense), len(pads) // 2
    gluoncv = len(arrays.get("fc8.weight", ())) == 400
    return Found(
        layout="ONNX graph (GluonCV)" if gluoncv else "ONNX graph",
        arrays=arrays,
        profile=PROFILES["gluoncv"] if gluoncv else CAFFE,
        pool5="symmetric" if pads[middle - 2 : middle] == [1, 1] else "ceil" if pads[-2:] == [1, 1] else None,
        notes=() if gluoncv else (_ASSUMED,),
    )


def _channels_first(convolutions: Pairs, dense: Pairs, rows: Pool5Order = "hwc") -> tuple[Pairs, Pairs]:
    """Kernels (T, H, W, in, out) and dense weights (in, out) in our axes, with fc6 inputs in C, T, H, W order."""
    turned = [(weight.transpose(4, 3, 0, 1, 2), bias) for weight, bias in convolutions if weight.ndim == 5]
    straight = [(weight.T, bias) for weight, bias in dense if weight.ndim == 2]
    if turned and straight and rows == "hwc":
        weight, bias = straight[0]
        (outputs, inputs), channels = weight.shape, len(turned[-1][0])
        if inputs % channels:
            raise WeightsError(f"fc6 takes {inputs} inputs, which the {channels} channels of conv5 do not divide")
        by_cell = weight.reshape(outputs, inputs // channels, channels)
        straight[0] = (by_cell.transpose(0, 2, 1).reshape(outputs, inputs), bias)
    return turned, straight


def _in_order(convolutions: Pairs, dense: Pairs) -> dict[str, Array]:
    """Our names for layers that are in order but have no names."""
    if len(convolutions) not in CONVOLUTIONS or len(dense) not in (2, 3):
        raise WeightsError(
            f"{len(convolutions)} convolutions and {len(dense)} fully connected layers are no C3D; expected 8 (the "
            "network of the depth study 5) and 3, or 2 when the last layer was left out"
        )
    names = (*CONVOLUTIONS[len(convolutions)], *DENSE)
    pairs = dict(zip(names, (*convolutions, *dense), strict=False))
    return {
        f"{name}.{kind}": array
        for name, pair in pairs.items()
        for kind, array in zip(("weight", "bias"), pair, strict=True)
    }


def _project(bare: Mapping[str, Array]) -> tuple[str, Profile, tuple[str, ...]]:
    """The project of a state dict, recognised by its names, the project's profile, and notes on assumptions."""
    if "features.0.weight" in bare:
        return "jfzhang95 / ViP state dict", PROFILES["jfzhang"], (_PORT,)
    if any(name.endswith(".conv.weight") or name.startswith("cls_head.") for name in bare):
        headless = not any(name.startswith("cls_head.") for name in bare)
        return "mmaction2 checkpoint", PROFILES["mmaction2"], (_PORT,) if headless else ()
    if "out.weight" in bare:
        return "plain C3D state dict (last layer `out`)", CAFFE, (_ASSUMED,)
    if "conv1.weight" in bare:
        head = bare.get("fc8.weight")
        other = "jfzhang95's training uses the same layer names: set `profile=` to jfzhang if it came from there"
        return "DavideA state dict", PROFILES["davidea"], (_PORT if head is None or len(head) == 487 else other,)
    return "state dict", CAFFE, (_ASSUMED,)


def _our_name(name: str) -> str | None:
    """Our name of a state dict entry, or None when it is not a layer of C3D."""
    if match := re.fullmatch(r"conv([1-5])([a-h]?)(?:\.conv)?\.(weight|bias)", name):
        return f"conv{match[1]}{match[2] or 'a'}.{match[3]}"
    if match := re.fullmatch(r"(fc[678]|out|cls_head\.fc_cls)(?:-\d)?\.(weight|bias)", name):
        return f"{match[1] if match[1] in DENSE else 'fc8'}.{match[2]}"
    return None


def _vgg_names(bare: Mapping[str, Array]) -> dict[str, str]:
    """Our names of features.N and classifier.N. N also counts ReLUs and pools, so only the order matters."""
    names: dict[str, str] = {}
    for prefix, ours in (("features", CONVOLUTIONS), ("classifier", {2: DENSE, 3: DENSE})):
        found = sorted({int(name.split(".")[1]) for name in bare if re.fullmatch(rf"{prefix}\.\d+\.weight", name)})
        for number, layer in zip(found, ours.get(len(found), ()), strict=False):
            names |= {f"{prefix}.{number}.{kind}": f"{layer}.{kind}" for kind in ("weight", "bias")}
    return names


def _unwrapped(name: str) -> str:
    while prefix := next((each for each in _WRAPPERS if name.startswith(each)), None):
        name = name.removeprefix(prefix)
    return name


def _chainer_name(name: str) -> str:
    """The PyTorch name of a Chainer array: conv1a/W becomes conv1a.weight, conv1a/b becomes conv1a.bias."""
    parts = name.strip("/").split("/")
    kind = {"W": "weight", "b": "bias"}.get(parts[-1])
    return ".".join((*parts[:-1], kind)) if kind and len(parts) > 1 else name


def _keras_pool5(config: str | bytes | None) -> Pool5 | None:
    """The pool5 rule of a saved Keras model, from its padding layer or last pooling; None if unknown."""
    if config is None:
        return None
    layers = [layer for layer in json.loads(config)["config"]["layers"] if "padding" in layer["config"]]
    last: dict[str, Any] = next((layer for layer in reversed(layers) if "Conv" not in layer["class_name"]), {})
    padded = [layer for layer in layers if layer["class_name"] == "ZeroPadding3D"]
    if not padded:
        return "ceil" if last and last["config"]["padding"] == "same" else None
    return "symmetric" if padded[-1]["config"]["padding"][-1] in (1, [1, 1]) else "ceil"


def _numpy(value: Any) -> Array:
    """A numpy array of a tensor (of any floating type) or of any array-like value."""
    return np.asarray(value.detach().float().numpy() if hasattr(value, "detach") else value)


def _natural(name: str) -> list[tuple[int, str]]:
    """Sort key in which conv3d_10 follows conv3d_9."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def _unused(names: Iterable[str]) -> tuple[str, ...]:
    names = list(names)
    return (f"not used: {', '.join(names)}",) if names else ()


def _describe(content: object) -> str:
    if isinstance(content, Mapping):
        return f"a mapping with the keys {', '.join(map(str, list(content)[:8])) or '(none)'}"
    return f"a {type(content).__name__}"
