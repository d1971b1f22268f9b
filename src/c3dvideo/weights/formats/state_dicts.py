"""Convert the names of each project to ours: `conv1a.weight` ... `fc8.bias`.

    found = from_state_dict(torch_tensors)
    found.layout, found.profile.name, sorted(found.arrays)

Files of Caffe, PyTorch and Chainer, whose layers have names. `layer_order` converts those without.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from c3dvideo.errors import WeightsError
from c3dvideo.video.preprocess import CAFFE, PROFILES, Profile
from c3dvideo.weights.formats.caffe import read_model
from c3dvideo.weights.formats.found_arrays import ASSUMED, CONVOLUTIONS, DENSE, PORT, Array, Found, numpy_array, unused
from c3dvideo.weights.formats.layer_order import from_lasagne, from_tensorflow
from c3dvideo.weights.formats.pickles import STATE_DICT_KEYS

_WRAPPERS = ("module.", "backbone.", "model.", "network.", "net.")


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
    return Found(layout="Caffe model of the C3D release", arrays=arrays, profile=CAFFE, notes=unused(unknown))


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
    arrays = {str(name): numpy_array(value) for name, value in items if hasattr(value, "shape")}
    wrapped += [str(name) for name, value in items if not hasattr(value, "shape")]
    if not arrays:
        raise WeightsError(f"no arrays in it: it holds {_describe(content)}")
    found = from_named_arrays(arrays)
    if "opt_dict" in wrapped and found.layout.startswith("DavideA"):  # jfzhang95's script has the same layer names
        found = replace(found, layout="checkpoint of jfzhang95's training", profile=PROFILES["jfzhang"])
    return replace(found, notes=(*found.notes, *unused(wrapped)))


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
        notes=(*notes, *unused(unknown)),
    )


def _project(bare: Mapping[str, Array]) -> tuple[str, Profile, tuple[str, ...]]:
    """The project of a state dict, recognised by its names, the project's profile, and notes on assumptions."""
    if "features.0.weight" in bare:
        return "jfzhang95 / ViP state dict", PROFILES["jfzhang"], (PORT,)
    if any(name.endswith(".conv.weight") or name.startswith("cls_head.") for name in bare):
        headless = not any(name.startswith("cls_head.") for name in bare)
        return "mmaction2 checkpoint", PROFILES["mmaction2"], (PORT,) if headless else ()
    if "out.weight" in bare:
        return "plain C3D state dict (last layer `out`)", CAFFE, (ASSUMED,)
    if "conv1.weight" in bare:
        head = bare.get("fc8.weight")
        other = "jfzhang95's training uses the same layer names: set `profile=` to jfzhang if it came from there"
        return "DavideA state dict", PROFILES["davidea"], (PORT if head is None or len(head) == 487 else other,)
    return "state dict", CAFFE, (ASSUMED,)


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


def _describe(content: object) -> str:
    if isinstance(content, Mapping):
        return f"a mapping with the keys {', '.join(map(str, list(content)[:8])) or '(none)'}"
    return f"a {type(content).__name__}"
