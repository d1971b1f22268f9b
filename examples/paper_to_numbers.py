"""From paper to numbers: two of its protocols on your videos, beside the published figures.

python examples/paper_to_numbers.py [FOLDER]              # a folder per class; without one it makes a few videos first

Action recognition by a linear SVM on fc6 (section 4, Table 3), and accuracy after PCA to few dimensions (Figure 5).
"""

import sys
import tempfile
from pathlib import Path

from c3dvideo import extract, read_labelled, synthetic
from c3dvideo.evaluation.action_recognition import evaluate_recognition
from c3dvideo.evaluation.compactness import evaluate_compactness
from c3dvideo.evaluation.evaluation_report import report_text

work = Path(tempfile.mkdtemp())
videos = Path(sys.argv[1]) if len(sys.argv) > 1 else work / "videos"
if len(sys.argv) == 1:
    synthetic.write_dataset(videos, classes=("bouncing ball", "waving flag"), clips_per_class=6, seed=0)

extract([videos], work / "features")
labelled = read_labelled([work / "features"], labels=None)
print(report_text(evaluate_recognition([labelled], [work / "features"], penalty=1.0, folds=3)))

curve = evaluate_compactness(labelled, dimensions=[2, 5], penalty=1.0, folds=3)
for dimensions, accuracy in zip(curve["dimensions"], curve["accuracies"], strict=True):
    print(f"{dimensions} dimensions: accuracy {accuracy:.2f}")
