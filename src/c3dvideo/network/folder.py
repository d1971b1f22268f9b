"""Weights folders: `model.safetensors` + `config.json`, and nothing that could run code.

    network = load_folder(C3D, "my_weights")
    save_folder(network, "copy")

The safetensors file holds the state dict under its own names, where the profile needs one the mean volume under
"mean_volume", and optionally the mean descriptor of the training clips under "descriptor_mean". The config holds
`architecture` (the arguments of C3D), `classes`, `profile` (every field), `provenance` and `sha256` (one per array, of
its float32 bytes in C order), which is compared on every load.
"""

import hashlib
import json
import os
import threading
import warnings
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from c3dvideo.choices import StoredPrecision
from c3dvideo.errors import DownloadError, UsageError, WeightsError
from c3dvideo.files import atomic_text, writing
from c3dvideo.network.described_network import DescribedNetwork
from c3dvideo.reading import ForeignFile, read_json
from c3dvideo.video.preprocess import Profile

MODEL, CONFIG, MEAN = "model.safetensors", "config.json", "mean_volume"
DESCRIPTOR_MEAN = "descriptor_mean"
"""Mean of L2-normalised fc6 features, (fc6's width,). No activation depends on it, so neither does the fingerprint."""
BESIDE_WEIGHTS = (MEAN, DESCRIPTOR_MEAN)
"""Arrays of a weights folder that are no weights."""
EMBEDDED = Path(__file__).parent / "embedded"
HUB_SECONDS = 5.0
"""How long the model hub may take to answer at all."""
Network = TypeVar("Network", bound=DescribedNetwork)


def save_folder(network: DescribedNetwork, directory: str | Path, *, precision: StoredPrecision = "fp32") -> None:
    """Write the network as a weights folder; the two files appear complete or not at all.

    precision: "fp16" stores half the bytes; what is loaded is then float32 of the rounded numbers.
    """
    directory = Path(directory)
    dtype = torch.float16 if precision == "fp16" else torch.float32
    arrays = _arrays(network)
    if network.descriptor_mean is not None:
        arrays[DESCRIPTOR_MEAN] = torch.from_numpy(np.ascontiguousarray(network.descriptor_mean, np.float32))
    tensors = {name: array.to(dtype) for name, array in arrays.items()}
    config = {
        "architecture": network.architecture,
        "classes": list(network.classes),
        "profile": network.profile.to_dict(),
        "provenance": network.provenance,
        "sha256": digests(tensors),
    }
    with writing(directory, error=WeightsError):
        directory.mkdir(parents=True, exist_ok=True)
        model = directory / f".{MODEL}.{os.getpid()}"
        try:
            save_file(tensors, model, metadata={"format": "pt"})
            model.chmod(0o666 & ~_umask())  # safetensors writes files that only their owner may read
            model.replace(directory / MODEL)
        except SafetensorError as error:
            raise WeightsError(f"{directory / MODEL} could not be written: {error}; nothing was left behind") from error
        finally:
            model.unlink(missing_ok=True)
    with atomic_text(directory / CONFIG, error=WeightsError) as text:
        text.write(json.dumps(config, indent=2, ensure_ascii=False) + "\n")


def _umask() -> int:
    """The permissions that this process withholds from new files."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def load_folder(kind: type[Network], directory: str | Path, *, num_classes: int | None = None) -> Network:
    """The network of a weights folder, in evaluation mode.

    num_classes: the number of outputs wanted; where the folder has another number, the last layer is drawn anew and a
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
    except (UsageError, TypeError, ValueError) as error:
        raise WeightsError(f"{directory / CONFIG}: {error}") from error
    network.classes = tuple(config["classes"])
    network.provenance = config["provenance"]
    if num_classes is not None and num_classes != network.architecture["num_classes"]:
        replace_head(network, num_classes)
    return network


