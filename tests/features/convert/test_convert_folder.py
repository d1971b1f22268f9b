"""A whole feature folder at once: names, what is refused, what is left out and said, and nothing half-written."""

import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, get_args

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from c3dvideo.choices import Format
from c3dvideo.errors import MissingExtraError, StoreError, UsageError
from c3dvideo.features.convert import PcaBasis, convert, output_names

ONE_FILE = {"activitynet": "all.hdf5", "hdf5": "all.hdf5", "parquet": "all.parquet"}


@pytest.mark.parametrize("to", get_args(Format))
def test_every_format_from_one_folder(tmp_path: Path, video, feature_folder, to: Format) -> None:
    shape = (5, 8) if to == "crops" else (8,)
    layers = {"fc6": shape, "fc7": shape}
    folder = feature_folder(video("a.mp4", layers=layers), video("sub/b.avi", layers=layers, seed=1))
    out = tmp_path / "out" / ONE_FILE.get(to, "files")
    summary = convert(folder, to=to, out=out, layers=["fc6"])
    assert asdict(summary) == {
        "format": to,
        "out": str(out),
        "n_videos": 2,
        "n_clips": 10,
        "pca_basis": None,
        "failures": {},
    }
    assert out.is_file() if to in ONE_FILE else out.is_dir()
    assert not [path for path in tmp_path.rglob("*") if path.name.endswith(".tmp")]


@pytest.mark.parametrize(
    ("to", "expected"),
    [
        ("npy", {"a.npy", "a.json", "sub/b.npy", "sub/b.json"}),
        ("ucf-crime", {"a_C.txt", "sub/b_C.txt"}),
        ("csv", {"a_000000.csv", "sub/b_000000.csv"}),
    ],
)
def test_folders_of_names_are_kept(tmp_path: Path, video, feature_folder, to: Format, expected: set[str]) -> None:
    folder = feature_folder(video("a.mp4", n_clips=1), video("sub/b.avi", n_clips=1))
    convert(folder, to=to, out=tmp_path / "out")
    files = (path for path in (tmp_path / "out").rglob("*") if path.is_file())
    assert {path.relative_to(tmp_path / "out").as_posix() for path in files} == expected


def test_names() -> None:
    videos = ["a.mp4", "sub/a.mp4", "v1.2", "x.y.webm", "sub/frames", "deep/er/c.3gp", "no.suffixes"]
    assert output_names(videos, "npy") == {
        "a.mp4": "a",
        "sub/a.mp4": "sub/a",
        "v1.2": "v1.2",
        "x.y.webm": "x.y",
        "sub/frames": "sub/frames",
        "deep/er/c.3gp": "deep/er/c",
        "no.suffixes": "no.suffixes",
    }
    assert output_names(["sub/.mp4"], "npy") == {"sub/.mp4": "sub/.mp4"}
    assert output_names(["sub/a.mp4"], "npy", keep_suffix=True) == {"sub/a.mp4": "sub/a.mp4"}
    assert output_names(["sub/a.mp4"], "tall") == {"sub/a.mp4": "sub/a.mp4"}
    assert output_names(["val/v_QOlSCBRmfWY.mkv"], "activitynet") == {"val/v_QOlSCBRmfWY.mkv": "QOlSCBRmfWY"}


@given(st.lists(st.text("ab/.mp4", min_size=1, max_size=8), unique=True), st.sampled_from(get_args(Format)))
def test_no_two_videos_ever_share_a_name(videos: list[str], to: Format) -> None:
    try:
        names = output_names(videos, to)
    except UsageError:
        return
    assert set(names) == set(videos) and len(set(names.values())) == len(videos)


