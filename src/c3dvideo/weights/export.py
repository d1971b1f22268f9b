"""Export a network as one file that other runtimes load: ONNX, OpenVINO, torch.export and TorchScript.

    export(load_weights("my_weights"), "c3d.onnx", to="onnx", layers=["fc6"])

The input is `clips`; its number is free, and with preprocessing its height and width too. The outputs have the names of
the layers. Every file records what it is: layers, profile, fingerprint of the weights, precision (`exported_network`).
"""

import base64
import io
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from c3dvideo.choices import ExportFormat, Precision, check_choice
from c3dvideo.errors import UsageError, WeightsError
from c3dvideo.extras import require_extra
from c3dvideo.files import atomic_path
from c3dvideo.inference.engine_arrays import Array
from c3dvideo.inference.exported_network import describe
from c3dvideo.inference.onnx_engine import open_session
from c3dvideo.network.c3d import C3D
from c3dvideo.quiet import quiet
from c3dvideo.weights.export_int8 import quantise
from c3dvideo.weights.export_modules import Exportable
from c3dvideo.weights.exported_file import DESCRIPTION, MEAN_VOLUME

INPUT = "clips"
SUFFIXES: Mapping[ExportFormat, str] = {
    "onnx": ".onnx",
    "openvino": ".xml",
    "torch-export": ".pt2",
    "torchscript": ".pt",
}
_EXTRAS = {"onnx": "onnx", "openvino": "openvino"}
# Exporters log deprecations inside them, and packages that they look for.
_EXPORTER = "torch.onnx"
_FRAME = (72, 96)  # height and width of the frames that the exporters trace with; any other size works too

Run = Callable[[Array], Mapping[str, Array]]


def export(
    network: C3D,
    out: str | Path,
    *,
    to: ExportFormat = "onnx",
    layers: Sequence[str] = ("fc6",),
    with_preprocessing: bool = False,
    calibration: Sequence[Array] | None = None,
) -> Path:
    """Write the network up to the deepest of `layers` and return the path.

    to: "openvino" writes a second file with the suffix .bin beside `out`.
    with_preprocessing: the input is uint8 frames (N, T, H, W, 3), RGB as decoded, instead of float32 (N, 3, T, crop,
        crop) that is scaled and has the mean subtracted.
    calibration: inputs of the file, one clip each, by which ONNX Runtime chooses the ranges of 8-bit integers; None
        keeps float32. Only for ONNX.
    Raises UsageError for choices that do not fit, MissingExtraError without the runtime, WeightsError when the file
    cannot be written.
    """
    out = Path(out)
    check_choice("to", to, ExportFormat)
    if out.suffix != SUFFIXES[to]:
        raise UsageError(f"a file for {to} ends in {SUFFIXES[to]}; choose another `out=` than {str(out)!r}")
    if calibration is not None and to != "onnx":
        raise UsageError(f"8-bit integers are made by ONNX Runtime, for ONNX files only; take `to=onnx`, not {to}")
    if to in _EXTRAS:
        require_extra(_EXTRAS[to])  # type: ignore[arg-type]
    module = Exportable(network, layers, with_preprocessing=with_preprocessing)
    precision: Precision = "fp32" if calibration is None else "int8"
    described = {
        DESCRIPTION: json.dumps(
            describe(network, module.layers, precision=precision, with_preprocessing=with_preprocessing)
        )
    }
    if network.profile.mean == "volume" and network.mean_volume is not None:
        described[MEAN_VOLUME] = _npy_base64(network.mean_volume)
    with quiet(_EXPORTER), torch.no_grad(), tempfile.TemporaryDirectory() as scratch:
        written = Path(scratch, f"exported{SUFFIXES[to]}")
        if to == "torch-export":
            program = _traced(module, network)
            program.example_inputs = None  # megabytes of zeros
            torch.export.save(program, written, extra_files=described)
        elif to == "torchscript":
            script = torch.jit.trace(  # type: ignore[no-untyped-call]
                module, (example(network, with_preprocessing),), strict=False
            )
            torch.jit.save(script, str(written), _extra_files=described)
        elif to == "onnx":
            _write_onnx(_traced(module, network), module.layers, written, described, calibration)
        else:
            _write_openvino(_traced(module, network), module.layers, written, described)
            _copy(written.with_suffix(".bin"), out.with_suffix(".bin"))
        _copy(written, out)
    return out


