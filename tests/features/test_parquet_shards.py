"""Parquet shards: the files of videos come back to the byte, and readers take shards for a folder of features."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from c3dvideo.datasets.examples import Example
from c3dvideo.errors import StoreError
from c3dvideo.evaluation.action_recognition import evaluate_predictions
from c3dvideo.features import parquet_shards
from c3dvideo.features.convert import OutputConflictError, convert, shards_output
from c3dvideo.features.failures import Failure, append_failure, read_failures, settle_failures
from c3dvideo.features.manifest import Manifest, claim_folder, read_manifest
from c3dvideo.features.store import (
    VideoFeatures,
    feature_path,
    has_features,
    list_features,
    read_features,
    read_layer_names,
    read_metadata,
    write_features,
)
from c3dvideo.probing.descriptors import read_descriptors
from c3dvideo.search.collection import Collection

pyarrow_parquet = pytest.importorskip("pyarrow.parquet")

NAMES = ["a.mp4", "sub/a.mp4", "sub/déjà vu.avi", "x/y/z.mkv", "bytes\udce9.mp4"]


@pytest.fixture
def features(tmp_path: Path) -> Path:
    """Five videos of different lengths with two layers, one with NaN times and views, a manifest and one failure."""
    folder = tmp_path / "features"
    settings = {"weights": "w1", "plan": {"stride_frames": 16}}
    generator = np.random.default_rng(0)
    for index, name in enumerate(NAMES):
        n_clips = 1 + 2 * index
        write_features(
            feature_path(folder, name),
            VideoFeatures(
                name=name,
                layers={
                    "pool5": generator.standard_normal((n_clips, 2, 1, 3, 3)).astype(np.float32),
                    "fc6": generator.standard_normal((n_clips, 6)).astype(np.float32),
                },
                start_frame=16 * np.arange(n_clips),
                start_seconds=np.full(n_clips, np.nan) if index == 3 else 0.64 * np.arange(n_clips),
                metadata={"settings": settings, "fps": "25", "source": f"videos/{index}", "n": index, "ratio": 0.1},
            ),
        )
    claim_folder(folder, Manifest(settings=settings), version="0.1")
    append_failure(folder, Failure(name="bad.mp4", path="bad.mp4", stage="decode", message="damaged"))
    settle_failures(folder, solved=())
    return folder


@pytest.fixture
def shards(features: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same videos in shards of two."""
    monkeypatch.setattr(shards_output, "MOST_VIDEOS", 2)
    summary = convert(features, to="shards", out=tmp_path / "shards")
    assert (summary.n_videos, summary.n_clips, summary.failures) == (5, 25, {})
    return tmp_path / "shards"


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_there_and_back_is_the_same_to_the_byte(features: Path, shards: Path, tmp_path: Path) -> None:
    convert(shards, to="npz", out=tmp_path / "again")
    assert tree(tmp_path / "again") == tree(features)
    convert(tmp_path / "again", to="shards", out=tmp_path / "shards_again")
    assert tree(tmp_path / "shards_again") == tree(shards)


def test_the_manifest_lists_the_shards(features: Path, shards: Path) -> None:
    files = json.loads((shards / "manifest.json").read_text())["shards"]
    assert [each["n_videos"] for each in files] == [2, 2, 1]
    assert sum(each["n_clips"] for each in files) == 25
    assert sorted(path.name for path in shards.glob("*.parquet")) == [each["file"] for each in files]
    assert [(shards / each["file"]).stat().st_size for each in files] == [each["bytes"] for each in files]
    assert read_manifest(shards) == read_manifest(features)
    assert read_failures(shards) == read_failures(features)


def test_readers_take_shards_for_a_folder_of_features(features: Path, shards: Path, tmp_path: Path) -> None:
    listed = list_features(shards)
    assert [name for name, _ in listed] == [name for name, _ in list_features(features)] == sorted(NAMES)
    for name, path in listed:
        there, here = read_features(path), read_features(feature_path(features, name))
        assert path == feature_path(shards, name)
        assert there.metadata == here.metadata == read_metadata(path)
        assert list(there.layers) == list(here.layers) == list(read_layer_names(path))
        assert all(np.array_equal(there.layers[layer], here.layers[layer]) for layer in here.layers)
        assert np.array_equal(there.start_seconds, here.start_seconds, equal_nan=True)
    convert(shards, to="npy", out=tmp_path / "npy", layers=["fc6"], keep_suffix=True)
    assert np.load(tmp_path / "npy" / "sub/a.mp4.npy").shape == (3, 6)
    rows, same = read_descriptors([shards], layers=["fc6"]), read_descriptors([features], layers=["fc6"])
    assert np.array_equal(rows.matrix, same.matrix)


def test_commands_find_the_videos_of_shards(features: Path, shards: Path) -> None:
    examples = [Example(name, "one" if index < 2 else "two") for index, name in enumerate([*NAMES, "other.mp4"])]
    classes = ["one", "two", "c", "d", "e", "f"]
    there, here = (evaluate_predictions(folder, examples, classes, layer="fc6") for folder in (shards, features))
    assert there == here
    assert there["featureless"] == ["other.mp4"]
    assert has_features(shards, "a.mp4") and not has_features(shards, "b.mp4")
    found, same = Collection(shards, layer="fc6"), Collection(features, layer="fc6")
    assert found.states.keys() == same.states.keys()
    assert found.failures == {}


