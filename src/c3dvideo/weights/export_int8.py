"""8-bit integers for an exported ONNX file, by ONNX Runtime's own quantisation.

    quantise(Path("c3d.onnx"), calibration=clips, input_name="clips")        # rewrites the file

Convolutions and fully connected layers then multiply 8-bit integers. The ranges of activations are those that occur on
the calibration clips, so these should look like the videos that the file will see.
"""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from c3dvideo.errors import UsageError
from c3dvideo.inference.engine_arrays import Array
from c3dvideo.quiet import quiet

QUANTISED = ("Conv", "Gemm", "MatMul")


def quantise(path: Path, calibration: Sequence[Array], *, input_name: str) -> None:
    """Replace the ONNX file by one with 8-bit weights (one scale per channel) and activations; its metadata stays.

    calibration: inputs of the file, at least one. Raises UsageError for none.
    """
    if not len(calibration):
        raise UsageError("there is no clip to calibrate 8-bit integers with; give videos of at least one clip")
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Clips(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._left: Iterator[Array] = iter(calibration)

        def get_next(self) -> dict[str, Any] | None:
            clip = next(self._left, None)
            return None if clip is None else {input_name: clip}

    metadata = [(entry.key, entry.value) for entry in onnx.load(str(path)).metadata_props]
    # "root", because it logs its advice, about steps that are done here, through no logger of its own.
    with tempfile.TemporaryDirectory() as folder, quiet("root"):
        prepared, small = Path(folder, "prepared.onnx"), Path(folder, "int8.onnx")
        quant_pre_process(str(path), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(small),
            Clips(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(QUANTISED),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        model = onnx.load(str(small))
        onnx.helper.set_model_props(model, dict(metadata))
        onnx.save(model, str(path))
