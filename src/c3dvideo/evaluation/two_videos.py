"""How alike two videos are: the cosine of their descriptors, and its place among the cosines of unrelated videos.

    found = similar("a.mp4", "b.mp4")
    found.cosine, found.percentile       # 0.93, and 88: more alike than 88% of the pairs of unrelated videos

The twelve (dis)similarities of the ASLAN protocol (paper section 5) are computed for every layer, too.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from c3dvideo.choices import PostProcessing
from c3dvideo.errors import UsageError, VideoError
from c3dvideo.evaluation.action_similarity import DISTANCES, distances
from c3dvideo.features.extractor import Extractor
from c3dvideo.features.failures import Failure
from c3dvideo.features.store import descriptor
from c3dvideo.network.c3d import C3D
from c3dvideo.probing.descriptors import Array, clip_vectors, settings_differences
from c3dvideo.probing.reference import Reference, generated_reference, post_process, read_reference
from c3dvideo.video.access import shown


@dataclass(frozen=True, kw_only=True)
class Similarity:
    """How alike two videos are.

    layer: the layer of the headline. cosine: of the post-processed descriptors, -1 to 1. percentile: percentage of the
    pairs of unrelated reference videos with a smaller cosine. n_unrelated, median_unrelated: the number of these pairs
    and their median cosine. reference: the name of the reference videos. layers: the twelve (dis)similarities of the
    descriptors without post-processing, by layer and name; of a layer with negative numbers the cosine alone.
    """

    layer: str
    cosine: float
    percentile: float
    n_unrelated: int
    median_unrelated: float
    reference: str
    post_processing: PostProcessing
    layers: Mapping[str, Mapping[str, float]]

    def text(self) -> str:
        """The cosine and its place, in two lines."""
        note = " after subtracting the mean descriptor" if self.post_processing == "centre" else ""
        return (
            f"cosine {self.cosine:.3f} ({self.layer}{note})\n"
            f"more alike than {self.percentile:.0f}% of {self.n_unrelated} pairs of unrelated videos "
            f"({self.reference}; their median is {self.median_unrelated:.3f})"
        )

    def table(self) -> str:
        """The twelve (dis)similarities, a row per name and a column per layer."""
        lines = [f"{'':26}" + "".join(f"{name:>12}" for name in self.layers)]
        for name in DISTANCES:
            cells = (f"{values[name]:12.4f}" if name in values else " " * 12 for values in self.layers.values())
            lines.append(f"{name:26}{''.join(cells)}".rstrip())
        return "\n".join(lines)


def similar(
    first: str | Path,
    second: str | Path,
    *,
    weights: str | Path | C3D | None = None,
    layers: Sequence[str] = ("fc6",),
    reference: str | Path | None = None,
    post_processing: PostProcessing = "none",
    note: Callable[[str], None] = lambda text: None,
    **options: Any,
) -> Similarity:
    """The similarity of two videos; nothing is stored but the descriptors of the generated reference videos.

    layers: the first gives the headline. reference: a folder of features of the same weights and settings; None takes
        generated videos. post_processing: "centre" first subtracts a mean descriptor: that of the reference videos;
        without `reference` that which the weights ship (of fc6), or else that of the generated videos.
        weights, options: arguments of `Extractor`.
    Raises VideoError when a video cannot be turned into clips, UsageError for features of other settings.
    """
    extractor = Extractor(weights, layers=layers, **options)
    sides = [_descriptors(path, extractor) for path in (first, second)]
    layer = layers[0]
    others = _reference(extractor, layer, reference, note)
    rows = np.stack([side[layer] for side in sides])
    a, b = post_process(rows, post_processing, others.mean)
    unrelated = others.unrelated(post_processing)
    cosine = float(a @ b)
    return Similarity(
        layer=layer,
        cosine=cosine,
        percentile=others.percentile(cosine, post_processing),
        n_unrelated=len(unrelated),
        median_unrelated=float(np.median(unrelated)),
        reference=others.name,
        post_processing=post_processing,
        layers={name: _all_distances(*(side[name] for side in sides)) for name in sides[0]},
    )


def _reference(extractor: Extractor, layer: str, folder: str | Path | None, note: Callable[[str], None]) -> Reference:
    if folder is None:
        return generated_reference(extractor, layer, note=note)
    found = read_reference(folder, layer)
    differences = settings_differences(found.part.settings, extractor.settings)
    if differences:
        raise UsageError(
            f"{folder} holds features of other settings: {'; '.join(differences)}; extract the reference videos with "
            "the same weights, or leave `reference=` out"
        )
    return found


def _descriptors(path: str | Path, extractor: Extractor) -> dict[str, Array]:
    found = list(extractor(path))
    if len(found) != 1:
        raise UsageError(f"{shown(str(path))} holds {len(found)} videos; expected one")
    if isinstance(found[0], Failure):
        raise VideoError(f"{shown(str(path))}: {found[0].message}")
    return {layer: descriptor(clip_vectors(array)) for layer, array in found[0].layers.items()}


def _all_distances(first: Array, second: Array) -> dict[str, float]:
    if min(first.min(), second.min()) < 0:
        return {"cosine": float(first.astype(np.float64) @ second)}
    return dict(zip(DISTANCES, map(float, distances(first[None], second[None])[0]), strict=True))
