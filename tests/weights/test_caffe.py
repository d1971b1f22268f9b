"""The release's own files: its protobuf field numbers, files that its program wrote, files that are cut short."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from c3dvideo.errors import WeightsError
from c3dvideo.weights.formats.caffe import read_blob, read_model, write_blob, write_model
from c3dvideo.weights.formats.protobuf import number, packed
from c3dvideo.weights.import_weights import import_weights


def arrays(*shapes: tuple[int, ...]) -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return [generator.standard_normal(shape).astype(np.float32) for shape in shapes]


def test_model_round_trip(tmp_path: Path) -> None:
    layers = {"conv1a": arrays((4, 3, 3, 3, 3), (4,)), "fc6-1": arrays((5, 64), (5,))}
    write_model(tmp_path / "model", layers)
    found = read_model(tmp_path / "model")
    assert list(found) == ["conv1a", "fc6-1"]
    assert found["conv1a"][0].shape == (4, 3, 3, 3, 3)
    assert found["fc6-1"][0].shape == (1, 1, 1, 5, 64)
    assert found["fc6-1"][1].shape == (1, 1, 1, 1, 5)
    for name, blobs in layers.items():
        for ours, theirs in zip(blobs, found[name], strict=True):
            assert np.array_equal(ours.ravel(), theirs.ravel())


def test_field_numbers_of_the_fork(tmp_path: Path) -> None:
    """num 1, channels 2, length 3, height 4, width 5, data 6: written out byte for byte."""
    write_blob(tmp_path / "mean.binaryproto", np.float32([[[[[1.0, 2.0]]]]]))
    assert (tmp_path / "mean.binaryproto").read_bytes() == bytes.fromhex("08011001180120012802") + bytes.fromhex(
        "32080000803f00000040"
    )


def test_fields_of_no_interest_are_skipped(tmp_path: Path) -> None:
    """What the program writes besides: inputs, fillers, learning rates as fixed32, a layer without arrays, diff."""
    (bias,) = arrays((2,))
    blob = number(5, 2) + packed(6, bias.tobytes()) + packed(7, bias.tobytes())
    rates = b"".join(bytes([7 << 3 | 5]) + np.float32(1).tobytes() for _ in range(2))
    layer = (
        packed(2, b"data") + packed(4, b"conv1a") + number(5, 30) + packed(6, blob) + rates + packed(10, b"\x08\x02")
    )
    relu = packed(4, b"relu1a") + number(5, 18)
    (tmp_path / "model").write_bytes(packed(1, b"name") + packed(2, relu) + packed(2, layer) + number(99, 1 << 40))
    found = read_model(tmp_path / "model")
    assert list(found) == ["conv1a"]
    assert np.array_equal(found["conv1a"][0].ravel(), bias)


def test_numbers_that_are_not_packed(tmp_path: Path) -> None:
    """A protobuf reader takes a repeated float one by one as well."""
    values = np.float32([1.5, -2, 3])
    loose = b"".join(bytes([6 << 3 | 5]) + value.tobytes() for value in values)
    (tmp_path / "mean").write_bytes(number(5, 3) + loose)
    assert np.array_equal(read_blob(tmp_path / "mean").ravel(), values)


@pytest.mark.parametrize("missing", [1, 5, 100, 900])
def test_cut_short(missing: int, tmp_path: Path) -> None:
    write_model(tmp_path / "model", {"conv1a": arrays((4, 3, 3, 3, 3), (4,))})
    content = (tmp_path / "model").read_bytes()
    (tmp_path / "cut").write_bytes(content[:-missing])
    with pytest.raises(WeightsError, match="cut is cut short, or is no Caffe file of the C3D release: field 2"):
        read_model(tmp_path / "cut")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (number(5, 3) + packed(6, b"\0" * 8), r"a blob of shape \(1, 1, 1, 1, 3\) has 2 numbers"),
        (number(5, 3) + packed(6, b"\0" * 7), "7 bytes, not a multiple of 4"),
        (number(5, 3), "has 0 numbers"),
        (b"\x0b", "wire type 3"),
        (b"\x08" + b"\xff" * 11, "longer than 64 bits"),
        (b"\x08\xff", "is incomplete"),
    ],
)
def test_blobs_that_contradict_themselves(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "mean").write_bytes(content)
    with pytest.raises(WeightsError, match=message):
        read_blob(tmp_path / "mean")


@pytest.mark.oracle
def test_files_of_the_release(reference: Path) -> None:
    """Two models, one of them a snapshot that the authors' program wrote itself, and a mean volume."""
    oracle = reference / "oracle"
    small = read_model(oracle / "c3d_small.caffemodel")
    assert hashlib.sha256(small["conv5b"][0].tobytes()).hexdigest().startswith("08c5a81e481bbd1f")
    assert hashlib.sha256(small["fc8-1"][1].tobytes()).hexdigest().startswith("44008af885d573d0")
    snapshot = import_weights(oracle / "caffe_written_fixed_lo_iter_10.caffemodel")
    assert snapshot.architecture["stages"] == [[8], [16], [32, 32], [64, 64], [64, 64]]
    recorded = np.load(oracle / "training.npz")
    for name, layer in snapshot.named_layers():
        theirs = f"{name}-1" if name.startswith("fc") else name
        for kind in ("weight", "bias"):
            flat = layer.get_parameter(kind).detach().numpy().ravel()
            some = flat[np.linspace(0, flat.size - 1, min(flat.size, 1024)).astype(np.int64)]
            assert np.array_equal(some, recorded[f"fixed_lo/iter10/{theirs}.{kind}[linspace1024]"]), name
    mean = read_blob(oracle / "mean_16_128_171.binaryproto")
    assert mean.shape == (1, 3, 16, 128, 171)
    assert hashlib.sha256(mean.tobytes()).hexdigest().startswith("22523562be9f6f9f")
