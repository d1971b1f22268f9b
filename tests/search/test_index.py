"""An index mirrors a folder of features: what is written, what is left alone, and what is refused."""

import json
import shutil
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from c3dvideo.errors import DatasetError, StoreError, UsageError
from c3dvideo.features.store import VideoFeatures, descriptor, feature_path
from c3dvideo.search.build_index import build_index
from c3dvideo.search.feature_clips import clip_ends
from c3dvideo.search.index import Index

Folder = Callable[..., Path]


def clips(seed: int, n_clips: int = 3, width: int = 12) -> Any:
    """Clips around one point per seed, all of them in one corner, as features behind a ReLU are."""
    generator = np.random.default_rng(seed)
    return (3 + generator.random(width) + 0.05 * generator.random((n_clips, width))).astype(np.float32)


@pytest.fixture
def features(tmp_path: Path, feature_folder: Folder) -> Path:
    return feature_folder(tmp_path / "features", {f"sub/{name}.mp4": clips(seed) for seed, name in enumerate("abcdef")})


def files_of(db: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in db.rglob("*") if path.is_file()}


def test_an_index_holds_every_clip_with_its_span_and_its_vector(tmp_path: Path, features: Path) -> None:
    report = build_index(features, tmp_path / "db")
    assert (report.n_videos, report.n_clips, report.n_added, report.failures) == (6, 18, 6, ())
    index = Index.open(tmp_path / "db")
    assert (index.layer, index.dimensions, index.n_videos, index.n_clips) == ("fc6", 12, 6, 18)
    assert index.settings == {"weights": "w1"}
    table = index.clips()
    assert table.video.tolist() == [f"sub/{name}.mp4" for name in "abcdef" for _ in range(3)]
    np.testing.assert_array_equal(table.vectors, np.concatenate([clips(seed) for seed in range(6)]))
    np.testing.assert_allclose(table.start_seconds[:3], [0, 0.64, 1.28])
    np.testing.assert_allclose(table.end_seconds[:3], [0.64, 1.28, 1.92])
    one = index.clips("sub/b.mp4")
    np.testing.assert_array_equal(one.vectors, clips(1))
    np.testing.assert_array_equal(index.video_vectors()[1], descriptor(clips(1)))
    assert index.videos()[1].end_seconds == pytest.approx(1.92)


def test_a_second_run_writes_nothing(tmp_path: Path, features: Path) -> None:
    build_index(features, tmp_path / "db")
    version, files = Index.open(tmp_path / "db").version, files_of(tmp_path / "db")
    report = build_index(features, tmp_path / "db")
    assert (report.n_added, report.n_changed, report.n_removed, report.n_unchanged) == (0, 0, 0, 6)
    assert files_of(tmp_path / "db") == files
    assert Index.open(tmp_path / "db").version == version


def test_only_what_has_changed_is_written(tmp_path: Path, features: Path, feature_folder: Folder) -> None:
    build_index(features, tmp_path / "db")
    index = Index.open(tmp_path / "db")
    parts = {video.video: index.stored(video.video)["part"] for video in index.videos()}
    version = index.version
    feature_path(features, "sub/a.mp4").unlink()
    feature_folder(features, {"sub/b.mp4": clips(50, n_clips=4), "new.mp4": clips(51)})
    report = build_index(features, tmp_path / "db")
    assert (report.n_added, report.n_changed, report.n_removed, report.n_unchanged) == (1, 1, 1, 4)
    assert "1 removed" in str(report)
    # The index that was open before shows the new state.
    assert index.version > version
    assert [video.video for video in index.videos()] == ["new.mp4", *(f"sub/{name}.mp4" for name in "bcdef")]
    assert index.n_clips == report.n_clips == 19
    np.testing.assert_array_equal(index.clips("sub/b.mp4").vectors, clips(50, n_clips=4))
    kept = [name for name, part in parts.items() if name in index and index.stored(name)["part"] == part]
    assert kept == [f"sub/{name}.mp4" for name in "cdef"]
    assert index.clip_rows.count_rows() == 19


