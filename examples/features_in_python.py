"""From a folder of videos to one descriptor per video, and the most similar pairs.

python examples/features_in_python.py [FOLDER]            # without a folder it makes a few videos first
"""

import sys
import tempfile
from pathlib import Path

import numpy as np

from c3dvideo import ClipPlan, descriptor, extract, list_features, read_features, synthetic

work = Path(tempfile.mkdtemp())
videos = Path(sys.argv[1]) if len(sys.argv) > 1 else work / "videos"
if len(sys.argv) == 1:
    synthetic.write_dataset(videos, classes=("bouncing ball", "waving flag"), clips_per_class=3, seed=0)

summary = extract([videos], work / "features", layers=["fc6"], plan=ClipPlan(stride_frames=8))
print(summary)

names, rows = [], []
for name, path in list_features(work / "features"):
    features = read_features(path)
    print(f"{name}: {len(features.start_seconds)} clips, fc6 {features.layers['fc6'].shape}")
    names.append(name)
    rows.append(descriptor(features.layers["fc6"]))

cosine = np.stack(rows) @ np.stack(rows).T
np.fill_diagonal(cosine, -1)
for name, nearest in zip(names, cosine.argmax(axis=1), strict=True):
    print(f"{name} is most like {names[nearest]}")
