"""A network whose weights lie in an exported file: everything but the weights, for the engine that runs the file.

    network = ExportedNetwork.described(description, file=Path("c3d.onnx"))
    network.layers, network.fingerprint, network.precision

It has the architecture, the profile and the classes of the network that was exported, so that features from the file
carry the same settings. Its own tensors hold no memory (PyTorch's device "meta") and cannot compute.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self, cast, get_args

import numpy as np
import torch

from c3dvideo.choices import Pool5, Precision
from c3dvideo.errors import UsageError
from c3dvideo.inference.engine_arrays import Array
from c3dvideo.network.c3d import C3D
from c3dvideo.network.folder import fingerprint
from c3dvideo.video.preprocess import Profile

FORMAT = 1


def describe(network: C3D, layers: list[str], *, precision: Precision, with_preprocessing: bool) -> dict[str, Any]:
    """What an exported file records about itself, as JSON values; the mean volume is stored beside it."""
    return {
        "format": FORMAT,
        "layers": layers,
        "weights": fingerprint(network),
        "precision": precision,
        "with_preprocessing": with_preprocessing,
        "profile": network.profile.to_dict(),
        "architecture": network.architecture,
        "classes": list(network.classes),
    }


class ExportedNetwork(C3D):
    """The network that an exported file computes.

    file: the file. layers: its outputs. fingerprint: of the weights that were exported. precision: of its arithmetic.
    with_preprocessing: whether it takes decoded frames.
    """

    file: Path
    layers: tuple[str, ...]
    fingerprint: str
    precision: Precision
    with_preprocessing: bool

    @classmethod
    def described(cls, description: Mapping[str, Any], *, file: Path, mean_volume: Array | None = None) -> Self:
        """The network of a description; raises LookupError, TypeError, ValueError or UsageError for a damaged one."""
        if description["format"] != FORMAT:
            raise ValueError(f"format {description['format']!r}, and this version reads {FORMAT}")
        with torch.device("meta"):
            network = cls(**description["architecture"])
        network.profile = Profile.from_dict(description["profile"])
        network.mean_volume = None if mean_volume is None else np.ascontiguousarray(mean_volume, np.float32)
        network.classes = tuple(map(str, description["classes"]))
        network.layers = tuple(network.check_layers(description["layers"]))
        network.fingerprint = str(description["weights"])
        network.precision = cast(Precision, description["precision"])
        network.with_preprocessing = bool(description["with_preprocessing"])
        network.file = file
        if network.precision not in get_args(Precision):
            raise ValueError(f"precision {network.precision!r}")
        return network.eval()

    def check_runnable(self, layers: Sequence[str]) -> None:
        """Raise UsageError unless the file has these outputs and takes clips that this package prepared."""
        missing = [name for name in layers if name not in self.layers]
        if missing:
            raise UsageError(
                f"{self.file} has no output {', '.join(missing)}; it has {', '.join(self.layers)}. Choose with "
                "`layers=`, or export that layer too"
            )
        if self.with_preprocessing:
            raise UsageError(
                f"{self.file} was exported with preprocessing, for programs without this package; export it without "
                "to run it here"
            )

    def use_pool5(self, rule: Pool5) -> None:
        """Raise UsageError for another rule than that of the file, where pool5 is computed already."""
        if rule != self.architecture["pool5"]:
            raise UsageError(
                f"{self.file} computes pool5 by the rule {self.architecture['pool5']!r}, not {rule!r}; export the "
                "weights again with that rule"
            )
