"""Profiles, crops, the mean, and resizing bit for bit as OpenCV and PIL do it."""

import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from c3dvideo.choices import Interpolation
from c3dvideo.errors import UsageError
from c3dvideo.video import resize
from c3dvideo.video.preprocess import CAFFE, PROFILES, Profile, View, input_mean, prepare_frame, resize_frame
from c3dvideo.video.resize import opencv_bilinear_compiled, opencv_bilinear_numpy

Pattern = Callable[..., np.ndarray]
SMALL = Profile(name="small", resize_height=16, resize_width=21, crop_size=14, crop_top=None, crop_left=None)


def sides(smallest: int, largest: int) -> st.SearchStrategy[tuple[int, int]]:
    return st.tuples(st.integers(smallest, largest), st.integers(smallest, largest))


def sha256(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def test_resize_equals_opencv_on_golden_pictures(pattern: Pattern, golden: Path) -> None:
    with np.load(golden / "resize.npz") as pictures:
        for name, expected in pictures.items():
            height, width = map(int, name.split("x"))
            np.testing.assert_array_equal(resize_frame(pattern(height, width), SMALL).transpose(1, 2, 0), expected)


@pytest.mark.parametrize("size", ["240x320", "256x340", "1080x1920", "16x4096", "128x171", "100x90", "720x406"])
def test_resize_equals_opencv_by_hash(size: str, pattern: Pattern, golden: Path) -> None:
    height, width = map(int, size.split("x"))
    hashes = json.loads((golden / "resize.json").read_text())
    assert sha256(resize_frame(pattern(height, width), CAFFE).transpose(1, 2, 0)) == hashes[size]


@settings(deadline=None, max_examples=60)
@given(height=st.integers(1, 300), width=st.integers(1, 300), to=st.tuples(st.integers(1, 64), st.integers(1, 64)))
def test_resize_equals_opencv_for_any_size(height: int, width: int, to: tuple[int, int], pattern: Pattern) -> None:
    cv2 = pytest.importorskip("cv2")
    profile = dataclasses.replace(
        SMALL, resize_height=to[0], resize_width=to[1], crop_size=1, crop_top=None, crop_left=None
    )
    pixels = pattern(height, width, height + width)
    expected = cv2.resize(pixels, to[::-1])
    np.testing.assert_array_equal(resize_frame(pixels, profile).transpose(1, 2, 0), expected)


@settings(deadline=None, max_examples=200)
@given(source=sides(2, 300), to=sides(1, 64), data=st.data())
def test_compiled_resize_equals_numpy_s(
    source: tuple[int, int], to: tuple[int, int], data: st.DataObject, pattern: Pattern
) -> None:
    library = resize.compiled_loop()
    if library is None:
        pytest.skip("no C++ compiler here")
    pixels = pattern(*source, phase=sum(source))
    rows, columns = (tuple(sorted(data.draw(st.sets(st.integers(0, side), min_size=2, max_size=2)))) for side in to)
    windows = {"size": to, "rows": rows, "columns": columns}
    expected = opencv_bilinear_numpy(pixels, **windows)
    np.testing.assert_array_equal(opencv_bilinear_compiled(library, pixels, **windows), expected)


def test_without_a_compiler_numpy_resizes(pattern: Pattern, golden: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resize, "compiled_loop", lambda: None)
    hashes = json.loads((golden / "resize.json").read_text())
    assert sha256(resize_frame(pattern(240, 320), CAFFE).transpose(1, 2, 0)) == hashes["240x320"]


@pytest.mark.parametrize("interpolation", ["opencv_bilinear", "antialias_bilinear"])
def test_resize_takes_any_memory_layout(pattern: Pattern, interpolation: Interpolation) -> None:
    profile = dataclasses.replace(CAFFE, interpolation=interpolation)
    pixels = pattern(60, 80)
    padded = np.zeros((60, 96, 3), np.uint8)
    padded[:, :80] = pixels
    expected = resize_frame(pixels, profile)
    pixels.flags.writeable = False
    np.testing.assert_array_equal(resize_frame(padded[:, :80], profile), expected)
    np.testing.assert_array_equal(resize_frame(pixels[:, :, ::-1], profile), expected[::-1])
    np.testing.assert_array_equal(resize_frame(np.asfortranarray(pixels), profile), expected)


def test_antialias_equals_pil(pattern: Pattern) -> None:
    from PIL import Image

    profile = dataclasses.replace(CAFFE, interpolation="antialias_bilinear")
    for height, width in ((240, 320), (100, 90)):
        pixels = pattern(height, width)
        expected = np.asarray(Image.fromarray(pixels).resize((171, 128), Image.Resampling.BILINEAR))
        np.testing.assert_array_equal(resize_frame(pixels, profile).transpose(1, 2, 0), expected)


@pytest.mark.parametrize("crops", ["centre", "five", "ten"])
@pytest.mark.parametrize("name", PROFILES)
def test_views_are_windows_of_the_resized_frame(name: str, crops: str, pattern: Pattern) -> None:
    profile = PROFILES[name]
    pixels = pattern(256, 340)
    whole = resize_frame(pixels, profile)
    views = profile.views(crops)  # type: ignore[arg-type]
    prepared = prepare_frame(pixels, profile, views)
    height, width = whole.shape[1:]
    size = profile.crop_size
    middle = prepared[0]
    assert prepared.shape == ({"centre": 1, "five": 5, "ten": 10}[crops], 3, size, size)
    top = (height - size) // 2
    left = (width - size) // 2 + (profile.crop_left in (30,))
    np.testing.assert_array_equal(middle, whole[:, top : top + size, left : left + size])
    if crops != "centre":
        np.testing.assert_array_equal(prepared[1], whole[:, :size, :size])
        np.testing.assert_array_equal(prepared[2], whole[:, :size, -size:])
        np.testing.assert_array_equal(prepared[3], whole[:, -size:, :size])
        np.testing.assert_array_equal(prepared[4], whole[:, -size:, -size:])
    if crops == "ten":
        np.testing.assert_array_equal(prepared[5:], prepared[:5, :, :, ::-1])


def test_the_crop_is_the_release_s() -> None:
    assert CAFFE.views() == (View(top=8, left=29),)


def test_short_side_keeps_the_aspect_ratio(pattern: Pattern) -> None:
    profile = PROFILES["mmaction2"]
    assert profile.resized_size(240, 320) == (128, 171)
    assert profile.resized_size(256, 340) == (128, 170)
    assert profile.resized_size(320, 240) == (171, 128)
    assert prepare_frame(pattern(320, 240), profile, profile.views("ten")).shape == (10, 3, 112, 112)


def test_mean_volume_is_taken_at_the_crop_and_mirrored_with_it(pattern: Pattern) -> None:
    volume = np.random.default_rng(0).normal(100, 20, (3, 16, 128, 171)).astype(np.float32)
    expected = volume[:, :, 8:120, 29:141]
    np.testing.assert_array_equal(input_mean(CAFFE, volume, View(top=8, left=29)), expected)
    mirrored = View(top=8, left=29, mirrored=True)
    np.testing.assert_array_equal(input_mean(CAFFE, volume, mirrored), expected[..., ::-1])
    pixels = pattern(240, 320)
    straight = prepare_frame(pixels, CAFFE, [View(top=8, left=29)])[0] - expected[:, 0]
    flipped = prepare_frame(pixels, CAFFE, [mirrored])[0] - input_mean(CAFFE, volume, mirrored)[:, 0]
    np.testing.assert_array_equal(flipped, straight[..., ::-1])


@pytest.mark.oracle
def test_mean_crop_equals_the_published_one(reference: Path) -> None:
    import bz2
    import io

    archive = reference / "data" / "mean" / "train01_16_128_171_mean.npy.bz2"
    volume = np.load(io.BytesIO(bz2.decompress(archive.read_bytes()))).astype(np.float32)
    published = np.load(reference / "data" / "mean" / "crop_mean.npy").astype(np.float32)
    np.testing.assert_array_equal(input_mean(CAFFE, volume, CAFFE.views()[0]), published.transpose(3, 0, 1, 2))


def test_channel_mean_is_broadcast() -> None:
    mean = input_mean(PROFILES["jfzhang"], None, PROFILES["jfzhang"].views()[0])
    assert mean.shape == (3, 1, 1, 1) and mean.ravel().tolist() == [90, 98, 102]


@pytest.mark.parametrize("shape", [None, (3, 16, 112, 112), (16, 3, 128, 171), (3, 128, 171)])
def test_a_missing_or_misread_mean_volume_is_refused(shape: tuple[int, ...] | None) -> None:
    volume = None if shape is None else np.zeros(shape, np.float32)
    with pytest.raises(UsageError, match=r"a mean volume \(3, T, 128, 171\).*`c3dvideo weights import FILE --mean"):
        input_mean(CAFFE, volume, CAFFE.views()[0])


@pytest.mark.parametrize("name", PROFILES)
def test_profiles_survive_json(name: str) -> None:
    profile = PROFILES[name]
    assert profile.name == name
    assert Profile.from_dict(json.loads(json.dumps(dataclasses.asdict(profile)))) == profile
    assert Profile.from_dict(json.loads(json.dumps(profile.to_dict()))) == profile


def test_unknown_fields_are_named() -> None:
    with pytest.raises(UsageError, match="got the unknown gamma, zoom"):
        Profile.from_dict({"name": "x", "zoom": 1, "gamma": 2})
    with pytest.raises(UsageError, match="'name' is missing"):
        Profile.from_dict({"scale": 1.0})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"channel_order": "gbr"}, "channel_order is 'gbr', expected one of bgr, rgb"),
        ({"interpolation": "cubic"}, "interpolation is 'cubic', expected one of"),
        ({"pool5": "same"}, "pool5 is 'same', expected one of ceil, symmetric, floor"),
        ({"resize": "crop"}, "resize is 'crop'"),
        ({"crop_size": 0}, "crop_size is 0, expected at least 1"),
        ({"crop_size": 130, "crop_top": None}, "resize_height is 128, expected and resize_width of at least 130"),
        ({"crop_top": 17}, "crop_top is 17, expected between 0 and 16"),
        ({"crop_left": -1}, "crop_left is -1, expected between 0 and 59"),
        ({"resize": "short_side", "crop_left": None}, "resize_width is 171, expected 128"),
        ({"resize": "short_side", "resize_width": 128, "crop_left": None}, "no mean volume"),
        ({"mean": (1.0, 2.0)}, "mean is .*expected 'volume' or three numbers"),
        ({"mean": (1.0, 2.0, float("nan"))}, "expected 'volume' or three numbers"),
        ({"std": (1.0, 0.0, 1.0)}, "std is .*three numbers above 0"),
        ({"scale": 0.0}, "scale is 0.0, expected a number above 0"),
    ],
)
def test_values_that_do_not_fit_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        dataclasses.replace(CAFFE, **change)  # type: ignore[arg-type]


def test_wrong_crops_and_views_are_refused(pattern: Pattern) -> None:
    with pytest.raises(UsageError, match="crops is 'three', expected one of centre, five, ten"):
        CAFFE.views("three")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="leaves the resized frame: 112 pixels from 17 do not fit in 128"):
        prepare_frame(pattern(240, 320), CAFFE, [View(top=17, left=0)])


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (16, 4096), (4096, 16)])
@pytest.mark.parametrize("name", PROFILES)
def test_any_size_of_frame_can_be_prepared(name: str, size: tuple[int, int], pattern: Pattern) -> None:
    profile = PROFILES[name]
    crops = prepare_frame(pattern(*size), profile, profile.views("ten"))
    assert crops.shape == (10, 3, 112, 112) and crops.dtype == np.uint8
