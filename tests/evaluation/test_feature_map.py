"""Maps: clusters stay apart, small sets work, the same seed gives the same points."""

import numpy as np
import pytest

from c3dvideo.choices import MapMethod as Method
from c3dvideo.errors import UsageError
from c3dvideo.evaluation.feature_map import project


@pytest.mark.parametrize("method", ["tsne", "pca"])
def test_two_clusters_are_two_clusters_on_the_map(method: Method) -> None:
    generator = np.random.default_rng(0)
    rows = np.concatenate([generator.normal(size=(30, 60)), generator.normal(size=(30, 60)) + 10])
    points = project(rows, method=method)
    first, second = points[:30], points[30:]
    gap = np.linalg.norm(first.mean(axis=0) - second.mean(axis=0))
    assert gap > 2 * max(first.std(axis=0).max(), second.std(axis=0).max())
    np.testing.assert_array_equal(points, project(rows, method=method))


@pytest.mark.parametrize("n", [3, 4, 5, 8])
def test_a_handful_of_videos_makes_a_map(n: int) -> None:
    assert project(np.random.default_rng(0).random((n, 6))).shape == (n, 2)


def test_equal_videos_lie_on_one_point() -> None:
    np.testing.assert_array_equal(project(np.ones((6, 4))), np.zeros((6, 2)))


def test_two_videos_make_none() -> None:
    with pytest.raises(UsageError, match="three or more"):
        project(np.zeros((2, 6)))
