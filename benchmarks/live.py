"""How fast `c3dvideo watch` is: python -m benchmarks.live [WEIGHTS]

Plays generated H.264 files of 320x240 pixels as if live, at growing frame rates, and prints a Markdown table: frames
read and dropped, clips per second, and the latency from the decoding of a clip's last frame to its classes.
"""

import sys
import tempfile
from pathlib import Path
from statistics import median

from benchmarks.video import moving_texture
from c3dvideo.machine import n_cores, processor_name
from c3dvideo.probing.watch import WatchSummary, watch
from c3dvideo.video.encode import write_video

SECONDS = 12
RATES = (25, 50, 100, 200)


def main() -> None:
    weights = sys.argv[1] if len(sys.argv) > 1 else None
    print("| frames per second | read | dropped | clips per second | latency, median | 95th percentile |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for fps in RATES:
            path = Path(folder, f"{fps}.mp4")
            write_video(path, moving_texture(fps * SECONDS, 240, 320), fps=fps)
            summary = WatchSummary(latencies=[])
            for _ in watch(path, weights=weights, summary=summary):
                pass
            ordered = sorted(summary.latencies)
            print(
                f"| {fps} | {summary.frames} | {summary.dropped_frames} | {summary.clips / summary.seconds:.1f} "
                f"| {1000 * median(ordered):.0f} ms | {1000 * ordered[int(0.95 * len(ordered))]:.0f} ms |",
                flush=True,
            )
    print(f"{processor_name()}, {n_cores()} cores", file=sys.stderr)


if __name__ == "__main__":
    main()
