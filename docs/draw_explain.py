"""Draw the pictures of docs/explain.md: generated videos, explained with the embedded weights.

python docs/draw_explain.py
"""

import tempfile
from pathlib import Path
from shutil import copyfile

from PIL import Image

from c3dvideo.explain.explain_run import explain
from c3dvideo.synthetic import write_dataset
from c3dvideo.video.decode import open_video

FIGURES = Path(__file__).parent / "figures"
VIDEO = "rolling_ball/rolling_ball_001.mp4"
WIDTH = 448


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        videos, out = Path(folder, "videos"), Path(folder, "out")
        write_dataset(videos, clips_per_class=2, seed=0)
        (explained,) = explain([videos / VIDEO], out, methods=["gradcam", "guided", "filters"]).videos
        explain([videos], out, methods=["deconvolution"], n_clips=4)
        for method in ("gradcam", "guided"):
            with open_video(explained.files[method], channel_order="rgb") as video:
                frame = next(frame for frame in video.frames() if frame.index == 8)
                Image.fromarray(frame.pixels).save(FIGURES / f"explain_{method}.png", optimize=True)
        sheet = sorted(out.glob("*.deconvolution.png"))[0]
        with Image.open(sheet) as picture:
            size = (WIDTH, round(picture.height * WIDTH / picture.width))
            picture.convert("RGB").resize(size, Image.Resampling.LANCZOS).quantize(128).save(
                FIGURES / "explain_deconvolution.png", optimize=True
            )
        copyfile(out / "conv1a.gif", FIGURES / "explain_filters.gif")


if __name__ == "__main__":
    main()