def test_equal_stems_are_refused_before_anything_is_written(tmp_path: Path, video, feature_folder) -> None:
    folder = feature_folder(video("a.avi"), video("a.mp4"))
    with pytest.raises(UsageError, match=r"a.avi and a.mp4 would both be written as 'a'; give `keep_suffix=`"):
        convert(folder, to="npy", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    convert(folder, to="npy", out=tmp_path / "out", keep_suffix=True)
    assert sorted(path.name for path in (tmp_path / "out").glob("*.npy")) == ["a.avi.npy", "a.mp4.npy"]


def test_equal_ids_in_two_folders_are_refused_for_activitynet(tmp_path: Path, video, feature_folder) -> None:
    folder = feature_folder(video("train/a.mp4"), video("val/v_a.mp4"))
    with pytest.raises(UsageError, match="would both be written as 'a'; rename one"):
        convert(folder, to="activitynet", out=tmp_path / "out.hdf5")


def test_pca_is_fitted_saved_and_reused(tmp_path: Path, video, feature_folder) -> None:
    folder = feature_folder(video("a.mp4", n_clips=30), video("b.mp4", n_clips=25, seed=1))
    out = tmp_path / "anet.hdf5"
    summary = convert(folder, to="activitynet", out=out, pca=3)
    assert summary.pca_basis == f"{out}.pca.npz"
    basis = PcaBasis.load(Path(summary.pca_basis))
    assert basis.n_clips == 55 and basis.components.shape == (3, 8)
    again = convert(folder, to="activitynet", out=tmp_path / "again.hdf5", pca_basis=summary.pca_basis)
    assert again.pca_basis == summary.pca_basis
    with h5py.File(out) as first, h5py.File(tmp_path / "again.hdf5") as second:
        assert first["v_a"]["c3d_features"].shape == (30, 3)
        for name in ("v_a", "v_b"):
            assert np.array_equal(first[name]["c3d_features"][:], second[name]["c3d_features"][:])
        rows = np.concatenate([first["v_a/c3d_features"][:], first["v_b/c3d_features"][:]])
    assert np.allclose(rows.mean(axis=0), 0, atol=1e-5)
    assert np.allclose(np.cov(rows.T), np.diag(basis.explained_variance), atol=1e-5)


def test_a_basis_of_other_weights_or_another_layer_is_refused(tmp_path: Path, video, feature_folder) -> None:
    layers = {"fc6": (8,), "fc7": (8,)}
    folder = feature_folder(video(n_clips=30, layers=layers))
    basis = convert(folder, to="activitynet", out=tmp_path / "a.hdf5", layers=["fc7"], pca=3).pca_basis
    with pytest.raises(UsageError, match=r"made for fc7 of weights 0123abcd; a.mp4 holds fc6 of weights 0123abcd"):
        convert(folder, to="activitynet", out=tmp_path / "b.hdf5", layers=["fc6"], pca_basis=basis)
    folder = feature_folder(video(n_clips=30, layers=layers, weights="ffff"))
    with pytest.raises(UsageError, match=r"made for fc7 of weights 0123abcd; a.mp4 holds fc7 of weights ffff"):
        convert(folder, to="activitynet", out=tmp_path / "b.hdf5", layers=["fc7"], pca_basis=basis)
    assert not (tmp_path / "b.hdf5").exists()


def test_features_without_the_metadata_that_a_format_needs(tmp_path: Path, video, feature_folder) -> None:
    bare = replace(video(), metadata={})
    assert convert(feature_folder(bare), to="npy", out=tmp_path / "npy").n_videos == 1
    with pytest.raises(StoreError, match=r"a.mp4 does not record its settings.pool, which this format needs"):
        convert(feature_folder(bare), to="tall", out=tmp_path / "tall")


def test_too_few_clips_for_the_pca(tmp_path: Path, video, feature_folder) -> None:
    folder = feature_folder(video(n_clips=5, layers={"fc7": (4096,)}))
    with pytest.raises(UsageError, match="500 principal components cannot be fitted on 5 clips of 4096 numbers"):
        convert(folder, to="activitynet", out=tmp_path / "out.hdf5", pca=500)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["features"]


def test_videos_that_cannot_be_written_are_named_and_the_others_written(tmp_path: Path, video, feature_folder) -> None:
    with_nan = video("b.mp4", n_clips=4)
    with_nan.layers["fc6"][2, 3] = np.nan
    folder = feature_folder(video("a.mp4", n_clips=6), with_nan, video("c.mp4", n_clips=0))
    (folder / "d.mp4.npz").write_bytes(b"damaged")
    summary = convert(folder, to="activitynet", out=tmp_path / "all.hdf5", pca=2)
    assert (summary.n_videos, summary.n_clips) == (1, 6)
    assert list(summary.failures) == ["b.mp4", "c.mp4", "d.mp4"]
    assert "fc6 has NaN or infinite values in 1 of 4 clips, the first at frame 32" in summary.failures["b.mp4"]
    assert summary.failures["c.mp4"] == "c.mp4 has no clips"
    assert "is not a file of c3dvideo features" in summary.failures["d.mp4"]
    with h5py.File(tmp_path / "all.hdf5") as file:
        assert list(file) == ["v_a"]


@pytest.mark.parametrize("to", ["caffe", "activitynet", "ucf-crime", "tall", "crops", "csv"])
def test_pooled_features_are_refused_where_clips_are_needed(tmp_path: Path, video, feature_folder, to: Format) -> None:
    folder = feature_folder(video(n_clips=1, pool="mean"))
    with pytest.raises(
        StoreError, match=f"none of 1 videos could be written as {to}; .*one pooled vector.*without pooling"
    ):
        convert(folder, to=to, out=tmp_path / "out")
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and "features" not in path.parts]


@pytest.mark.parametrize("to", ["npy", "hdf5", "parquet"])
def test_pooled_features_are_welcome_where_rows_are(tmp_path: Path, video, feature_folder, to: Format) -> None:
    assert convert(feature_folder(video(n_clips=1, pool="mean")), to=to, out=tmp_path / "out").n_videos == 1


