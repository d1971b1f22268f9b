"""Principal components against scikit-learn's exact solver, and the basis on disk."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA

from c3dvideo.errors import StoreError, UsageError
from c3dvideo.features.convert import PcaBasis, fit_pca


def blocks_of(rows: np.ndarray, sizes: list[int]) -> list[np.ndarray]:
    return [block for block in np.split(rows, np.cumsum(sizes)[:-1]) if len(block)]


def skewed(n_clips: int, width: int, seed: int = 0) -> np.ndarray:
    """Rows with clearly different variances along hidden directions, far from the origin."""
    generator = np.random.default_rng(seed)
    return (
        generator.normal(size=(n_clips, width))
        @ np.diag(2.0 ** -np.arange(width))
        @ generator.normal(size=(width, width))
        + 50
    ).astype(np.float32)


@pytest.mark.parametrize(("n_clips", "width"), [(20, 30), (31, 30), (400, 12), (3000, 12)])
def test_equals_scikit_learn(n_clips: int, width: int) -> None:
    rows = skewed(n_clips, width)
    basis = fit_pca(blocks_of(rows, [7] * (n_clips // 7) + [n_clips % 7]), n_components=5)
    theirs = PCA(5, svd_solver="full").fit(rows.astype(np.float64))
    assert np.allclose(basis.mean, theirs.mean_)
    assert np.allclose(basis.explained_variance, theirs.explained_variance_, rtol=1e-9)
    assert np.isclose(basis.explained_variance.sum() / basis.total_variance, theirs.explained_variance_ratio_.sum())
    signs = np.sign((basis.components * theirs.components_).sum(axis=1))
    assert np.allclose(basis.components, theirs.components_ * signs[:, None], atol=1e-7)
    assert np.allclose(basis.project(rows), theirs.transform(rows.astype(np.float64)) * signs, atol=1e-4)


@settings(deadline=None)
@given(st.lists(st.integers(1, 9), min_size=2, max_size=12), st.integers(0, 1000))
def test_the_split_into_videos_does_not_matter(sizes: list[int], seed: int) -> None:
    rows = skewed(sum(sizes), 6, seed)
    n_components = min(3, len(rows) - 1)
    whole = fit_pca([rows], n_components=n_components)
    parts = fit_pca(blocks_of(rows, sizes), n_components=n_components)
    assert np.allclose(whole.mean, parts.mean)
    assert np.allclose(whole.explained_variance, parts.explained_variance, rtol=1e-6, atol=1e-9)
    assert np.allclose(parts.components @ parts.components.T, np.eye(n_components), atol=1e-9)


def test_all_components_keep_everything() -> None:
    rows = skewed(40, 6)
    basis = fit_pca([rows], n_components=6)
    assert np.isclose(basis.explained_variance.sum(), basis.total_variance)
    assert np.allclose(basis.project(rows) @ basis.components + basis.mean, rows, atol=1e-3)


@pytest.mark.parametrize("n_components", [0, 6, 7])
def test_more_components_than_clips_or_numbers_are_refused(n_components: int) -> None:
    rows = skewed(6, 6) if n_components == 6 else skewed(50, 6)
    with pytest.raises(
        UsageError, match=f"{n_components} principal components cannot be fitted on .* clips of 6 numbers"
    ):
        fit_pca([rows], n_components=n_components)


def test_blocks_of_different_widths_are_refused() -> None:
    with pytest.raises(StoreError, match="clips of 6 and of 5 numbers"):
        fit_pca([skewed(9, 6), skewed(9, 5)], n_components=2)


def test_a_basis_survives_the_disk(tmp_path: Path) -> None:
    rows = skewed(40, 6)
    basis = fit_pca([rows], n_components=3)
    basis.save(tmp_path / "basis.npz")
    with np.load(tmp_path / "basis.npz") as arrays:
        assert set(arrays.files) == {
            "mean",
            "components",
            "explained_variance",
            "total_variance",
            "n_clips",
            "made_for",
        }
    assert np.array_equal(PcaBasis.load(tmp_path / "basis.npz").project(rows), basis.project(rows))


def test_a_file_that_is_no_basis_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.npz").write_text("no")
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    np.save(tmp_path / "bare.npy", np.zeros(3))
    for name in ("text.npz", "other.npz", "bare.npy", "missing.npz"):
        with pytest.raises(StoreError, match=r"(is not|expected) a PCA basis"):
            PcaBasis.load(tmp_path / name)
    fit_pca([skewed(9, 6)], n_components=2).save(tmp_path / "misfit.npz")
    with np.load(tmp_path / "misfit.npz") as arrays:
        np.savez(tmp_path / "misfit.npz", **{**arrays, "mean": np.zeros(5)})
    with pytest.raises(StoreError, match="does not fit together"):
        PcaBasis.load(tmp_path / "misfit.npz")


def test_clips_of_another_width_are_refused() -> None:
    with pytest.raises(StoreError, match="clips have 5 numbers, the PCA basis was fitted on 6"):
        fit_pca([skewed(9, 6)], n_components=2).project(skewed(3, 5))
