"""Weights folders: `model.safetensors` + `config.json`, and nothing that could run code.

    network = load_weights("my_weights")            # a folder, a hub id "owner/name", a published name, None = default
    save_folder(network, "copy")

The safetensors file holds the state dict under its own names and, where the profile needs one, the mean volume under
"mean_volume". The config holds `architecture` (the arguments of C3D), `classes`, `profile` (every field), `provenance`
and `sha256` (one a layer array, of its float32 bytes in C order), which is compared on every load.
"""

import hashlib
import json
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from c3dvideo.choices import StoredPrecision
from c3dvideo.errors import DownloadError, UsageError, WeightsError
from c3dvideo.video.preprocess import Profile

if TYPE_CHECKING:
    from c3dvideo.network.c3d import C3D

MODEL, CONFIG, MEAN = "model.safetensors", "config.json", "mean_volume"
EMBEDDED = Path(__file__).parent / "embedded"
Network = TypeVar("Network", bound="C3D")


def save_folder(network: "C3D", directory: str | Path, *, precision: StoredPrecision = "fp32") -> None:
    """Write the network as a weights folder; the two files appear complete or not at all.

    precision: "fp16" stores half the bytes; what is loaded is then float32 of the rounded numbers.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    dtype = torch.float16 if precision == "fp16" else torch.float32
    tensors = {name: array.to(dtype) for name, array in _arrays(network).items()}
    config = {
        "architecture": network.architecture,
        "classes": list(network.classes),
        "profile": network.profile.to_dict(),
        "provenance": network.provenance,
        "sha256": digests(tensors),
    }
    model, text = (directory / f".{name}.{os.getpid()}" for name in (MODEL, CONFIG))
    try:
        save_file(tensors, model, metadata={"format": "pt"})
        text.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        model.chmod(text.stat().st_mode)  # safetensors writes files that only their owner may read
        model.replace(directory / MODEL)
        text.replace(directory / CONFIG)
    finally:
        model.unlink(missing_ok=True)
        text.unlink(missing_ok=True)


def load_folder(kind: type[Network], directory: str | Path, *, num_classes: int | None = None) -> Network:
    """The network of a weights folder, in evaluation mode.

    num_classes: asks for that many outputs; where the folder has another number, the last layer is drawn anew and a
        warning says so.
    Raises WeightsError when a file is missing or damaged, or when an array has the wrong shape, is not finite, or is
    not the one that the config was written for.
    """
    directory = Path(directory)
    config = read_config(directory)
    tensors = read_tensors(directory)
    network = assemble(kind, config["architecture"], tensors, source=str(directory))
    found, recorded = digests(tensors), config["sha256"]
    changed = sorted(name for name in found.keys() | recorded.keys() if found.get(name) != recorded.get(name))
    if changed:
        raise WeightsError(
            f"{directory}: {', '.join(changed)} changed after the folder was written (sha256 differs from {CONFIG}); "
            "see `c3dvideo weights check`, and save with save_pretrained so that both files agree"
        )
    try:
        network.profile = Profile.from_dict(config["profile"])
    except UsageError as error:
        raise WeightsError(f"{directory / CONFIG}: {error}") from error
    network.classes = tuple(config["classes"])
    network.provenance = config["provenance"]
    if num_classes is not None and num_classes != network.architecture["num_classes"]:
        replace_head(network, num_classes)
    return network


def load_folder_or_hub(
    kind: type[Network], model_id: str, *, num_classes: int | None = None, **hub_options: Any
) -> Network:
    """The network of a weights folder, or of one on a model hub (`owner/name`).

    hub_options: revision, token, cache_dir, force_download, local_files_only, as of huggingface_hub.
    Raises UsageError for any other option, DownloadError when the hub cannot be reached or has no such weights.
    """
    unknown = hub_options.keys() - {"revision", "token", "cache_dir", "force_download", "local_files_only"}
    if unknown:
        raise UsageError(
            f"from_pretrained does not take {', '.join(sorted(unknown))}; the architecture comes from the weights "
            "(only num_classes may differ)"
        )
    if Path(model_id).is_dir():
        return load_folder(kind, model_id, num_classes=num_classes)

    import huggingface_hub

    try:
        found = [huggingface_hub.hf_hub_download(model_id, name, **hub_options) for name in (CONFIG, MODEL)]
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()
        raise DownloadError(
            f"{model_id!r} is not a folder here, and could not be fetched from the model hub: "
            f"{reason[0] if reason else type(error).__name__}. Without internet, give the path of a weights folder"
        ) from error
    return load_folder(kind, Path(found[0]).parent, num_classes=num_classes)


def assemble(
    kind: type[Network], architecture: Mapping[str, Any], tensors: Mapping[str, Tensor], *, source: str
) -> Network:
    """A network in evaluation mode with exactly these float32 tensors; the mean volume may be among them.

    Raises WeightsError that names every missing, unknown, misshapen or not finite array.
    """
    try:
        with torch.device("meta"):
            network = kind(**architecture)
    except (TypeError, KeyError, UsageError) as error:
        raise WeightsError(f"{source} describes no C3D network: {error}") from error
    faults = array_faults({name: tuple(array.shape) for name, array in network.state_dict().items()}, tensors)
    if faults:
        raise WeightsError(f"{source} does not fit its network: {'; '.join(faults)}")
    network.load_state_dict({name: array for name, array in tensors.items() if name != MEAN}, assign=True)
    network.mean_volume = tensors[MEAN].numpy() if MEAN in tensors else None
    return network.eval()


def array_faults(expected: Mapping[str, tuple[int, ...]], tensors: Mapping[str, Tensor]) -> list[str]:
    """One sentence for every array that is missing, unknown, of another shape, or not finite."""
    faults = [f"{name} is missing" for name in expected if name not in tensors]
    for name, array in tensors.items():
        if name not in expected and name != MEAN:
            faults.append(f"{name} {tuple(array.shape)} belongs to another network")
        elif name != MEAN and tuple(array.shape) != expected[name]:
            faults.append(f"{name} is {tuple(array.shape)}, expected {expected[name]}")
        elif not (finite := torch.isfinite(array)).all():
            faults.append(f"{name} holds {int((~finite).sum())} values that are not finite")
    return faults


def replace_head(network: "C3D", num_classes: int) -> None:
    """Give the network a last layer of `num_classes` outputs, drawn anew, and warn that it is untrained."""
    before = network.architecture["num_classes"]
    fresh = type(network)(**{**network.architecture, "num_classes": num_classes}).head
    network.architecture["num_classes"] = num_classes
    network.classes = ()
    setattr(network, network.architecture["last_layer"], fresh)
    warnings.warn(
        f"these weights have {before} classes and {num_classes} were asked for: the last layer "
        f"({network.architecture['last_layer']}) and the class names were dropped, the new layer is untrained",
        stacklevel=2,
    )


def read_config(directory: Path) -> dict[str, Any]:
    """The config of a weights folder; raises WeightsError when it is missing, damaged or incomplete."""
    path = directory / CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise WeightsError(
            f"{directory} is not a weights folder: it has no {CONFIG}; make one with `c3dvideo weights import`"
        ) from error
    except (ValueError, OSError) as error:
        raise WeightsError(f"{path} cannot be read as JSON: {error}") from error
    kinds = {"architecture": dict, "classes": list, "profile": dict, "provenance": dict, "sha256": dict}
    found: dict[str, Any] = config if isinstance(config, dict) else {}
    missing = [key for key, kind in kinds.items() if not isinstance(found.get(key), kind)]
    if missing:
        raise WeightsError(f"{path} is not a config of c3dvideo: it lacks {', '.join(missing)}")
    return found


def read_tensors(directory: Path) -> dict[str, Tensor]:
    """Every array of a weights folder as float32; raises WeightsError when the file is missing or cut short."""
    path = directory / MODEL
    try:
        # Copies: arrays that lie where the file put them are not aligned, which changes the last bit of products.
        return {name: array.to(torch.float32, copy=True) for name, array in load_file(path).items()}
    except FileNotFoundError as error:
        raise WeightsError(f"{directory} is not a weights folder: it has no {MODEL}") from error
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} is damaged or cut short, fetch or import it again: {error}") from error


def digests(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """sha256 of every array's float32 bytes (C order, little endian), by name."""
    return {
        name: hashlib.sha256(np.ascontiguousarray(array.detach().float().cpu().numpy(), "<f4").data).hexdigest()
        for name, array in sorted(tensors.items())
    }


def fingerprint(network: "C3D") -> str:
    """One sha256 of everything that decides activations: arrays, mean volume and architecture.

    The dropout and filler of the architecture matter in training only and are left out.
    """
    architecture = {key: value for key, value in network.architecture.items() if key not in ("dropout", "filler")}
    facts = {"architecture": architecture, "sha256": digests(_arrays(network))}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _arrays(network: "C3D") -> dict[str, Tensor]:
    """The state dict and, where there is one, the mean volume; contiguous tensors on the CPU."""
    arrays = {name: array.detach().cpu().contiguous() for name, array in network.state_dict().items()}
    if network.mean_volume is not None:
        arrays[MEAN] = torch.from_numpy(np.ascontiguousarray(network.mean_volume, np.float32))
    return arrays