def example(network: C3D, with_preprocessing: bool, n_clips: int = 2) -> Tensor:
    """An input of the right shape and type, for tracing."""
    length, size = network.architecture["clip_length"], network.architecture["crop_size"]
    if with_preprocessing:
        return torch.zeros(n_clips, length, *_FRAME, 3, dtype=torch.uint8)
    return torch.zeros(n_clips, 3, length, size, size)


def open_exported(file: str | Path, to: ExportFormat) -> Run:
    """A function from the input of an exported file to its outputs by layer, run by the runtime of the format."""
    if to == "onnx":
        return open_session(file)
    if to == "openvino":
        openvino = _openvino()
        # By default OpenVINO computes in bfloat16 where the processor has it.
        options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
        compiled = openvino.Core().compile_model(str(file), "CPU", options)
        names = [next(iter(output.get_names())) for output in compiled.outputs]
        return lambda clips: dict(zip(names, map(np.array, compiled(clips).values()), strict=True))
    loaded: Any
    with quiet(_EXPORTER):
        if to == "torch-export":
            loaded = torch.export.load(Path(file)).module()
        else:
            loaded = torch.jit.load(str(file))  # type: ignore[no-untyped-call]

    def run(clips: Array) -> Mapping[str, Array]:
        with torch.no_grad():
            return {name: y.numpy() for name, y in loaded(torch.from_numpy(clips)).items()}

    return run


def _traced(module: Exportable, network: C3D) -> torch.export.ExportedProgram:
    """The program of the module, for any number of clips, and frames of any size."""
    with_preprocessing = module.preprocessing is not None
    free = (0, 2, 3) if with_preprocessing else (0,)
    shapes = {INPUT: dict.fromkeys(free, torch.export.Dim.DYNAMIC)}
    return torch.export.export(module, (example(network, with_preprocessing),), dynamic_shapes=shapes)


def _write_onnx(
    program: torch.export.ExportedProgram,
    layers: Sequence[str],
    path: Path,
    described: Mapping[str, str],
    calibration: Sequence[Array] | None = None,
) -> None:
    exported = torch.onnx.export(
        program, dynamo=True, input_names=[INPUT], output_names=list(layers), external_data=False, verbose=False
    )
    assert exported is not None
    exported.model.metadata_props.update(described)
    exported.save(path)
    if calibration is not None:
        quantise(path, calibration, input_name=INPUT)


def _write_openvino(
    program: torch.export.ExportedProgram, layers: Sequence[str], path: Path, described: Mapping[str, str]
) -> None:
    openvino = _openvino()
    # By way of ONNX: its own reader of torch.export programs ran for eight minutes on this network and did not end.
    onnx_file = path.with_suffix(".onnx")
    _write_onnx(program, layers, onnx_file, {})
    try:
        model = openvino.convert_model(str(onnx_file))
    except Exception as error:  # its own classes, which derive from Exception only
        reason = next((line for line in str(error).splitlines() if "Check" in line or "failed" in line), str(error))
        raise WeightsError(f"OpenVINO cannot convert this network: {reason[:200]}") from error
    for key, text in described.items():
        model.set_rt_info(text, [key])
    openvino.save_model(model, str(path), compress_to_fp16=False)


def _openvino() -> Any:
    # With this package, openvino reports every import and conversion to its authors over the internet.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


def _copy(written: Path, out: Path) -> None:
    """Put a file in its place, where it appears complete or not at all."""
    with atomic_path(out, error=WeightsError) as temporary:
        shutil.copyfile(written, temporary)


def _npy_base64(array: Array) -> str:
    file = io.BytesIO()
    np.save(file, np.ascontiguousarray(array, np.float32))
    return base64.b64encode(file.getvalue()).decode()
