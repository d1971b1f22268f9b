"""From videos to a search page: features, an index, the nearest clips, and a page in the browser.

python examples/videos_to_search_page.py [FOLDER] [--stay]     # --stay keeps the page until Ctrl-C

It needs the extra `web`. Without a folder it makes a few videos first.
"""

import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

from c3dvideo import ClipPlan, extract, synthetic
from c3dvideo.search.build_index import build_index
from c3dvideo.search.index import Index
from c3dvideo.search.query import search

work = Path(tempfile.mkdtemp())
folders = [word for word in sys.argv[1:] if word != "--stay"]
videos = Path(folders[0]) if folders else work / "videos"
if not folders:
    synthetic.write_dataset(videos, classes=("bouncing ball", "waving flag"), clips_per_class=4, seed=0)

extract([videos], work / "features", plan=ClipPlan(stride_frames=8))
print(build_index(work / "features", work / "index"))

index = Index.open(work / "index")
video = index.videos()[0].video
for match in search(index, f"{video}@0", top=3):
    print(f"near the start of {video}: {match.video} at {match.start_seconds:.1f} s, score {match.score:.2f}")

words = ["serve", "--db", work / "index", "--videos", videos, "--labels", work / "labels.csv", "--port", "0"]
command = [sys.executable, "-m", "c3dvideo", *map(str, words)]
with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:  # noqa: S603 - our own words
    address = next(word for line in server.stderr or () for word in line.split() if word.startswith("http://"))
    with urllib.request.urlopen(address, timeout=60) as page:  # noqa: S310 - http, on this machine
        print(f"{len(page.read())} bytes at {address}")
    if "--stay" not in sys.argv:
        server.terminate()
