"""From videos to a classifier: a scikit-learn pipeline that takes paths.

python examples/videos_to_classifier.py [FOLDER]          # a folder per class; without one it makes a few videos first
"""

import sys
import tempfile
from pathlib import Path

from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC

from c3dvideo import VideoDescriptor, synthetic
from c3dvideo.video.sources import find_sources

work = Path(tempfile.mkdtemp())
videos = Path(sys.argv[1]) if len(sys.argv) > 1 else work / "videos"
if len(sys.argv) == 1:
    synthetic.write_dataset(videos, classes=("bouncing ball", "waving flag"), clips_per_class=4, seed=0)

paths = [source.path for source in find_sources([videos])]
labels = [Path(path).parent.name for path in paths]
descriptors = VideoDescriptor(stride_frames=8, short="repeat_last", cache=work / "cache")
classifier = make_pipeline(descriptors, LinearSVC())
accuracies = cross_val_score(classifier, paths, labels, cv=4)
print(f"accuracy {accuracies.mean():.2f} over {len(accuracies)} folds of {len(paths)} videos")

classifier.fit(paths, labels)
print(f"{Path(paths[0]).name} shows: {classifier.predict(paths[:1])[0]}")
