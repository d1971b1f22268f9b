"""VideoDescriptor in scikit-learn's own company: pipelines, cross-validation, clones, pickles, estimator checks."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.impute import SimpleImputer
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC
from sklearn.utils.estimator_checks import check_estimator
from sklearn.utils.validation import validate_data

from c3dvideo import C3D, Extractor, VideoDescriptor
from c3dvideo.errors import UsageError, VideoError
from c3dvideo.features.manifest import read_manifest
from c3dvideo.features.store import descriptor
from c3dvideo.network.folder import save_folder
from c3dvideo.video.clips import ClipPlan


@pytest.fixture
def videos(moving_square: Callable[..., Path], tmp_path: Path) -> list[str]:
    """Three videos of one seed and three of another, of 20 to 22 frames."""
    return [
        str(moving_square(tmp_path / f"seed{seed}/{length}.mp4", n_frames=length, height=48, width=64, seed=seed))
        for seed in (1, 5)
        for length in (20, 21, 22)
    ]


@pytest.fixture
def weights(tiny_network: C3D, tmp_path: Path) -> str:
    save_folder(tiny_network, tmp_path / "weights")
    return str(tmp_path / "weights")


@pytest.fixture
def make(weights: str, tmp_path: Path) -> Callable[..., VideoDescriptor]:
    return lambda **changes: VideoDescriptor(
        **{"weights": weights, "stride_frames": 8, "workers": 0, "cache": tmp_path / "cache", **changes}
    )


def count_computed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    computed: list[str] = []
    original = Extractor.activations

    def counting(self: Extractor, sources: Any, **options: Any) -> Any:
        computed.extend(source.path for source in sources)
        return original(self, sources, **options)

    monkeypatch.setattr(Extractor, "activations", counting)
    return computed


def test_rows_are_the_descriptors_of_the_extractor(make: Any, weights: str, videos: list[str]) -> None:
    rows = make(layer=["pool5", "fc6"]).fit_transform(videos[:2])
    extractor = Extractor(weights, layers=["pool5", "fc6"], plan=ClipPlan(clip_length=8, stride_frames=8), workers=0)
    for row, features in zip(rows, extractor(videos[:2]), strict=True):
        flat = [features.layers[name].reshape(len(features.start_frame), -1) for name in ("pool5", "fc6")]
        np.testing.assert_array_equal(row, np.concatenate([descriptor(array) for array in flat]))
    assert rows.dtype == np.float32


def test_every_video_is_decoded_once_in_a_cross_validated_pipeline(
    make: Any, videos: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    computed = count_computed(monkeypatch)
    classifier = make_pipeline(make(), LinearSVC())
    labels = [Path(path).parent.name for path in videos]
    assert cross_val_score(classifier, videos, labels, cv=3).mean() == 1
    assert sorted(computed) == sorted(videos)
    search = GridSearchCV(classifier, {"linearsvc__C": [0.1, 1], "videodescriptor__layer": ["fc6", "fc7"]}, cv=3)
    assert search.fit(np.array(videos), labels).best_score_ == 1
    assert len(computed) == 2 * len(videos)  # fc7 has a fingerprint of its own


def test_the_cache_goes_by_content_and_by_fingerprint(
    make: Any, videos: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed = count_computed(monkeypatch)
    before = make().transform(videos[:2])
    Path(videos[0]).rename(tmp_path / "renamed.mp4")
    again = make().transform([tmp_path / "renamed.mp4", videos[1]])
    np.testing.assert_array_equal(again, before)
    assert len(computed) == 2
    make(short="repeat_last").transform(videos[1:2])  # another fingerprint
    assert len(computed) == 3
    folders = list((tmp_path / "cache").iterdir())
    assert len(folders) == 2
    assert all(read_manifest(folder).fingerprint.startswith(folder.name) for folder in folders)


def test_a_damaged_entry_of_the_cache_is_made_again(make: Any, videos: list[str], tmp_path: Path) -> None:
    before = make().transform(videos[:1])
    (entry,) = (tmp_path / "cache").rglob("*.npz")
    entry.write_bytes(entry.read_bytes()[:100])
    np.testing.assert_array_equal(make().transform(videos[:1]), before)
    assert entry.stat().st_size > 100


def test_without_a_cache_nothing_is_written(make: Any, videos: list[str], tmp_path: Path) -> None:
    make(cache=False).transform(videos[:1])
    assert not list(tmp_path.rglob("*.npz"))


def test_equal_paths_and_equal_videos_are_computed_once(
    make: Any, videos: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed = count_computed(monkeypatch)
    copy = tmp_path / "copy of one.mp4"
    copy.write_bytes(Path(videos[0]).read_bytes())
    rows = make().transform([videos[0], str(copy), videos[0]])
    assert len(computed) == 1
    assert len(np.unique(rows, axis=0)) == 1


def test_a_failed_video_is_an_error_that_names_it_and_costs_no_decoding(
    make: Any, videos: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed = count_computed(monkeypatch)
    with pytest.raises(VideoError, match=r"1 videos have no descriptor: .*missing\.mp4.*failed='nan'"):
        make().fit(videos).transform([videos[0], str(tmp_path / "missing.mp4")])
    assert not computed


def test_a_failed_video_can_be_a_row_of_nan(
    make: Any, videos: list[str], moving_square: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    short = str(moving_square(tmp_path / "short.mp4", n_frames=3, height=48, width=64))
    given = [str(tmp_path / "text.mp4"), videos[0], short, str(tmp_path / "missing.mp4")]
    rows = make(failed="nan").transform(given)
    assert np.isnan(rows).all(axis=1).tolist() == [True, False, True, True]
    assert np.isfinite(make_pipeline(make(failed="nan"), SimpleImputer()).fit_transform(given)).all()
    with pytest.raises(VideoError, match=r"short\.mp4.*3 frames"):
        make().transform([videos[0], short])
    assert np.isfinite(make(short="repeat_last").transform([short])).all()


def test_clone_keeps_the_parameters(make: Any) -> None:
    original = make(crops="five", failed="nan")
    copy = clone(original)
    assert copy is not original
    assert copy.get_params() == original.get_params()
    assert copy.set_params(layer="fc7").layer == "fc7"


def test_set_output_gives_named_columns(make: Any, videos: list[str]) -> None:
    frame = make(layer=["fc6", "fc7"]).set_output(transform="pandas").fit_transform(pd.Series(videos[:2]))
    assert list(frame.columns[[0, 15, 16]]) == ["fc6_0", "fc6_15", "fc7_0"]
    assert len(frame) == 2


def test_columns_of_tables_are_paths_too(make: Any, videos: list[str]) -> None:
    table = pd.DataFrame({"path": videos[:2]})
    expected = make().transform(videos[:2])
    for given in (table, table["path"], np.array(videos[:2]), tuple(videos[:2]), list(map(Path, videos[:2]))):
        np.testing.assert_array_equal(make().transform(given), expected)
    assert make().transform([]).shape == (0, 16)


def test_a_fitted_one_survives_pickling_and_leaves_the_network_out(make: Any, videos: list[str]) -> None:
    fitted = make().fit(videos)
    content = pickle.dumps(fitted)
    assert len(content) < 4000
    again = pickle.loads(content)
    assert again.fingerprint_ == fitted.fingerprint_
    np.testing.assert_array_equal(again.transform(videos[:1]), fitted.transform(videos[:1]))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("a.mp4", "expected a list of paths"),
        ([[0.5, 1.0]], r"the paths have shape \(1, 2\)"),
        ([0.5], r"a path is float 0\.5"),
        ([None], "a path is NoneType"),
    ],
)
def test_what_is_no_list_of_paths_is_refused(make: Any, given: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make().fit(given)


def test_wrong_parameters_are_refused_by_fit_and_not_before(make: Any) -> None:
    for changes in ({"failed": "skip"}, {"layer": "fc9"}, {"stride_frames": 0}, {"engine": "quick"}):
        with pytest.raises(UsageError):
            make(**changes).fit(["a.mp4"])


class OfNumbers(VideoDescriptor):
    """Takes the numbers that scikit-learn's checks feed, and looks at one of six videos per row of numbers."""

    videos: tuple[str, ...] = ()

    def _paths(self, X: Any, *, reset: bool = False) -> list[str]:
        rows = validate_data(self, X, reset=reset)
        return [self.videos[int(np.abs(row).sum() * 8) % len(self.videos)] for row in rows]

    def fit(self, X: Any, y: object = None) -> Any:
        self._paths(X, reset=True)
        return super().fit(X, y)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string, tags.input_tags.one_d_array, tags.input_tags.two_d_array = False, False, True
        return tags


def test_it_passes_every_estimator_check(make: Any, videos: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The checks feed numbers only, so each row of numbers stands for one of six videos."""
    monkeypatch.setattr(OfNumbers, "videos", tuple(videos))
    estimator = OfNumbers(**make().get_params())
    results = check_estimator(estimator, on_fail=None, on_skip=None)
    failed = {result["check_name"]: repr(result["exception"]) for result in results if result["status"] == "failed"}
    assert failed == {}
    assert sum(result["status"] == "passed" for result in results) > 30
