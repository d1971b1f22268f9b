"""One row a video: means, norms, several sources side by side, labels joined by path, and bad input named."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from c3dvideo.datasets.examples import Dataset, Example
from c3dvideo.errors import DatasetError, StoreError, UsageError
from c3dvideo.probing.descriptors import clip_vectors, read_descriptors
from c3dvideo.probing.labelled import join, labels_from_folders, note_leftovers

Writer = Callable[..., Path]
CLIPS = {"a/1.mp4": np.array([[3.0, 0.0], [3.0, 8.0]]), "b/2.mp4": np.array([[0.0, 5.0]])}


def dataset(**labels: str) -> Dataset:
    examples = tuple(Example(path, label) for path, label in labels.items())
    return Dataset(examples, tuple(sorted(set(labels.values()))))


def test_a_descriptor_is_the_normalised_mean_of_the_clips(feature_folder: Writer, tmp_path: Path) -> None:
    table = read_descriptors([feature_folder(tmp_path, CLIPS)])
    assert table.names == ("a/1.mp4", "b/2.mp4")
    np.testing.assert_allclose(table.matrix, [[0.6, 0.8], [0.0, 1.0]], atol=1e-7)
    assert [(part.layer, part.width, part.settings) for part in table.parts] == [("fc6", 2, {"weights": "w1"})]


def test_views_and_cells_are_averaged_and_laid_flat() -> None:
    assert clip_vectors(np.zeros((5, 7), np.float32)).shape == (5, 7)
    assert clip_vectors(np.zeros((5, 10, 7), np.float32)).shape == (5, 7)
    assert clip_vectors(np.zeros((5, 4, 1, 2, 2), np.float32)).shape == (5, 16)
    views = np.arange(2 * 10 * 4 * 1 * 2 * 2, dtype=np.float32).reshape(2, 10, 4, 1, 2, 2)
    np.testing.assert_array_equal(clip_vectors(views), views.mean(axis=1).reshape(2, 16))


def test_several_sources_stand_side_by_side_each_of_norm_one(feature_folder: Writer, tmp_path: Path) -> None:
    first = feature_folder(tmp_path / "one", CLIPS)
    second = feature_folder(tmp_path / "two", {name: {"fc7": clips * 9} for name, clips in CLIPS.items()})
    (tmp_path / "idt.csv").write_text("path,x,y,z\na/1.mp4,0,0,2\nb/2.mp4,3,0,0\nc/3.mp4,1,1,1\n")
    np.save(tmp_path / "colour.npy", [[5.0], [2.0]])
    (tmp_path / "vectors" / "a").mkdir(parents=True)
    (tmp_path / "vectors" / "b").mkdir()
    np.save(tmp_path / "vectors" / "a" / "1.mp4.npy", np.array([7.0, 0.0]))
    np.save(tmp_path / "vectors" / "b" / "2.mp4.npy", np.array([[1.0, 1.0], [1.0, -1.0]]))
    sources = [first, second, tmp_path / "idt.csv", tmp_path / "colour.npy", tmp_path / "vectors"]
    table = read_descriptors(sources, row_names=["b/2.mp4", "a/1.mp4"])
    assert [(part.layer, part.width) for part in table.parts] == [
        ("fc6", 2), ("fc7", 2), ("idt", 3), ("colour", 1), ("vectors", 2),
    ]  # fmt: skip
    np.testing.assert_allclose(
        table.matrix, [[0.6, 0.8, 0.6, 0.8, 0, 0, 1, 1, 1, 0], [0, 1, 0, 1, 1, 0, 0, 1, 1, 0]], atol=1e-6
    )
    assert table.names == ("a/1.mp4", "b/2.mp4")


def test_one_folder_twice_gives_two_layers(feature_folder: Writer, tmp_path: Path) -> None:
    folder = feature_folder(tmp_path, {"a.mp4": {"fc6": np.ones((2, 4)), "prob": np.ones((2, 9))}})
    assert read_descriptors([folder, folder], layers=["fc6", "prob"]).matrix.shape == (1, 13)
    with pytest.raises(UsageError, match=r"no layer 'fc7'; it has fc6, prob"):
        read_descriptors([folder], layers=["fc7"])
    with pytest.raises(UsageError, match="3 layers for 2 sources"):
        read_descriptors([folder, folder], layers=["fc6", "fc6", "fc6"])


def test_without_fc6_a_single_layer_is_taken_and_several_must_be_chosen(feature_folder: Writer, tmp_path: Path) -> None:
    assert read_descriptors([feature_folder(tmp_path / "1", CLIPS, layer="pool5")]).parts[0].layer == "pool5"
    two = feature_folder(tmp_path / "2", {"a.mp4": {"fc7": np.ones((1, 2)), "prob": np.ones((1, 2))}})
    with pytest.raises(UsageError, match=r"several layers and no fc6; it has fc7, prob"):
        read_descriptors([two])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_features_that_are_not_numbers_are_refused_by_name(bad: float, feature_folder: Writer, tmp_path: Path) -> None:
    folder = feature_folder(tmp_path, {**CLIPS, "c/3.mp4": np.array([[bad, 1.0]])})
    with pytest.raises(StoreError, match=r"1 videos have NaN or infinite features: c/3\.mp4"):
        read_descriptors([folder])


def test_a_video_without_a_clip_is_left_out(feature_folder: Writer, tmp_path: Path) -> None:
    assert read_descriptors([feature_folder(tmp_path, {**CLIPS, "c.mp4": np.zeros((0, 2))})]).names == tuple(CLIPS)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,x\na,1\n", "expected a header path"),
        ("path,x\na,hello\n", "line 2.*expected numbers"),
        ("path,x\n", "no row"),
        ("path,x,y\na,1,2\nb,1\n", r"t\.csv, line 3: a cell is empty; expected numbers"),
    ],
)
def test_a_table_that_cannot_be_read_is_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(StoreError, match=message):
        read_descriptors([tmp_path / "t.csv"])


def test_sources_that_are_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="neither a folder"):
        read_descriptors([tmp_path / "none"])
    with pytest.raises(StoreError, match="holds no features"):
        read_descriptors([tmp_path])
    (tmp_path / "x.npy").write_bytes(b"no")
    with pytest.raises(StoreError, match=r"is not an \.npy array of features"):
        read_descriptors([tmp_path / "x.npy"])
    np.save(tmp_path / "m.npy", np.zeros((3, 2)))
    with pytest.raises(StoreError, match="each of the 1 rows"):
        read_descriptors([tmp_path / "m.npy"], row_names=["a"])
    with pytest.raises(UsageError, match="at least one"):
        read_descriptors([])


def test_sources_of_different_videos_have_nothing_in_common(feature_folder: Writer, tmp_path: Path) -> None:
    one, two = (feature_folder(tmp_path / name, {f"{name}.mp4": np.ones((1, 2))}) for name in "ab")
    with pytest.raises(StoreError, match="no video has features in all"):
        read_descriptors([one, two])


def test_labels_and_features_are_joined_and_what_is_left_over_is_named(feature_folder: Writer, tmp_path: Path) -> None:
    table = read_descriptors([feature_folder(tmp_path, {**CLIPS, "c/3.mp4": np.ones((1, 2))})])
    found = join(table, dataset(**{"./b/2.mp4": "y", "a/1.mp4": "x", "gone.mp4": "x"}))
    assert found.names == ("b/2.mp4", "a/1.mp4")
    assert found.labels.tolist() == ["y", "x"]
    np.testing.assert_allclose(found.matrix, [[0, 1], [0.6, 0.8]], atol=1e-7)
    assert list(note_leftovers(found)) == [
        "1 video with features but no label: c/3.mp4",
        "1 labelled video without features: gone.mp4",
    ]


def test_labels_of_other_videos_are_refused(feature_folder: Writer, tmp_path: Path) -> None:
    table = read_descriptors([feature_folder(tmp_path, CLIPS)])
    with pytest.raises(DatasetError, match="none of 1 labelled videos has features"):
        join(table, dataset(**{"elsewhere.mp4": "x"}))
    parts = tuple(Example("a/1.mp4", "x", start_seconds=s) for s in (0.0, 1.0))
    with pytest.raises(DatasetError, match="several parts of one video"):
        join(table, Dataset(parts, ("x",)))


def test_labels_from_folders_are_the_nearest_folder() -> None:
    assert [e.label for e in labels_from_folders(["s/walk/1.mp4", "run/2.mp4"]).examples] == ["walk", "run"]
    with pytest.raises(DatasetError, match=r"1 videos lie in no folder.*loose\.mp4"):
        labels_from_folders(["loose.mp4", "run/2.mp4"])


def test_a_split_that_is_not_there_is_refused_with_those_that_are(feature_folder: Writer, tmp_path: Path) -> None:
    table = read_descriptors([feature_folder(tmp_path, CLIPS)])
    found = join(table, Dataset((Example("a/1.mp4", "x", "train"), Example("b/2.mp4", "y", "test")), ("x", "y")))
    assert found.part("test").names == ("b/2.mp4",)
    with pytest.raises(DatasetError, match="no video is in split 'val'; the labels have test, train"):
        found.part("val")
