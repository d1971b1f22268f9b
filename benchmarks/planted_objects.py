"""How much of a Grad-CAM map lies on the moving object, layer by layer: python -m benchmarks.planted_objects VIDEOS

Two kinds of clips whose objects are known. Generated everyday motions, which the embedded network classifies; and a
square of one colour that crosses a still picture, the first frame of a real video. For each layer: the share of the
mass of the map on the object, divided by the share of the clip that the object covers (1: no better than an even map),
and the share of clips in which the largest value lies on the object. "At best" is the map that equals the object at the
size of the layer: what enlarging coarse maps leaves possible.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from c3dvideo import C3D, load_weights
from c3dvideo.explain.gradcam import grad_cam
from c3dvideo.explain.layered import LayeredNetwork, network_input
from c3dvideo.synthetic import everyday_scene, render, render_parts
from c3dvideo.synthetic.figures import PARTS
from c3dvideo.video.decode import open_video
from c3dvideo.video.sources import find_sources

Clips = tuple[np.ndarray, np.ndarray]
SIZE, N_FRAMES = 112, 16
WITH_ONE_OBJECT = ("rolling ball", "bouncing ball", "swinging pendulum", "spinning wheel", "waving flag")
LAYERS = ("conv2a", "conv3b", "conv4a", "conv4b", "conv5a", "conv5b")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", type=Path, help="folder of videos, for still pictures")
    parser.add_argument("--weights", help="weights folder or name; default: the embedded weights")
    parser.add_argument("--clips", type=int, default=48, help="planted squares; generated clips: a quarter per class")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    network = load_weights(arguments.weights)
    kinds = {
        "everyday motions": generated(arguments.clips // 4),
        "squares on still pictures": planted(arguments.videos, arguments.clips),
    }
    print("| clips | layer | method | mass / area | at best | largest value on it |\n|---|---|---|---|---|---|")
    for name, (clips, places) in kinds.items():
        for layer in LAYERS:
            best = concentration(coarsened(network, clips, places, layer), places)[0]
            for way in ("gradcam", "gradcam++"):
                maps = np.concatenate(
                    [
                        grad_cam(network, clips[start : start + 8], layer=layer, plus_plus=way == "gradcam++")
                        for start in range(0, len(clips), 8)
                    ]
                )
                ratio, hits = concentration(maps, places)
                print(f"| {name} | {layer} | {way} | {ratio:.2f} | {best:.2f} | {hits:.2f} |", flush=True)


def generated(n_per_class: int) -> Clips:
    """Clips (n, 3, 16, 112, 112) of everyday motions and the places of their objects, neither hidden nor large."""
    clips, places = [], []
    thing = PARTS.index("thing")
    for name in WITH_ONE_OBJECT:
        for index in range(200, 200 + n_per_class):
            scene = everyday_scene(name, seed=7, index=index, n_frames=2 * N_FRAMES)
            middle = slice(N_FRAMES // 2, N_FRAMES // 2 + N_FRAMES)
            place = render_parts(scene, height=SIZE, width=SIZE).numpy()[middle] == thing
            if 0.01 < place.mean() < 0.35:
                clips.append(render([scene], height=SIZE, width=SIZE).numpy()[0][:, middle])
                places.append(place)
    return np.stack(clips), np.stack(places)


def planted(videos: Path, n: int) -> Clips:
    """The same of squares, 24 to 33 pixels wide, that cross still pictures from side to side."""
    random = np.random.default_rng(0)
    paths = sorted(source.path for source in find_sources([videos]))
    clips, places = [], []
    for number in random.permutation(len(paths))[:n]:
        with open_video(paths[number], channel_order="rgb") as video:
            picture = next(iter(video.frames())).pixels
        picture = np.asarray(Image.fromarray(picture).resize((171, 128)))[8 : 8 + SIZE, 29 : 29 + SIZE]
        clip, place = np.repeat(picture[None], N_FRAMES, 0), np.zeros((N_FRAMES, SIZE, SIZE), bool)
        side = int(random.integers(24, 34))
        top = int(random.integers(0, SIZE - side))
        colour, sense = random.integers(0, 255, 3), random.integers(2)
        for time in range(N_FRAMES):
            left = round((SIZE - side) / (N_FRAMES - 1) * (time if sense else N_FRAMES - 1 - time))
            clip[time, top : top + side, left : left + side] = colour
            place[time, top : top + side, left : left + side] = True
        clips.append(clip.transpose(3, 0, 1, 2))
        places.append(place)
    return np.stack(clips), np.stack(places)


def coarsened(network: C3D, clips: np.ndarray, places: np.ndarray, layer: str) -> np.ndarray:
    """The places of the objects at the size of a layer, enlarged as maps are."""
    model = LayeredNetwork(network, [layer], lambda found: found[layer])
    with torch.no_grad():
        size = model(network_input(network, clips[:1])).shape[2:]
        exact = torch.from_numpy(places).float()[:, None]
        small = nn.functional.adaptive_avg_pool3d(exact, size)
        enlarged: np.ndarray = nn.functional.interpolate(small, size=exact.shape[2:], mode="trilinear")[:, 0].numpy()
    return enlarged


def concentration(maps: np.ndarray, places: np.ndarray) -> tuple[float, float]:
    """Mass on the object over area of the object, and how often the largest value is on it; empty maps are left out."""
    mass = maps.sum(axis=(1, 2, 3))
    kept = mass > 0
    share = (maps * places).sum(axis=(1, 2, 3))[kept] / mass[kept]
    largest = maps[kept].reshape(kept.sum(), -1).argmax(axis=1)
    hits = places[kept].reshape(kept.sum(), -1)[np.arange(kept.sum()), largest]
    return float(share.mean() / places[kept].mean()), float(hits.mean())


if __name__ == "__main__":
    main()