def test_a_folder_that_has_doubled_gets_new_statistics(tmp_path: Path, features: Path, feature_folder: Folder) -> None:
    assert not build_index(features, tmp_path / "db").rebuilt
    index = Index.open(tmp_path / "db")
    mean = index.space.mean
    feature_folder(features, {f"{seed}.mp4": clips(seed) for seed in range(100, 106)})
    report = build_index(features, tmp_path / "db")
    assert (report.rebuilt, report.n_added, report.n_unchanged) == (True, 6, 6)
    assert index.n_videos == 12
    assert np.abs(index.space.mean - mean).max() > 1e-4
    tables = sorted(path.name.partition("_")[0] for path in (tmp_path / "db").glob("*.lance"))
    assert tables == ["about.lance", "clips", "videos"]
    assert not build_index(features, tmp_path / "db").rebuilt


def test_broken_feature_files_are_skipped_and_listed(tmp_path: Path, features: Path, feature_folder: Folder) -> None:
    (features / "cut.mp4.npz").write_bytes((features / "sub/a.mp4.npz").read_bytes()[:200])
    (features / "text.mp4.npz").write_text("no archive")
    feature_folder(features, {"nan.mp4": np.full((2, 12), np.nan), "narrow.mp4": np.ones((2, 5))})
    feature_folder(features, {"other layer.mp4": clips(9)}, layer="fc7")
    report = build_index(features, tmp_path / "db")
    assert report.n_videos == 6
    names = ["cut.mp4", "nan.mp4", "narrow.mp4", "other layer.mp4", "text.mp4"]
    assert [failure.name for failure in report.failures] == names
    assert "NaN" in report.failures[1].message
    assert "5 numbers per clip" in report.failures[2].message
    # They fail again, and nothing is written for them.
    files = files_of(tmp_path / "db")
    assert len(build_index(features, tmp_path / "db").failures) == 5
    assert files_of(tmp_path / "db") == files
    # A file that breaks later leaves the index.
    (features / "sub/a.mp4.npz").write_bytes(b"")
    assert build_index(features, tmp_path / "db").n_removed == 1


def test_features_of_other_settings_or_layers_are_refused(
    tmp_path: Path, features: Path, feature_folder: Folder
) -> None:
    build_index(features, tmp_path / "db")
    files = files_of(tmp_path / "db")
    other = feature_folder(tmp_path / "other", {"a.mp4": clips(0)}, settings={"weights": "w2"})
    with pytest.raises(StoreError, match=r"weights is 'w1' there and 'w2' here.*`db=`"):
        build_index(other, tmp_path / "db")
    with pytest.raises(UsageError, match="no layer 'fc7'"):
        build_index(features, tmp_path / "db", layer="fc7")
    both = feature_folder(tmp_path / "both", {"a.mp4": {"fc6": clips(0), "fc7": clips(1)}})
    with pytest.raises(StoreError, match="holds fc6, and fc7 was chosen"):
        build_index(both, tmp_path / "db", layer="fc7")
    with pytest.raises(UsageError, match=r"mirrors .*features, and 6 of its 6 videos are not in"):
        build_index(both, tmp_path / "db")
    with pytest.raises(StoreError, match="holds all numbers per clip"):
        build_index(features, tmp_path / "db", pca=3)
    assert files_of(tmp_path / "db") == files
    mixed = feature_folder(tmp_path / "other", {"b.mp4": clips(0)}, settings={"weights": "w3"})
    with pytest.raises(StoreError, match=r"b\.mp4\.npz holds features of other settings"):
        build_index(mixed, tmp_path / "mixed.db")


def test_a_folder_that_was_moved_is_the_same_folder(tmp_path: Path, features: Path) -> None:
    build_index(features, tmp_path / "db")
    features.rename(tmp_path / "moved")
    feature_path(tmp_path / "moved", "sub/a.mp4").unlink()
    assert build_index(tmp_path / "moved", tmp_path / "db").n_removed == 1


