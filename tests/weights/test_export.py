"""Exported files compute what PyTorch computes, in their own runtimes and in `extract --engine onnx`."""

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from c3dvideo import C3D, Extractor, extract, read_clips, read_features
from c3dvideo.choices import ExportFormat
from c3dvideo.errors import UsageError, WeightsError
from c3dvideo.features.manifest import read_manifest
from c3dvideo.inference.devices import choose_engine
from c3dvideo.inference.engine import make_engine
from c3dvideo.network.folder import fingerprint, save_folder
from c3dvideo.video.clips import ClipPlan
from c3dvideo.video.preprocess import PROFILES, Profile, prepare_frame
from c3dvideo.weights.export import SUFFIXES, export, open_exported
from c3dvideo.weights.export_check import check_export, reference
from c3dvideo.weights.export_modules import Exportable, resized_crop
from c3dvideo.weights.exported_file import read_exported
from c3dvideo.weights.formats.protobuf import packed

ROOT = Path(__file__).parents[2]
LAYERS = ["pool5", "fc6"]
TOLERANCE = 2e-5  # of the largest value: other orders of sums
PLAN = ClipPlan(stride_frames=8)


def network(**changes: Any) -> C3D:
    """A network for 16 frames of 48 pixels, whose ceil-mode pool5 cuts windows at the border (3 -> 2)."""
    torch.manual_seed(1)
    made = C3D(
        **{
            "num_classes": 4,
            "stages": ((4,), (4,), (8, 8), (8, 8), (8, 8)),
            "fc_width": 16,
            "filler": "xavier",
            "crop_size": 48,
            **changes,
        }
    )
    made.profile = replace(
        PROFILES["caffe"], name="small", resize_height=52, resize_width=64, crop_size=48, crop_top=2, crop_left=8
    )
    made.mean_volume = np.random.default_rng(0).uniform(80, 120, (3, 16, 52, 64)).astype(np.float32)
    return made.eval()


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ONNX file of `network()`, without preprocessing."""
    torch.manual_seed(1)
    return export(network(), tmp_path_factory.mktemp("exported") / "c3d.onnx", layers=LAYERS)


@pytest.mark.parametrize("to", list(SUFFIXES))
@pytest.mark.parametrize("with_preprocessing", [False, True], ids=["clips", "frames"])
def test_the_file_computes_what_pytorch_computes(to: ExportFormat, with_preprocessing: bool, tmp_path: Path) -> None:
    """Three clips, where the exporters saw two, and frames of other sizes than they saw."""
    file = export(
        network(), tmp_path / f"c3d{SUFFIXES[to]}", to=to, layers=LAYERS, with_preprocessing=with_preprocessing
    )
    checked = check_export(
        network(), file, to=to, layers=LAYERS, with_preprocessing=with_preprocessing, rounds=int(to == "onnx")
    )
    # OpenVINO computes the positions of pixels in float32, so that some pixels differ by one grey level.
    tolerance = 2e-2 if to == "openvino" and with_preprocessing else TOLERANCE
    assert [(one.clips, one.layer) for one in checked.differences] == [
        (clips, layer) for clips in ("random", "generated") for layer in LAYERS
    ]
    for one in checked.differences:
        assert one.largest <= tolerance * one.largest_value
        assert one.largest_value > 1
    assert {speed.name for speed in checked.speeds} == (
        {"exported file", "PyTorch eager", "c3dvideo"} if to == "onnx" else set()
    )
    assert checked.n_bytes > 4 * sum(p.numel() for name, p in network().named_parameters() if name < "fc7")


@pytest.mark.parametrize(
    ("to", "architecture"),
    [("onnx", {"pool5": "floor", "last_layer": "out"}), ("torch-export", {"pool5": "symmetric"})],
    ids=["plain", "port"],
)
def test_other_rules_of_pool5_and_the_last_layer_are_exported(
    to: ExportFormat, architecture: dict[str, Any], tmp_path: Path
) -> None:
    made, layers = network(**architecture), ["pool5", "fc8", "prob"]
    file = export(made, tmp_path / f"c3d{SUFFIXES[to]}", to=to, layers=layers)
    clips = np.random.default_rng(0).normal(0, 60, (1, 3, 16, 48, 48)).astype(np.float32)
    found, expected = open_exported(file, to)(clips), reference(made, clips, layers)
    for name in layers:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-4, atol=1e-4)


def test_an_export_for_openvino_reports_to_nobody(tmp_path: Path) -> None:
    file = export(network(), tmp_path / "c3d.xml", to="openvino", layers=["pool1"])
    open_exported(file, "openvino")
    assert sys.modules["openvino_telemetry"] is None


@pytest.mark.parametrize("name", ["caffe", "axon", "davidea", "mmaction2", "gluoncv"])
@pytest.mark.parametrize("size", [(240, 320), (128, 171), (97, 131), (320, 180), (3, 5)], ids=str)
def test_the_exported_preprocessing_is_ours_to_the_bit(name: str, size: tuple[int, int]) -> None:
    profile: Profile = PROFILES[name]
    frames = np.random.default_rng(0).integers(0, 256, (1, 2, *size, 3), dtype=np.uint8)
    found = resized_crop(torch.from_numpy(frames), profile).numpy()[0]
    expected = [prepare_frame(frame, profile, profile.views())[0] for frame in frames[0]]
    np.testing.assert_array_equal(found.transpose(0, 3, 1, 2), np.stack(expected))


def test_a_profile_with_antialias_cannot_be_exported_with_preprocessing() -> None:
    made = network()
    made.profile = replace(made.profile, interpolation="antialias_bilinear")
    with pytest.raises(UsageError, match="export without preprocessing"):
        Exportable(made, ["fc6"], with_preprocessing=True)


def test_only_the_layers_that_are_needed_are_stored(exported: Path) -> None:
    names = dict(Exportable(network(), ["fc6"]).state_dict())
    assert "network.fc6.weight" in names
    assert "network.fc7.weight" not in names
    assert dict(network().named_children()).keys() >= {"fc7", "fc8"}


def test_the_onnx_engine_agrees_with_the_direct_one(exported: Path) -> None:
    clips = np.random.default_rng(0).integers(0, 256, (3, 3, 16, 48, 48), dtype=np.uint8)
    engine = make_engine(read_exported(exported), layers=LAYERS, engine="onnx", device="cpu")
    direct = make_engine(network(), layers=LAYERS, engine="direct", device="cpu")
    found, expected = engine(clips), direct(clips)
    for name in LAYERS:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-4, atol=1e-4)
        np.testing.assert_array_equal(engine(clips[1:2])[name], found[name][1:2])  # whatever stands beside a clip
    assert engine(clips[:0])["fc6"].shape == (0, 16)
    assert engine.description()["engine"] == "onnx"


@pytest.mark.parametrize("crops", ["centre", "five"])
def test_features_of_the_file_are_those_of_its_weights(
    crops: Any, exported: Path, moving_square: Callable[..., Path], tmp_path: Path
) -> None:
    video = moving_square(tmp_path / "videos/a.mp4", n_frames=26)
    options: dict[str, Any] = {"layers": LAYERS, "plan": PLAN, "crops": crops, "workers": 0, "device": "auto"}
    extract([video], tmp_path / "ours", weights=network(), **options)
    extract([video], tmp_path / "onnx", weights=exported, engine="onnx", **options)
    assert read_manifest(tmp_path / "ours") == read_manifest(tmp_path / "onnx")
    ours, theirs = (read_features(tmp_path / each / "a.mp4.npz") for each in ("ours", "onnx"))
    assert theirs.metadata["engine"]["engine"] == "onnx"
    for name in LAYERS:
        np.testing.assert_allclose(theirs.layers[name], ours.layers[name], rtol=1e-4, atol=1e-4)
    again = extract([video], tmp_path / "ours", weights=exported, **options)  # one fingerprint, one folder
    assert again.n_skipped == 1


def test_an_exported_file_states_where_it_comes_from(exported: Path) -> None:
    found = read_exported(exported)
    assert (found.layers, found.precision, found.with_preprocessing) == (("pool5", "fc6"), "fp32", False)
    assert found.fingerprint == fingerprint(network())
    assert found.profile == network().profile
    np.testing.assert_array_equal(found.mean_volume, network().mean_volume)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers": ["fc7"]}, r"has no output fc7; it has pool5, fc6"),
        ({"engine": "winograd"}, "is an exported file, which engine 'onnx' runs, not 'winograd'"),
        ({"precision": "bf16"}, "computes in fp32, not in bf16"),
        ({"plan": ClipPlan(clip_length=8)}, "clips have 8 frames, but fc6 of this network needs 16"),
        ({"profile_changes": {"pool5": "symmetric"}}, "computes pool5 by the rule 'ceil', not 'symmetric'"),
        ({"device": "meta"}, "device 'meta' is not supported"),
    ],
)
def test_what_the_file_does_not_compute_is_refused(exported: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Extractor(exported, **{"plan": PLAN, "layers": LAYERS, **changes})


def test_the_onnx_engine_needs_an_exported_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="engine 'onnx' runs an exported file: make one with"):
        Extractor(network(), plan=PLAN, engine="onnx")
    with pytest.raises(UsageError, match="'onnx' runs exported files"):
        make_engine(network(), layers=["fc6"], engine="onnx", device="cpu")
    with pytest.raises(UsageError, match="'int8' is that of exported files"):
        choose_engine("direct", torch.device("cpu"), "int8")


def test_a_file_with_preprocessing_is_for_other_programs(tmp_path: Path, moving_square: Callable[..., Path]) -> None:
    """The script of the documentation gives the same numbers without this package."""
    made = network()
    file = export(made, tmp_path / "c3d.onnx", with_preprocessing=True)
    with pytest.raises(UsageError, match="was exported with preprocessing, for programs without this package"):
        Extractor(file)
    video = moving_square(tmp_path / "a.mp4", n_frames=33, height=96, width=130)
    script = ROOT / "docs/examples/onnx_alone.py"
    words = [sys.executable, "-W", "error", script, file, video]
    printed = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    clips = np.concatenate([clip.pixels for clip in read_clips(video, profile=made.profile)])
    expected = make_engine(made, layers=["fc6"], device="cpu")(clips)["fc6"]
    lines = [line.split() for line in printed.splitlines()]
    assert [int(line[0]) for line in lines] == [0, 16]
    np.testing.assert_allclose([float(line[-1]) for line in lines], np.linalg.norm(expected, axis=1), rtol=1e-4)
    assert "c3dvideo" not in script.read_text().split('"""')[2]