def load_folder_or_hub(
    kind: type[Network], model_id: str, *, num_classes: int | None = None, **hub_options: Any
) -> Network:
    """The network of a weights folder, of the embedded weights ("embedded"), or of a model hub ("owner/name").

    hub_options: revision, token, cache_dir, force_download, local_files_only, as of huggingface_hub.
    Raises UsageError for any other option and for a path into a folder that exists, DownloadError when the hub cannot
    be reached or has no such weights.
    """
    unknown = hub_options.keys() - {"revision", "token", "cache_dir", "force_download", "local_files_only"}
    if unknown:
        raise UsageError(
            f"from_pretrained does not take {', '.join(sorted(unknown))}; the architecture comes from the weights "
            "(only num_classes may differ)"
        )
    folder = EMBEDDED if model_id == "embedded" else Path(model_id)
    if not folder.is_dir():
        _refuse_mistyped_path(model_id)
        folder = _hub_folder(model_id, hub_options)
    return load_folder(kind, folder, num_classes=num_classes)


def _refuse_mistyped_path(name: str) -> None:
    """Raise UsageError where the first part of `name` is a folder here: then it is a path and not a hub id."""
    parent = Path(name).parent
    if len(Path(name).parts) > 1 and parent.is_dir():
        found = sorted(each.name for each in parent.iterdir() if (each / CONFIG).is_file())
        known = f"its weights folders are {', '.join(found[:8])}" if found else "it has no weights folder"
        raise UsageError(f"there is no folder {name}; {parent} exists, and {known}")


def _hub_folder(model_id: str, options: Mapping[str, Any]) -> Path:
    """The folder in the hub's cache that holds these weights, fetched if it is not there yet."""
    import huggingface_hub

    def fetch(**more: Any) -> Path:
        chosen = {**options, **more}
        found = [huggingface_hub.hf_hub_download(model_id, name, **chosen) for name in (CONFIG, MODEL)]
        return Path(found[0]).parent

    if not options.get("force_download"):
        with suppress(OSError, ValueError):
            return fetch(local_files_only=True)
    try:
        if not options.get("local_files_only"):
            _check_hub_answers()
        return fetch()
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()
        raise DownloadError(
            f"{model_id!r} is not a folder here, and could not be fetched from the model hub as "
            f"{model_id}/{CONFIG}: {reason[0] if reason else type(error).__name__}. Without internet, give the path of "
            "a weights folder"
        ) from error


def _check_hub_answers() -> None:
    """Raise OSError within HUB_SECONDS when the hub cannot be reached; its client would try for half a minute."""
    import huggingface_hub

    address = urlsplit(huggingface_hub.constants.ENDPOINT)
    outcome: list[OSError | None] = []

    def connect() -> None:
        try:
            with urlopen(Request(address.geturl(), method="HEAD"), timeout=HUB_SECONDS):  # noqa: S310 - the user's own HF_ENDPOINT
                outcome.append(None)
        except HTTPError:  # an answer, whatever it says
            outcome.append(None)
        except OSError as error:
            outcome.append(error)

    # A thread, because looking up a name cannot be given a time limit.
    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(HUB_SECONDS)
    if not outcome or outcome[0] is not None:
        reason = outcome[0] if outcome else f"no answer within {HUB_SECONDS:g} seconds"
        raise OSError(f"{address.netloc} cannot be reached ({reason})")


def assemble(
    kind: type[Network], architecture: Mapping[str, Any], tensors: Mapping[str, Tensor], *, source: str
) -> Network:
    """A network in evaluation mode with exactly these float32 tensors; the mean volume may be among them.

    Raises WeightsError that names every missing, unknown, misshapen or not finite array.
    """
    try:
        with torch.device("meta"):
            network = kind(**architecture)
    except (TypeError, KeyError, ValueError, AttributeError, RuntimeError, UsageError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]  # PyTorch appends its C++ stack
        raise WeightsError(f"{source} describes no C3D network: {reason}") from error
    faults = array_faults({name: tuple(array.shape) for name, array in network.state_dict().items()}, tensors)
    if faults:
        raise WeightsError(f"{source} does not fit its network: {'; '.join(faults)}")
    network.load_state_dict({name: array for name, array in tensors.items() if name not in BESIDE_WEIGHTS}, assign=True)
    if MEAN in tensors and (tensors[MEAN].ndim != 4 or len(tensors[MEAN]) != 3):
        raise WeightsError(f"{source}: the mean volume is {tuple(tensors[MEAN].shape)}, expected (3, T, H, W)")
    network.mean_volume = tensors[MEAN].numpy() if MEAN in tensors else None
    width = (network.fc6.out_features,)
    if DESCRIPTOR_MEAN in tensors and tuple(tensors[DESCRIPTOR_MEAN].shape) != width:
        raise WeightsError(
            f"{source}: the descriptor mean is {tuple(tensors[DESCRIPTOR_MEAN].shape)}, expected {width}"
        )
    network.descriptor_mean = tensors[DESCRIPTOR_MEAN].numpy() if DESCRIPTOR_MEAN in tensors else None
    return network.eval()


