"""The engine that runs an exported ONNX file with ONNX Runtime on the CPU.

    engine = OnnxEngine(network, layers=["fc6"], views=network.profile.views())     # an ExportedNetwork
    features = engine(clips)["fc6"]

Every call of the runtime has one clip, because its kernels, and with them the last bits, depend on the shape.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from c3dvideo.errors import MissingExtraError, WeightsError
from c3dvideo.inference.engine_arrays import Activations, Array, check_clips, check_finite, check_views, no_activations
from c3dvideo.inference.exported_network import ExportedNetwork
from c3dvideo.inference.scaling import Scaling
from c3dvideo.video.preprocess import View


def open_session(file: str | Path) -> Callable[[Array], Mapping[str, Array]]:
    """A function from the input `clips` of an ONNX file to its outputs by name.

    Raises MissingExtraError without ONNX Runtime, WeightsError for a file that it cannot run.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtraError("onnxruntime", "onnx") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    # Threads that wait in a loop after a call would take the processor from the decoders.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    try:
        session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its own classes, which derive from Exception only
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise WeightsError(f"{file} cannot be run by ONNX Runtime: {reason}") from error
    names = [output.name for output in session.get_outputs()]
    return lambda clips: dict(zip(names, session.run(names, {"clips": clips}), strict=True))


class OnnxEngine:
    """The `Engine` of an exported file. Arguments and attributes are those of `engine.make_engine`."""

    name: Literal["onnx"] = "onnx"
    device = torch.device("cpu")
    n_overflows = 0

    def __init__(
        self,
        network: ExportedNetwork,
        *,
        layers: Sequence[str],
        views: Sequence[View],
        batch_clips: int | None = None,
    ) -> None:
        self.layers, self.views, self.precision = tuple(layers), tuple(views), network.precision
        network.check_runnable(self.layers)
        self.batch_clips = batch_clips or 4
        self._network = network
        self._scaling = Scaling.of(network, views, self.device)
        self._run = open_session(network.file)

    def __call__(self, clips: Array, view_index: Array | None = None) -> Activations:
        """Float32 activations (N, ...) of uint8 clips (N, 3, T, H, W), by layer."""
        return self.submit(clips, view_index)()

    def submit(self, clips: Array, view_index: Array | None = None) -> Callable[[], Activations]:
        """A function that returns the activations, which are computed before this returns."""
        clips = check_clips(clips, self._network)
        if not len(clips):
            return lambda: no_activations(self._network, self.layers)
        views = check_views(view_index, len(clips))
        parts = [self._compute(clips[i : i + 1], views[i : i + 1]) for i in range(len(clips))]
        found = {name: np.concatenate([part[name] for part in parts]) for name in self.layers}
        for name, rows in found.items():
            check_finite(torch.from_numpy(np.isfinite(rows.reshape(len(rows), -1)).all(1)), name)
        return lambda: found

    def description(self) -> dict[str, Any]:
        """Device, engine, precision, compiled kernels and clips per call, as JSON values."""
        return {
            "device": "cpu",
            "engine": self.name,
            "kernels": False,
            "precision": self.precision,
            "batch_clips": 1,
            "shares_overlap": False,
        }

    def _compute(self, clip: Array, view: Array) -> Mapping[str, Array]:
        x = self._scaling.apply(torch.from_numpy(clip), torch.from_numpy(view))
        return self._run(np.ascontiguousarray(x.numpy()))
