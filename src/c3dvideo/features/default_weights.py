"""Whether features come from the weights that the package ships, and the line that says what this means.

note = note_on_default_weights(read_manifest("features/").settings)         # None for other weights
"""

import json
from collections.abc import Mapping
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import c3dvideo.network
from c3dvideo.errors import StoreError, WeightsError
from c3dvideo.features.store import list_features, read_metadata
from c3dvideo.reading import ForeignFile, read_json
from c3dvideo.storage import Location

_CONFIG = Path(c3dvideo.network.__file__).parent / "embedded" / "config.json"

NOTE = (
    "these features come from the default weights, which were trained on still pictures and generated clips; their fc6 "
    "has 1,024 numbers per clip, the paper's has 4,096: extract with `weights=sports1m` for the paper's"
)


def note_on_default_weights(settings: Mapping[str, Any]) -> str | None:
    """The line to print about features of these settings, None when they come from other weights."""
    return NOTE if settings.get("weights") == default_fingerprint() else None


def note_on_features(folder: str | Location) -> str | None:
    """`note_on_default_weights` for a folder of features, from the first file that can be read."""
    for _, path in list_features(folder):
        try:
            settings = read_metadata(path).get("settings")
        except StoreError:
            continue
        return note_on_default_weights(settings) if isinstance(settings, Mapping) else None
    return None


@cache
def default_fingerprint() -> str:
    """The fingerprint of the weights that the package ships, from their config alone; "" when it ships none.

    Equal to `network.folder.fingerprint` of the loaded network, which needs PyTorch.
    """
    if not _CONFIG.exists():
        return ""
    config = read_json(ForeignFile(_CONFIG, error=WeightsError, expected="the config of the default weights"))
    architecture = {key: value for key, value in config["architecture"].items() if key not in ("dropout", "filler")}
    # Like `fingerprint`, without the mean that serves comparisons only and changes no activation.
    arrays = {name: digest for name, digest in config["sha256"].items() if name != "descriptor_mean"}
    facts = {"architecture": architecture, "sha256": arrays}
    return sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
