"""npy, crops, csv, Parquet and HDF5 files, read back as their users read them."""

import json
from pathlib import Path

import h5py
import numpy as np
import pyarrow.parquet
import pytest

from c3dvideo.errors import StoreError
from c3dvideo.features.convert import (
    activitynet_writer,
    crops_writer,
    csv_writer,
    fit_pca,
    hdf5_writer,
    npy_writer,
    parquet_writer,
)


def test_npy_and_its_sidecar(tmp_path: Path, video) -> None:
    features = video("sub/AO8RW.mp4", n_clips=4)
    with npy_writer(tmp_path) as write:
        write("sub/AO8RW", features)
    assert np.array_equal(np.load(tmp_path / "sub" / "AO8RW.npy"), features.layers["fc6"])
    sidecar = json.loads((tmp_path / "sub" / "AO8RW.json").read_text())
    assert sidecar["name"] == "sub/AO8RW.mp4" and sidecar["layer"] == "fc6" and sidecar["shape"] == [4, 8]
    assert sidecar["start_frame"] == [0, 16, 32, 48] and sidecar["start_seconds"] == [0, 0.64, 1.28, 1.92]
    assert sidecar["metadata"] == features.metadata


def test_time_stamps_that_are_not_known_are_null(tmp_path: Path, video) -> None:
    features = video("frames", n_clips=2, frames_folder=True)
    features.start_seconds[:] = np.nan
    with npy_writer(tmp_path) as write:
        write("frames", features)
    assert json.loads((tmp_path / "frames.json").read_text())["start_seconds"] == [None, None]


def test_npy_flattens_pool5_as_the_releases_readers_do(tmp_path: Path, video) -> None:
    features = video(n_clips=2, layers={"pool5": (4, 1, 2, 3)})
    with npy_writer(tmp_path) as write:
        write("a", features)
    array = np.load(tmp_path / "a.npy")
    assert array.shape == (2, 24)
    assert array[1, 1 * 6 + 1 * 3 + 2] == features.layers["pool5"][1, 1, 0, 1, 2]


def test_pooled_features_are_one_row_of_npy(tmp_path: Path, video) -> None:
    with npy_writer(tmp_path) as write:
        write("a", video(n_clips=1, pool="mean"))
    assert np.load(tmp_path / "a.npy").shape == (1, 8)


@pytest.mark.parametrize("n_crops", [5, 10])
def test_crops(tmp_path: Path, video, n_crops: int) -> None:
    features = video("v=abc__#1_label_A.mp4", n_clips=3, layers={"fc6": (n_crops, 8)})
    with crops_writer(tmp_path / "xd") as write:
        write("v=abc__#1_label_A", features)
    for k in range(n_crops):
        crop = np.load(tmp_path / "xd" / f"v=abc__#1_label_A__{k}.npy")
        assert crop.dtype == np.float32 and np.array_equal(crop, features.layers["fc6"][:, k])
    with crops_writer(tmp_path / "rtfm", crop_layout="rtfm") as write:
        write("a", features)
    assert np.array_equal(np.load(tmp_path / "rtfm" / "a.npy"), features.layers["fc6"])
    # RTFM's loader takes (T, crops, D) apart by transposing to crops first
    assert np.load(tmp_path / "rtfm" / "a.npy").transpose(1, 0, 2).shape == (n_crops, 3, 8)


def test_crops_of_one_view_are_refused(tmp_path: Path, video) -> None:
    with crops_writer(tmp_path) as write, pytest.raises(StoreError, match="`crops=five`"):
        write("a", video())


@pytest.mark.parametrize("writer", [npy_writer, csv_writer])
def test_several_views_are_refused_elsewhere(tmp_path: Path, video, writer) -> None:
    with writer(tmp_path) as write, pytest.raises(StoreError, match=r"10 crops per clip.*`to=crops`"):
        write("a", video(layers={"fc6": (10, 8)}))


def test_csv(tmp_path: Path, video) -> None:
    features = video(n_clips=3, stride_frames=8)
    with csv_writer(tmp_path) as write:
        write("a", features)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a_000000.csv", "a_000008.csv", "a_000016.csv"]
    for clip in range(3):
        text = (tmp_path / f"a_{8 * clip:06d}.csv").read_text()
        assert text == ",".join(f"{value:.16f}" for value in features.layers["fc6"][clip].tolist()) + "\n"


