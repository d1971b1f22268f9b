"""Convert weights whose layers have names of another kind or none: their order makes them conv1a to fc8.

    found = from_keras(Path("sports1M_weights_tf.h5"))
    found.layout, found.profile.name, sorted(found.arrays)

Lasagne's list of arrays, TensorFlow's variables, Keras files and ONNX graphs. Each has its own order of axes, which
becomes ours.
"""

import io
import json
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from c3dvideo.choices import Pool5, Pool5Order
from c3dvideo.errors import MissingExtraError, WeightsError
from c3dvideo.video.preprocess import CAFFE, PROFILES
from c3dvideo.weights.formats.found_arrays import ASSUMED, CONVOLUTIONS, DENSE, PORT, Array, Found, numpy_array, unused

Pairs = list[tuple[Array, Array]]


def from_lasagne(content: Sequence[object]) -> Found:
    """Arrays of Lasagne's list W, b, W, b, ... from conv1a to fc8. Its dense weights are (in, out)."""
    arrays = [numpy_array(item) for item in content if hasattr(item, "shape")]
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
            *unused(f"{name} {array.shape}" for name, array in by_name.items() if name not in used),
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
    return Found(layout="Keras, Theano order", arrays=arrays, profile=profile, pool5=pool5, notes=(PORT,))


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
    convolutions, dense, pads = _onnx_layers(graph)
    if not convolutions:
        raise WeightsError(f"{path} is an ONNX graph without convolutions that have weights and biases")
    arrays, middle = _in_order(convolutions, dense), len(pads) // 2
    gluoncv = len(arrays.get("fc8.weight", ())) == 400
    return Found(
        layout="ONNX graph (GluonCV)" if gluoncv else "ONNX graph",
        arrays=arrays,
        profile=PROFILES["gluoncv"] if gluoncv else CAFFE,
        pool5="symmetric" if pads[middle - 2 : middle] == [1, 1] else "ceil" if pads[-2:] == [1, 1] else None,
        notes=() if gluoncv else (ASSUMED,),
    )


def _onnx_layers(graph: Any) -> tuple[Pairs, Pairs, list[int]]:
    """The convolutions and the dense layers of a graph, in its order, and the padding after the last convolution."""
    import onnx

    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    convolutions: Pairs = []
    dense: Pairs = []
    pads: list[int] = []
    for node in graph.node:
        weights = [constants[name] for name in node.input if name in constants]
        attributes = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
        if node.op_type == "Conv" and len(weights) == 2:
            convolutions.append((weights[0], weights[1]))
            pads = []
        elif node.op_type == "Gemm" and len(weights) == 2:
            dense.append((weights[0] if attributes.get("transB") else weights[0].T, weights[1]))
        elif node.op_type == "MatMul" and len(weights) == 1:  # its bias follows as a node of its own
            dense.append((weights[0].T, np.zeros(0, np.float32)))
        elif node.op_type == "Add" and len(weights) == 1 and dense and not dense[-1][1].size:
            dense[-1] = (dense[-1][0], weights[0].reshape(-1))
        elif node.op_type in ("MaxPool", "Pad"):
            given = list(attributes.get("pads", []))
            pads = given if any(given) else [0, 0, 0, 0, 1, 1] if attributes.get("ceil_mode") else pads
    return convolutions, dense, pads


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


def _natural(name: str) -> list[tuple[int, str]]:
    """Sort key in which conv3d_10 follows conv3d_9."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]