def test_other_programs_read_the_rows(shards: Path) -> None:
    table = pyarrow_parquet.read_table(next(shards.glob("clips-00000-*.parquet")))
    assert table.column_names == ["video", "start_frame", "start_seconds", "metadata", "pool5", "fc6"]
    assert table["fc6"].type.list_size == 6
    assert json.loads(table["metadata"][0].as_py())["name"] == table["video"][0].as_py()


def test_a_video_that_is_not_there_and_damage_are_errors(shards: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"other\.npz could not be read: the shards in .* do not hold this video"):
        read_features(shards / "other.npz")
    name = next(shards.glob("clips-00000-*.parquet")).name
    content = bytearray((shards / name).read_bytes())
    content[200:232] = bytes(32)
    (shards / name).write_bytes(content)
    with pytest.raises(StoreError, match=r"clips-00000-\w+\.parquet is not part of a folder of Parquet shards"):
        read_features(list_features(shards)[0][1])
    (shards / name).unlink()
    parquet_shards._read_places.cache_clear()
    with pytest.raises(StoreError, match=r"clips-00000-\w+\.parquet could not be read: it does not exist"):
        list_features(shards)


@pytest.mark.parametrize("seed", range(4))
def test_damaged_bytes_are_errors_or_change_nothing(features: Path, shards: Path, seed: int) -> None:
    """Thirty copies of a shard with cut, changed and inserted bytes; the whole is 600 copies without a fault."""
    shard = sorted(shards.glob("*.parquet"))[0]
    content = shard.read_bytes()
    expected = {name: read_features(path).layers["fc6"].tobytes() for name, path in list_features(features)}
    generator = np.random.default_rng(seed)
    for _ in range(30):
        damaged = bytearray(content)
        place = int(generator.integers(len(content)))
        kind = generator.integers(3)
        damaged[place : place + (kind < 2)] = b"" if kind == 0 else bytes(generator.integers(0, 256, 1, np.uint8))
        shard.write_bytes(damaged)
        parquet_shards._read_places.cache_clear()
        parquet_shards._footer.cache_clear()
        try:
            found = {name: read_features(path).layers for name, path in list_features(shards)}
        except StoreError:
            continue
        assert all(layers["fc6"].tobytes() == expected[name] for name, layers in found.items())


@pytest.mark.parametrize("listed", [5, [5], [{"file": "../x.parquet"}], [{"file": "/etc/x.parquet"}], [{}]])
def test_a_manifest_that_names_other_files_is_refused(listed: Any, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps({"settings": {}, "shards": listed}))
    with pytest.raises(StoreError, match="names no Parquet file of this folder"):
        list_features(tmp_path)


def test_names_in_a_shard_stay_inside_the_folder(shards: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with shards_output.ShardsWriter(tmp_path / "evil") as writer:
        writer.add("../../evil", {"fc6": np.ones((1, 2), np.float32)}, np.zeros(1, np.int64), np.zeros(1), "{}")
    (tmp_path / "evil" / "manifest.json").write_text(json.dumps({"settings": {}, "shards": writer.files}))
    with pytest.raises(StoreError, match="which is no name of a video"):
        convert(tmp_path / "evil", to="npz", out=tmp_path / "out")


def test_nothing_is_lost_by_converting_twice(features: Path, shards: Path, tmp_path: Path) -> None:
    before = tree(shards)
    with pytest.raises(OutputConflictError, match="holds features already"):
        convert(shards, to="shards", out=features, overwrite=True)
    with pytest.raises(StoreError, match="holds Parquet shards, to which nothing can be added"):
        claim_folder(shards, Manifest(settings={}), version="1")
    assert tree(shards) == before
    convert(features, to="shards", out=shards)
    assert tree(shards) == before
    (features / "a.mp4.npz").unlink()
    with pytest.raises(OutputConflictError, match=r"holds something else .* \(a\.mp4\)"):
        convert(features, to="shards", out=shards)
    assert tree(shards) == before
    convert(features, to="shards", out=shards, overwrite=True)
    assert len(list_features(shards)) == 4
    assert len(list(shards.glob("*.parquet"))) == 2


def test_a_choice_of_layers_is_kept(features: Path, tmp_path: Path) -> None:
    convert(features, to="shards", out=tmp_path / "shards", layers=["fc6"])
    convert(tmp_path / "shards", to="npz", out=tmp_path / "npz")
    found = read_features(tmp_path / "npz" / "a.mp4.npz")
    assert list(found.layers) == ["fc6"]
    assert np.array_equal(found.layers["fc6"], read_features(features / "a.mp4.npz").layers["fc6"])


def test_videos_of_other_shapes_are_named_and_the_rest_is_kept(features: Path, tmp_path: Path) -> None:
    odd = read_features(features / "a.mp4.npz")
    write_features(
        features / "b.mp4.npz",
        VideoFeatures(
            name="b.mp4",
            layers={"fc6": odd.layers["fc6"]},
            start_frame=odd.start_frame,
            start_seconds=odd.start_seconds,
            metadata={},
        ),
    )
    summary = convert(features, to="shards", out=tmp_path / "shards")
    assert list(summary.failures) == ["b.mp4"]
    assert "does not fit" in summary.failures["b.mp4"]
    assert len(list_features(tmp_path / "shards")) == 5