def test_parquet(tmp_path: Path, video) -> None:
    layers = {"fc6": (8,), "pool5": (4, 1, 2, 2)}
    videos = [video("sub/a.mp4", n_clips=3, layers=layers), video("b.mp4", n_clips=2, layers=layers, seed=1)]
    with parquet_writer(tmp_path / "all.parquet") as write:
        for one in videos:
            write(one.name, one)
    table = pyarrow.parquet.read_table(tmp_path / "all.parquet")
    assert [f"{field.name}: {field.type}" for field in table.schema] == [
        "video: string",
        "start_frame: int64",
        "start_seconds: double",
        "fc6: fixed_size_list<element: float>[8]",
        "pool5: fixed_size_list<element: float>[16]",
    ]
    rows = table.to_pylist()
    assert [(row["video"], row["start_frame"], row["start_seconds"]) for row in rows] == [
        ("sub/a.mp4", 0, 0.0),
        ("sub/a.mp4", 16, 0.64),
        ("sub/a.mp4", 32, 1.28),
        ("b.mp4", 0, 0.0),
        ("b.mp4", 16, 0.64),
    ]
    assert np.array_equal(np.array([row["fc6"] for row in rows[3:]], np.float32), videos[1].layers["fc6"])
    assert np.array_equal(
        np.array([row["pool5"] for row in rows[:3]], np.float32), videos[0].layers["pool5"].reshape(3, 16)
    )


def test_parquet_of_videos_that_do_not_match(tmp_path: Path, video) -> None:
    with parquet_writer(tmp_path / "all.parquet", layers=["fc6"]) as write:
        write("a", video())
        with pytest.raises(StoreError, match=r"does not fit: .*\[9\]; before: .*\[8\]"):
            write("b", video(layers={"fc6": (9,)}))
    assert pyarrow.parquet.read_table(tmp_path / "all.parquet").num_rows == 5


def test_parquet_without_a_video_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="columns are not known"), parquet_writer(tmp_path / "all.parquet"):
        pass
    assert not list(tmp_path.iterdir())


def test_hdf5_has_a_data_set_a_video_at_the_root(tmp_path: Path, video) -> None:
    features = video("s13-d21.avi")
    with hdf5_writer(tmp_path / "all.hdf5") as write:
        write("s13-d21", features)
        write("sub/b", video(seed=1))
    with h5py.File(tmp_path / "all.hdf5") as file:
        assert sorted(file) == ["s13-d21", "sub"]
        assert np.array_equal(file["s13-d21"][:], features.layers["fc6"])
        assert file["s13-d21"].dtype == np.float32 and file["s13-d21"].compression == "gzip"
        assert file["sub/b"].shape == (5, 8)


def test_hdf5_refuses_a_video_that_is_also_a_folder(tmp_path: Path, video) -> None:
    with hdf5_writer(tmp_path / "all.hdf5") as write:
        write("a", video())
        with pytest.raises(StoreError, match="a/b cannot be a data set"):
            write("a/b", video())


def test_activitynet_layout(tmp_path: Path, video) -> None:
    features = video("v_QOlSCBRmfWY.mp4", n_clips=6, stride_frames=8, layers={"fc7": (8,)})
    with activitynet_writer(tmp_path / "plain.hdf5") as write:
        write("QOlSCBRmfWY", features)
        write("v_0123456789a", features)
    with h5py.File(tmp_path / "plain.hdf5") as file:
        for video_id in ("QOlSCBRmfWY", "0123456789a"):
            assert np.array_equal(file["v_" + video_id]["c3d_features"][:], features.layers["fc7"])
        assert list(file["v_QOlSCBRmfWY"]) == ["c3d_features"]  # loaders of dense captioning take the first data set


def test_activitynet_on_a_basis(tmp_path: Path, video) -> None:
    features = video(n_clips=20, layers={"fc7": (8,)})
    basis = fit_pca([features.layers["fc7"]], n_components=3)
    with activitynet_writer(tmp_path / "pca.hdf5", basis=basis) as write:
        write("a", features)
    with h5py.File(tmp_path / "pca.hdf5") as file:
        rows = file["v_a"]["c3d_features"][:]
    centred = features.layers["fc7"] - features.layers["fc7"].mean(axis=0, dtype=np.float64)
    assert rows.shape == (20, 3) and rows.dtype == np.float32
    assert np.allclose(rows.var(axis=0, ddof=1), basis.explained_variance, rtol=1e-4)
    assert np.allclose(rows, centred @ basis.components.T, atol=1e-5)