def test_the_layer_has_to_be_there_and_to_be_chosen(tmp_path: Path, video, feature_folder) -> None:
    folder = feature_folder(video(layers={"fc6": (8,), "prob": (5,)}))
    with pytest.raises(UsageError, match=r"several layers \(fc6, prob\); choose one with `layer=`"):
        convert(folder, to="npy", out=tmp_path / "out")
    with pytest.raises(UsageError, match=r"no layer 'fc7', only fc6, prob; .*extract again with `layer=fc7`"):
        convert(folder, to="npy", out=tmp_path / "out", layers=["fc7"])
    with pytest.raises(UsageError, match="npy holds one layer, got fc6, prob"):
        convert(folder, to="npy", out=tmp_path / "out", layers=["fc6", "prob"])
    convert(folder, to="caffe", out=tmp_path / "all")
    assert {path.suffix for path in (tmp_path / "all").rglob("*.*")} == {".fc6-1", ".prob", ".txt"}


def test_a_folder_without_features(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is no folder of features"):
        convert(tmp_path / "missing", to="npy", out=tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(StoreError, match="holds no features; make some with `c3dvideo extract"):
        convert(tmp_path / "empty", to="npy", out=tmp_path / "out")


@pytest.mark.parametrize(
    ("to", "options", "message"),
    [
        ("npy", {"pca": 3}, "`pca=` has no effect on npy"),
        ("hdf5", {"pca_basis": "x"}, "`pca_basis=` has no effect on hdf5"),
        ("npy", {"rounding": "python"}, "`rounding=` has no effect on npy"),
        ("npy", {"merge": True}, "`merge=` has no effect on npy"),
        ("tall", {"merge": True, "context": True}, "`context=` has no effect on tall --merge"),
        ("tall", {"keep_suffix": True}, "`keep_suffix=` has no effect on tall"),
        ("csv", {"span_frames": [64]}, "`span_frames=` has no effect on csv"),
        ("csv", {"crop_layout": "rtfm"}, "`crop_layout=` has no effect on csv"),
        ("activitynet", {"pca": 3, "pca_basis": "x"}, "give one of them"),
    ],
)
def test_an_option_without_effect_is_refused(
    *, tmp_path: Path, video, feature_folder, to: Format, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        convert(feature_folder(video()), to=to, out=tmp_path / "out", **options)


def test_out_has_to_be_the_right_kind_of_place(tmp_path: Path, video, feature_folder) -> None:
    folder = feature_folder(video())
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="is a file, this format is a folder"):
        convert(folder, to="npy", out=tmp_path / "file")
    (tmp_path / "directory").mkdir()
    with pytest.raises(UsageError, match="is a folder, this format is one file"):
        convert(folder, to="hdf5", out=tmp_path / "directory")
    with pytest.raises(UsageError, match="is a folder, this format is one file"):
        convert(folder, to="tall", merge=True, out=tmp_path / "directory")
    with pytest.raises(UsageError, match="lies in the feature folder"):
        convert(folder, to="hdf5", out=folder / "all.hdf5")


def test_a_place_that_cannot_be_written(tmp_path: Path, video, feature_folder) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"file.* could not be written: a part of its path is a file, not a folder"):
        convert(feature_folder(video()), to="npy", out=tmp_path / "file" / "below")


@pytest.mark.parametrize(
    ("to", "module", "extra"),
    [("hdf5", "h5py", "hdf5"), ("activitynet", "h5py", "hdf5"), ("parquet", "pyarrow", "parquet")],
)
def test_a_missing_extra_is_named(
    *, tmp_path: Path, video, feature_folder, monkeypatch: pytest.MonkeyPatch, to: Format, module: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=rf"{module} is not installed; .*c3dvideo\[{extra}\]"):
        convert(feature_folder(video()), to=to, out=tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["features"]


@pytest.mark.parametrize("to", get_args(Format))
def test_a_writer_that_is_stopped_leaves_the_old_file(
    tmp_path: Path, video, feature_folder, monkeypatch: pytest.MonkeyPatch, to: Format
) -> None:
    shape = (5, 8) if to == "crops" else (8,)
    folder = feature_folder(video("a.mp4", layers={"fc6": shape}), video("b.mp4", layers={"fc6": shape}))
    out = tmp_path / "out" / ONE_FILE.get(to, "files")
    convert(folder, to=to, out=out)
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    read = convert.__globals__["read_features"]

    def stopped(path: Path) -> Any:
        if path.name == "b.mp4.npz":
            raise KeyboardInterrupt
        return read(path)

    monkeypatch.setitem(convert.__globals__, "read_features", stopped)
    with pytest.raises(KeyboardInterrupt):
        convert(folder, to=to, out=out)
    assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()} == before


def test_the_page_on_formats_has_them_all() -> None:
    page = (Path(__file__).parents[3] / "docs" / "formats.md").read_text()
    headings = [line.removeprefix("## ").split(":")[0] for line in page.splitlines() if line.startswith("## ")]
    assert headings[2:] == list(get_args(Format))