def int8_file(calibration: Sequence[Any], tmp_path: Path) -> Path:
    return export(network(), tmp_path / "int8.onnx", layers=LAYERS, calibration=calibration)


def test_8_bit_integers_are_near_and_never_share_a_folder_with_fp32(
    exported: Path, tmp_path: Path, moving_square: Callable[..., Path]
) -> None:
    generator = np.random.default_rng(0)
    file = int8_file([generator.normal(0, 60, (1, 3, 16, 48, 48)).astype(np.float32) for _ in range(4)], tmp_path)
    assert file.stat().st_size < exported.stat().st_size  # most of both is the mean volume
    checked = check_export(network(), file, to="onnx", layers=LAYERS, rounds=0)
    assert all(1e-4 < one.relative < 0.2 for one in checked.differences)
    small, exact = (Extractor(each, plan=PLAN) for each in (file, exported))
    assert small.manifest.differences(exact.manifest) == ["precision is 'int8' there and 'fp32' here"]
    with pytest.raises(UsageError, match="no clip to calibrate"):
        int8_file([], tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"to": "caffe2"}, "`to=` is 'caffe2'"),
        ({"to": "torchscript"}, "a file for torchscript ends in .pt"),
        ({"layers": ["fc9"]}, "unknown layer: fc9"),
        ({"to": "torchscript", "out": "a.pt", "calibration": []}, "for ONNX files only"),
    ],
)
def test_choices_that_do_not_fit_are_refused(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        export(network(), tmp_path / options.pop("out", "a.onnx"), **options)
    assert not list(tmp_path.iterdir())


def test_an_onnx_file_of_another_program_has_to_be_imported(tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.onnx"
    foreign.write_bytes(packed(14, packed(1, b"author") + packed(2, b"somebody")))
    with pytest.raises(UsageError, match="did not write it; import it with `c3dvideo weights import"):
        Extractor(foreign)


@pytest.mark.parametrize(
    "text", ["{}", "[1]", "nonsense", json.dumps({"format": 99}), json.dumps({"format": 1, "architecture": {"x": 1}})]
)
def test_a_damaged_description_is_one_error(text: str, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(packed(14, packed(1, b"c3dvideo") + packed(2, text.encode())))
    with pytest.raises(WeightsError, match=r"damaged\.onnx(, line 1,)? is not a file of `c3dvideo export`"):
        read_exported(damaged)


def test_a_cut_file_is_one_error(exported: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.onnx"
    cut.write_bytes(exported.read_bytes()[:5000])
    with pytest.raises(WeightsError, match="is not a file of `c3dvideo export`"):
        read_exported(cut)


def test_the_folder_of_weights_gives_the_same_file(tmp_path: Path, exported: Path) -> None:
    save_folder(network(), tmp_path / "weights")
    loaded = C3D.from_pretrained(tmp_path / "weights")
    assert read_exported(export(loaded, tmp_path / "again.onnx", layers=LAYERS)).fingerprint == fingerprint(network())
