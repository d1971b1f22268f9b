"""What each known mistake of the ports costs: python benchmarks/mistakes.py WEIGHTS VIDEO...

Extracts fc6 of every video's clips as the release does and then with one thing wrong, and prints the relative L2
distance and the cosine to the right features, as medians over clips. WEIGHTS has a mean volume (profile caffe).
"""

import sys
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from c3dvideo import C3D
from c3dvideo.inference.engine import make_engine
from c3dvideo.video.preprocess import CAFFE, PROFILES, Profile, View
from c3dvideo.video.reader import read_clips
from c3dvideo.weights.load import load_weights

Mean = np.ndarray
Clips = np.ndarray


def main(weights: str, videos: list[str]) -> None:
    network = load_weights(weights)
    volume = network.mean_volume
    assert volume is not None, "the weights have no mean volume"
    faithful = features(network, videos, CAFFE, volume)
    print("| change | relative L2 | cosine |\n|---|---|---|")
    for name, wrong in mistakes(volume).items():
        print(f"| {name} | {' | '.join(compare(wrong(network, videos), faithful))} |", flush=True)
    print(f"| another clip | {' | '.join(compare(np.roll(faithful, 1, axis=0), faithful))} |")


def compare(found: np.ndarray, right: np.ndarray) -> tuple[str, str]:
    """Median relative L2 distance and cosine of rows."""
    norm = np.linalg.norm(right, axis=1)
    distance = np.linalg.norm(found - right, axis=1) / norm
    cosine = (found * right).sum(1) / np.linalg.norm(found, axis=1) / norm
    return f"{np.median(distance):.2g}", f"{np.median(cosine):.4f}"


def mistakes(volume: Mean) -> dict[str, Callable[[C3D, list[str]], np.ndarray]]:
    """The features under each mistake, by its name."""
    channels = tuple(float(x) for x in volume.mean((1, 2, 3)))
    zero = (0.0, 0.0, 0.0)

    def using(
        profile: Profile, mean: Mean | None = None, view: View | None = None, clips: Callable[[Clips], Clips] = _same
    ):
        return lambda network, videos: features(network, videos, profile, mean, view=view, change=clips)

    return {
        "nothing": using(CAFFE, volume),
        "time-averaged mean image": using(CAFFE, np.repeat(volume.mean(1, keepdims=True), volume.shape[1], 1)),
        "mean of each channel": using(replace(CAFFE, mean=channels)),
        "mean file read as (16, 3, 128, 171)": using(
            CAFFE, np.ascontiguousarray(volume.reshape(16, 3, 128, 171).transpose(1, 0, 2, 3))
        ),
        "mean 90, 98, 102": using(replace(CAFFE, mean=(90.0, 98.0, 102.0))),
        "no mean": using(replace(CAFFE, mean=zero)),
        "pixels / 255, mean not": using(replace(CAFFE, scale=1 / 255), volume),
        "resize with antialias (PIL)": using(replace(CAFFE, interpolation="antialias_bilinear"), volume),
        "crop row 7": using(replace(CAFFE, crop_top=7), volume),
        "crop column 30": using(PROFILES["axon"], volume),
        "128x128 resize": using(PROFILES["i380k"], np.ascontiguousarray(volume[..., 21:149])),
        "RGB frames": using(replace(CAFFE, channel_order="rgb"), volume),
        "frames reversed": using(CAFFE, volume, clips=lambda clips: clips[:, :, ::-1]),
        "mirrored": using(CAFFE, volume, view=replace(CAFFE.views()[0], mirrored=True)),
        "symmetric pool5": using(replace(CAFFE, pool5="symmetric"), volume),
        "the whole recipe of jfzhang": using(PROFILES["jfzhang"]),
        "the whole recipe of mmaction2": using(PROFILES["mmaction2"]),
        "the whole recipe of davidea": using(PROFILES["davidea"]),
    }


def _same(clips: Clips) -> Clips:
    return clips


def features(
    network: C3D,
    videos: list[str],
    profile: Profile,
    mean: Mean | None,
    *,
    view: View | None = None,
    change: Callable[[Clips], Clips] = _same,
) -> np.ndarray:
    """fc6 of every clip of the videos under a profile: float32 (n_clips, D)."""
    network.profile, network.mean_volume = profile, mean
    network.use_pool5(profile.pool5)
    views = (view or profile.views()[0],)
    engine = make_engine(network, layers=["fc6"], views=views, engine="direct")
    rows = [
        engine(np.ascontiguousarray(change(clip.pixels)))["fc6"]
        for video in videos
        for clip in read_clips(video, profile=profile, views=views)
    ]
    return np.concatenate(rows)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
