"""The accuracy of a probe on labelled videos: overall with its interval, per class, and the confusion matrix.

score = score_probe(probe, labelled)
score["accuracy"], score["interval"]             # 0.83, [0.79, 0.86]
print(score_text(score))
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from scipy.stats import binomtest
from sklearn.metrics import accuracy_score, confusion_matrix, recall_score

from c3dvideo.probing.labelled import Labelled
from c3dvideo.probing.probe import Probe

# A terminal of 120 columns holds this many counts beside the class names.
_MOST_COLUMNS = 15


def score_probe(probe: Probe, labelled: Labelled) -> dict[str, Any]:
    """Accuracy, its 95% interval, number of videos, per-class recall, and the confusion matrix (rows true).

    `chance` is the accuracy of guessing, `largest_class` that of always naming the most frequent class. `remark` is one
    line where the accuracy is not above the latter, or cannot be told from it, else None.

    Videos of a class that the probe was not fitted on count as wrong, and their class stands last in the matrix.
    Raises UsageError for features of other settings than those of the probe.

    >>> from c3dvideo import Probe, read_labelled
    >>> report = score_probe(Probe.load("probe.npz"), read_labelled(["features"], labels=None))
    >>> report["n"], report["accuracy"]
    (40, 1.0)
    """
    probe.check_parts(labelled.parts)
    truth, predicted = labelled.labels, probe.predict(labelled.matrix)
    unknown = sorted(set(truth.tolist()) - set(probe.classes))
    classes = [*probe.classes, *unknown]
    recall = recall_score(truth, predicted, labels=classes, average=None, zero_division=0.0)
    counts = Counter(truth.tolist())
    interval = wilson(int((truth == predicted).sum()), len(truth))
    largest = max(counts.values()) / len(truth)
    return {
        "accuracy": float(accuracy_score(truth, predicted)),
        "interval": list(interval),
        "chance": 1 / len(probe.classes),
        "largest_class": largest,
        "remark": _remark(set(predicted.tolist()), interval, largest),
        "n": len(truth),
        "per_class": {
            name: {"n": counts[name], "accuracy": float(value)}
            for name, value in zip(classes, recall, strict=True)
            if counts[name]
        },
        "classes": classes,
        "unknown_classes": unknown,
        "confusion": confusion_matrix(truth, predicted, labels=classes).tolist(),
    }


def _remark(predicted: Collection[str], interval: tuple[float, float], largest_class: float) -> str | None:
    """One line about a probe that always predicts one class, or whose interval is not above `largest_class`."""
    what = f"naming the most frequent class ({largest_class:.3f})"
    if len(predicted) == 1:
        return f"no better than {what}: every video is predicted as {next(iter(predicted))!r}"
    if interval[1] < largest_class:
        return f"worse than {what}"
    return f"not measurably better than {what}: the 95% interval includes it" if interval[0] <= largest_class else None


def wilson(n_right: int, n: int) -> tuple[float, float]:
    """Wilson's 95% interval of a share; it takes videos as independent, which clips of one source are not."""
    found = binomtest(n_right, n).proportion_ci(method="wilson")
    return float(found.low), float(found.high)


def frequent_confusions(
    confusion: Sequence[Sequence[int]], classes: Sequence[str], *, n: int = 10
) -> list[tuple[int, str, str]]:
    """The `n` largest counts outside the diagonal, each with its true and its predicted class."""
    cells = [
        (count, true, predicted)
        for true, row in zip(classes, confusion, strict=True)
        for predicted, count in zip(classes, row, strict=True)
        if count and true != predicted
    ]
    return sorted(cells, key=lambda cell: -cell[0])[:n]


def score_text(score: Mapping[str, Any]) -> str:
    """The score for a terminal: the confusion matrix with headings, then accuracy and videos per class and overall."""
    low, high = score["interval"]
    lines = [*_confusion_lines(score["confusion"], score["classes"]), "", "accuracy  videos  class"]
    for name, row in score["per_class"].items():
        remark = "   (not a class of the probe)" if name in score["unknown_classes"] else ""
        lines.append(f"{row['accuracy']:8.3f}  {row['n']:6d}  {name}{remark}")
    lines += [
        f"{score['chance']:8.3f}          chance level",
        f"{score['largest_class']:8.3f}          always the most frequent class",
        f"{low:.3f} to {high:.3f}  95% interval of the accuracy",
        f"{score['accuracy']:8.3f}  {score['n']:6d}  all",
    ]
    return "\n".join([*lines, score["remark"]] if score["remark"] else lines)


def _confusion_lines(confusion: Sequence[Sequence[int]], classes: Sequence[str]) -> Iterator[str]:
    """The whole matrix, or of many classes the most frequent confusions."""
    if len(classes) > _MOST_COLUMNS:
        yield f"most frequent confusions of {len(classes)} classes (videos, true class -> predicted class)"
        for count, true, predicted in frequent_confusions(confusion, classes):
            yield f"{count:6d}  {true} -> {predicted}"
        return
    width = max(len("true class"), *(len(name) for name in classes))
    yield f"{'':{width}}     predicted class"
    yield f"{'true class':{width}}     " + "".join(f"{number:5d}" for number in range(1, len(classes) + 1))
    for number, (name, row) in enumerate(zip(classes, confusion, strict=True), start=1):
        yield f"{name:{width}}  {number:2d} " + "".join(f"{count:5d}" for count in row)
