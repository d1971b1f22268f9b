"""A map of descriptors: near points are videos with similar descriptors (paper Figure 6, t-SNE of fc6).

points = project(matrix, method="tsne")          # float64 (n, 2)
write_map(labelled, points, "map.png")           # map.png and map.csv
"""

from pathlib import Path

import numpy as np
from sklearn.decomposition import PCA

from c3dvideo.choices import MapMethod
from c3dvideo.datasets.splits import check_seed
from c3dvideo.errors import UsageError
from c3dvideo.evaluation.evaluation_report import write_table
from c3dvideo.features.store import feature_path, read_features
from c3dvideo.figure_layout import SUFFIXES, check_picture
from c3dvideo.plots import draw_scatter
from c3dvideo.probing.descriptors import Array, choose_layer, clip_vectors, unit_rows
from c3dvideo.probing.labelled import Labelled
from c3dvideo.progress import track

_FIRST_COMPONENTS = 50


def project(matrix: Array, *, method: MapMethod = "tsne", perplexity: float = 30.0, seed: int = 0) -> Array:
    """Points in the plane, float64 (n, 2), one per descriptor (n, D).

    "tsne" reduces to 50 principal components first, and its perplexity is at most a third of the number of points.
    Fewer than five points get their principal components. Equal descriptors all lie at (0, 0).
    Raises UsageError for fewer than three points.
    """
    check_seed(seed)
    n = len(matrix)
    if n < 3 or matrix.shape[1] < 2:
        raise UsageError(
            f"{n} descriptors of {matrix.shape[1]} numbers make no map; expected three or more, of two numbers or more"
        )
    rows = matrix.astype(np.float64)
    if not np.ptp(rows, axis=0).any():
        return np.zeros((n, 2))
    if method == "pca" or n < 5:
        points: Array = PCA(n_components=2, svd_solver="full").fit_transform(rows)
        return points
    from sklearn.manifold import TSNE

    if min(rows.shape) > _FIRST_COMPONENTS:
        rows = PCA(n_components=_FIRST_COMPONENTS, random_state=seed).fit_transform(rows)
    points = TSNE(perplexity=min(perplexity, (n - 1) / 3), init="pca", random_state=seed).fit_transform(rows)
    return points.astype(np.float64)


def random_clips(folder: str | Path, labelled: Labelled, *, n_clips: int, seed: int = 0) -> Labelled:
    """`n_clips` clips of the videos, drawn at random, each L2-normalised: the paper's figure shows 100,000 clips."""
    part = labelled.parts[0]
    rows, examples = [], []
    for example in track(labelled.examples, "reading clips", unit="videos"):
        features = read_features(feature_path(folder, example.path))
        clips = clip_vectors(features.layers[choose_layer(list(features.layers), part.layer, example.path)])
        rows.append(clips)
        examples += [example] * len(clips)
    matrix = unit_rows(np.concatenate(rows)).astype(np.float32)
    kept = np.sort(np.random.default_rng(seed).permutation(len(matrix))[:n_clips])
    return Labelled(matrix[kept], labelled.parts, tuple(examples[index] for index in kept))


def check_map_path(out: str | Path) -> None:
    """Raise UsageError for a path with a suffix other than that of a picture, unless it is a folder."""
    if Path(out).suffix and not Path(out).is_dir():
        check_picture(out)


def write_map(labelled: Labelled, points: Array, out: str | Path, *, title: str = "") -> tuple[Path, Path]:
    """Draw the points coloured by class and write their table; returns the paths of the picture and the table.

    out: the picture (.png or .svg; the table lies beside it as .csv), or a folder for map.png and map.csv. Raises
        UsageError for a path with another suffix that is no folder yet.
    """
    out = Path(out)
    check_map_path(out)
    picture = out if out.suffix.lower() in SUFFIXES else out / "map.png"
    table = picture.with_suffix(".csv")
    draw_scatter(picture, points, labelled.labels.tolist(), title=title)
    rows = [(e.path, e.label, x, y) for e, (x, y) in zip(labelled.examples, points.tolist(), strict=True)]
    write_table(table, ["path", "label", "x", "y"], rows)
    return picture, table