def test_what_is_no_index_is_left_alone(tmp_path: Path, features: Path) -> None:
    with pytest.raises(StoreError, match="there is no index"):
        Index.open(tmp_path / "missing")
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers" / "thesis.tex").write_text("...")
    with pytest.raises(StoreError, match="no table 'about'"):
        Index.open(tmp_path / "papers")
    with pytest.raises(UsageError, match=r"not empty and is no index; it has thesis\.tex"):
        build_index(features, tmp_path / "papers")
    with pytest.raises(UsageError, match="holds no features"):
        build_index(tmp_path / "papers", tmp_path / "db")
    assert [path.name for path in (tmp_path / "papers").iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("about", ['{"format": 99}', '{"format": 1}', "[]", "no JSON"])
def test_an_index_of_another_version_is_refused(tmp_path: Path, features: Path, about: str) -> None:
    import lancedb

    build_index(features, tmp_path / "db")
    table = lancedb.connect(tmp_path / "db").open_table("about")
    table.update(where="key = 'index'", values={"record": about})
    for use in (Index.open, lambda db: build_index(features, db)):
        with pytest.raises(StoreError, match=r"index of format|no index of c3dvideo"):
            use(tmp_path / "db")


def test_labels_are_stored_with_videos_and_clips(tmp_path: Path, features: Path) -> None:
    labels = tmp_path / "labels.csv"
    labels.write_text(
        "path,label,start_seconds,end_seconds\nsub/a.mp4,run,,\nsub/a.mp4,jump,0.64,1.28\nsub/b.mp4,swim,,\n"
    )
    build_index(features, tmp_path / "db", labels=labels)
    index = Index.open(tmp_path / "db")
    assert [video.label for video in index.videos()][:3] == ["run", "swim", None]
    assert index.clips("sub/a.mp4").label.tolist() == ["run", "jump", "run"]
    labels.write_text("path,label\nsub/a.mp4,run\nsub/b.mp4,dive\n")
    report = build_index(features, tmp_path / "db", labels=labels)
    assert (report.n_changed, report.n_unchanged) == (2, 4)
    assert index.clips("sub/b.mp4").label.tolist() == ["dive"] * 3


def test_of_overlapping_labels_the_shortest_part_counts(tmp_path: Path, features: Path) -> None:
    """As on the page, in whatever order the lines stand."""
    lines = ["sub/a.mp4,short,0.6,1.3", "sub/a.mp4,whole,,", "sub/a.mp4,long,0.5,9"]
    for position in range(3):
        labels = tmp_path / "labels.csv"
        rotated = lines[position:] + lines[:position]
        labels.write_text("\n".join(["path,label,start_seconds,end_seconds", *rotated]))
        build_index(features, tmp_path / f"db{position}", labels=labels)
        table = Index.open(tmp_path / f"db{position}").clips("sub/a.mp4")
        assert table.label.tolist() == ["whole", "short", "long"]


def test_folders_may_be_the_labels(tmp_path: Path, features: Path, feature_folder: Folder) -> None:
    build_index(features, tmp_path / "db", labels_from_folders=True)
    assert {video.label for video in Index.open(tmp_path / "db").videos()} == {"sub"}
    with pytest.raises(UsageError, match="choose one of `labels=` and `labels_from_folders=`"):
        build_index(features, tmp_path / "db", labels="labels.csv", labels_from_folders=True)
    feature_folder(features, {"loose.mp4": clips(9)})
    with pytest.raises(DatasetError, match=r"1 videos lie in no folder .*loose\.mp4"):
        build_index(features, tmp_path / "db", labels_from_folders=True)


def test_names_may_hold_anything(tmp_path: Path, feature_folder: Folder) -> None:
    names = ["it's.mp4", 'a "b".mp4', "50% #1.mp4", "<script>.mp4", "a@3.mp4", "caf\udce9.mp4", "\\xe9.mp4", "日本.mp4"]
    folder = feature_folder(tmp_path / "features", {name: clips(seed) for seed, name in enumerate(names)})
    build_index(folder, tmp_path / "db")
    index = Index.open(tmp_path / "db")
    assert [video.video for video in index.videos()] == sorted(names)
    for seed, name in enumerate(names):
        np.testing.assert_array_equal(index.clips(name).vectors, clips(seed))
        assert index.search(index.clips(name).vectors[0], top=1, exclude_videos=[name])[0].video != name
    for name in names:
        feature_path(folder, name).unlink()
    feature_folder(folder, {"left.mp4": clips(0)})
    assert build_index(folder, tmp_path / "db").n_removed == len(names)


def _video(start_frame: list[int], start_seconds: list[float], **metadata: Any) -> VideoFeatures:
    return VideoFeatures(
        name="a.mp4",
        layers={"fc6": np.ones((len(start_frame), 4), np.float32)},
        start_frame=np.array(start_frame),
        start_seconds=np.array(start_seconds, np.float64),
        metadata=metadata,
    )


def test_the_end_of_a_clip_comes_from_the_rate_or_from_the_next_clips() -> None:
    plan = {"clip_length": 16, "sampling_rate": 1}
    fps = str(Fraction(30000, 1001))
    at_rate = clip_ends(_video([0, 16], [0.0, 0.5339], fps=fps, settings={"plan": plan}))
    np.testing.assert_allclose(at_rate, [0.5339, 0.5339 + 16 * 1001 / 30000])
    # Variable rate: the pause inside the first clip counts, the last clip takes the rate.
    np.testing.assert_allclose(clip_ends(_video([0, 16], [0.0, 9.0], fps="16", settings={"plan": plan})), [9, 10])
    # Overlapping clips: the frame after the first clip is the start of the third.
    ends = clip_ends(_video([0, 8, 16], [0.0, 1.0, 5.0], fps="16", settings={"plan": plan}))
    np.testing.assert_allclose(ends, [5.0, 5.5, 6.0])
    sampled = {"plan": {"clip_length": 16, "sampling_rate": 2}}
    np.testing.assert_allclose(clip_ends(_video([0], [0.0], fps="32", settings=sampled)), [1.0])
    pooled = _video([0], [0.0], fps="25", n_frames=100, settings={"plan": plan, "pool": "mean"})
    np.testing.assert_allclose(clip_ends(pooled), [4.0])
    np.testing.assert_allclose(clip_ends(_video([0, 9], [0.0, 2.0])), [2.0, 4.0])
    for strange in ("0", "x", None, "1/0", [1]):
        assert np.isfinite(clip_ends(_video([0], [0.0], fps=strange, settings={"plan": plan}))).all()


def test_a_pca_keeps_few_numbers_per_clip(tmp_path: Path, features: Path) -> None:
    build_index(features, tmp_path / "db", pca=4)
    index = Index.open(tmp_path / "db")
    assert (index.width, index.dimensions) == (12, 4)
    vectors = index.clips("sub/a.mp4").vectors
    assert vectors.shape == (3, 4)
    np.testing.assert_allclose(index.space.encode(clips(0)), vectors, rtol=1e-5)
    with pytest.raises(StoreError, match="holds 4 principal components"):
        build_index(features, tmp_path / "db", pca=5)
    assert build_index(features, tmp_path / "db", pca=4).n_unchanged == 6
    with pytest.raises(UsageError, match="cannot be fitted"):
        build_index(features, tmp_path / "db2", pca=400)


def test_copied_databases_open(tmp_path: Path, features: Path) -> None:
    build_index(features, tmp_path / "db")
    shutil.copytree(tmp_path / "db", tmp_path / "copy")
    assert Index.open(tmp_path / "copy").n_videos == 6
    assert json.dumps(Index.open(tmp_path / "copy").about)