def array_faults(expected: Mapping[str, tuple[int, ...]], tensors: Mapping[str, Tensor]) -> list[str]:
    """One sentence for every array that is missing, unknown, of another shape, or not finite."""
    faults = [f"{name} is missing" for name in expected if name not in tensors]
    for name, array in tensors.items():
        if name not in expected and name not in BESIDE_WEIGHTS:
            faults.append(f"{name} {tuple(array.shape)} belongs to another network")
        elif name not in BESIDE_WEIGHTS and tuple(array.shape) != expected[name]:
            faults.append(f"{name} is {tuple(array.shape)}, expected {expected[name]}")
        elif not (finite := torch.isfinite(array)).all():
            faults.append(f"{name} holds {int((~finite).sum())} values that are not finite")
    return faults


def replace_head(network: DescribedNetwork, num_classes: int) -> None:
    """Give the network a last layer of `num_classes` outputs, drawn anew, and warn that it is untrained."""
    before = network.architecture["num_classes"]
    fresh = type(network)(**{**network.architecture, "num_classes": num_classes}).head
    network.architecture["num_classes"] = num_classes
    network.classes = ()
    setattr(network, network.architecture["last_layer"], fresh)
    warnings.warn(
        f"these weights have {before} classes but num_classes is {num_classes}: the last layer "
        f"({network.architecture['last_layer']}) and the class names were dropped, the new layer is untrained",
        stacklevel=2,
    )


def read_config(directory: Path) -> dict[str, Any]:
    """The config of a weights folder; raises WeightsError when it is missing, damaged or incomplete."""
    path = directory / CONFIG
    if not path.is_file():
        raise WeightsError(
            f"{directory} is not a weights folder: it has no {CONFIG}; make one with `c3dvideo weights import`"
        )
    config = read_json(ForeignFile(path, WeightsError, "the config of a weights folder"))
    kinds = {"architecture": dict, "classes": list, "profile": dict, "provenance": dict, "sha256": dict}
    missing = [key for key, kind in kinds.items() if not isinstance(config.get(key), kind)]
    if missing:
        raise WeightsError(f"{path} is not a config of c3dvideo: it lacks {', '.join(missing)}")
    if not all(isinstance(name, str) for name in config["classes"]):
        raise WeightsError(f"{path}: classes must be names; expected a list of texts")
    return config


def read_tensors(directory: Path) -> dict[str, Tensor]:
    """Every array of a weights folder as float32; raises WeightsError when the file is missing or cut short."""
    path = directory / MODEL
    try:
        # Copies: arrays that lie where the file put them are not aligned, which changes the last bit of products.
        return {name: array.to(torch.float32, copy=True) for name, array in load_file(path).items()}
    except FileNotFoundError as error:
        raise WeightsError(f"{directory} is not a weights folder: it has no {MODEL}") from error
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise WeightsError(f"{path} is damaged or cut short, fetch or import it again: {error}") from error


def digests(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """sha256 of every array's float32 bytes (C order, little endian), by name."""
    return {
        name: hashlib.sha256(np.ascontiguousarray(array.detach().float().cpu().numpy(), "<f4").data).hexdigest()
        for name, array in sorted(tensors.items())
    }


def fingerprint(network: DescribedNetwork) -> str:
    """One sha256 of everything that determines activations: arrays, mean volume and architecture.

    The dropout and filler of the architecture matter in training only and are left out.
    """
    architecture = {key: value for key, value in network.architecture.items() if key not in ("dropout", "filler")}
    facts = {"architecture": architecture, "sha256": digests(_arrays(network))}
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _arrays(network: DescribedNetwork) -> dict[str, Tensor]:
    """The state dict and, where there is one, the mean volume; contiguous tensors on the CPU."""
    arrays = {name: array.detach().cpu().contiguous() for name, array in network.state_dict().items()}
    if network.mean_volume is not None:
        arrays[MEAN] = torch.from_numpy(np.ascontiguousarray(network.mean_volume, np.float32))
    return arrays
