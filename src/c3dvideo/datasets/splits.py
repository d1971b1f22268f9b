"""Split a data set so that all clips of one source video are in the same split.

dataset = with_groups(dataset, r"v_(\\w+_g\\d+)_")
dataset = split_by_group(dataset, fractions={"val": 0.2})
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from c3dvideo.choices import LARGEST_SEED
from c3dvideo.datasets.examples import SOURCE_PATTERNS, Dataset, Example, some
from c3dvideo.errors import DatasetError, UsageError


def with_groups(dataset: Dataset, pattern: str) -> Dataset:
    """The data set with every example's group set to the first capture group of `pattern` in its path.

    Raises DatasetError for a path that the pattern does not match: a video of unknown origin could leak.
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise UsageError(f"group pattern {pattern!r} is not a regular expression: {error}") from error
    if compiled.groups < 1:
        raise UsageError(f"group pattern {pattern!r} has no capture group; expected one such as 'v_(\\w+_g\\d+)_'")
    examples = []
    for example in dataset.examples:
        found = compiled.search(example.path)
        if found is None:
            raise DatasetError(f"group pattern {pattern!r} does not match {example.path}; expected it to match all")
        examples.append(replace(example, group=found.group(1)))
    return replace(dataset, examples=tuple(examples))


def split_by_group(dataset: Dataset, *, fractions: Mapping[str, float], seed: int = 0) -> Dataset:
    """The data set with whole groups assigned to "train" and the splits in `fractions`, balanced per class.

    fractions: wanted share of each class's examples per split, such as {"val": 0.2}; the rest is "train".
    Groups are assigned from large to small, in random order among equals; each is assigned to the split whose class
    counts then fit best. Raises DatasetError when an example has no group, or a class too few groups for all splits.
    """
    _check_fractions(fractions)
    check_seed(seed)
    ungrouped = [example.path for example in dataset.examples if not example.group]
    if ungrouped:
        raise DatasetError(f"{len(ungrouped)} examples have no group, such as {ungrouped[0]}; give a `group_pattern=`")
    shares = {**fractions, "train": 1.0 - sum(fractions.values())}
    index = {name: i for i, name in enumerate(dataset.classes)}
    counts: dict[str, np.ndarray] = {}
    for example in dataset.examples:
        counts.setdefault(example.group, np.zeros(len(index)))[index[example.label]] += 1
    total = np.maximum(sum(counts.values()), 1)
    filled = {split: np.zeros(len(index)) for split in shares}
    home: dict[str, str] = {}
    order = np.random.default_rng(seed).permutation(sorted(counts))
    for group in sorted(order, key=lambda name: -counts[name].sum()):  # stable, so equal sizes keep the random order
        home[group] = min(shares, key=lambda split: _misfit(filled, shares, total, split, counts[group]))
        filled[home[group]] += counts[group]
    _check_every_class_on_every_side(dataset, filled)
    return replace(dataset, examples=tuple(replace(e, split=home[e.group]) for e in dataset.examples))


def split_at_random(
    dataset: Dataset, *, fractions: Mapping[str, float], seed: int = 0, allow_leaks: bool = False
) -> Dataset:
    """The data set with examples assigned at random to "train" and the splits in `fractions`, balanced per class.

    allow_leaks: permit clips of one source video in different splits. By default, raises DatasetError when that is
    possible.
    """
    _check_fractions(fractions)
    leak = None if allow_leaks else shared_source(dataset)
    if leak is not None:
        raise DatasetError(
            f"{leak[0]} and {leak[1]} come from one source video; a random split could put one in training and one in "
            "testing, and the accuracy would be too high. Split by group, for UCF101's names with "
            "`group_pattern='v_(\\w+_g\\d+)_'`, or allow it with `allow_leaks=True`"
        )
    alone = replace(
        dataset, examples=tuple(replace(example, group=str(i)) for i, example in enumerate(dataset.examples))
    )
    chosen = split_by_group(alone, fractions=fractions, seed=seed)
    pairs = zip(dataset.examples, chosen.examples, strict=True)
    return replace(dataset, examples=tuple(replace(old, split=new.split) for old, new in pairs))


def with_validation(dataset: Dataset, share: float, *, seed: int = 0, allow_leaks: bool = False) -> Dataset:
    """The data set with a validation split: its own "val", or `share` of its training part.

    Clips of one file or group stay together. Raises DatasetError when file names imply groups and none are given.
    """
    if len(dataset.examples) == 1:
        raise DatasetError(f"{dataset.examples[0].path} is the only video; training needs at least two per class")
    splits = {example.split for example in dataset.examples}
    if "" in splits and len(splits) > 1:
        lost = next(example.path for example in dataset.examples if not example.split)
        raise DatasetError(
            f"{lost} has no split, but others have {', '.join(sorted(splits - {''}))}; split all or none"
        )
    if "val" in splits:
        return dataset
    rest = tuple(example for example in dataset.examples if example.split == "test")
    own = tuple(example for example in dataset.examples if example.split != "test")
    part = replace(dataset, examples=own)
    if not all(example.group for example in own):
        files = replace(dataset, examples=tuple({example.path: example for example in own}.values()))
        split_of = {
            e.path: e.split
            for e in split_at_random(files, fractions={"val": share}, seed=seed, allow_leaks=allow_leaks).examples
        }
        chosen = tuple(replace(example, split=split_of[example.path]) for example in own)
    else:
        chosen = split_by_group(part, fractions={"val": share}, seed=seed).examples
    return replace(dataset, examples=chosen + rest)


def validation_of_readable(
    dataset: Dataset, readable: Sequence[bool], share: float, *, seed: int = 0, allow_leaks: bool = False
) -> Dataset:
    """The data set with unreadable examples removed from their split, and a new "val" when the old one is unusable.

    Otherwise a few unreadable videos in "val" would stop the training on a small data set.
    """
    left = [replace(e, split=e.split if can else "") for e, can in zip(dataset.examples, readable, strict=True)]
    usable = replace(dataset, examples=tuple(example for example in left if example.split))
    try:
        check_for_training(usable)
        return replace(dataset, examples=tuple(left))
    except DatasetError:
        if all(readable):
            raise
    undivided = tuple(replace(e, split="test" if e.split == "test" else "train") for e in usable.examples)
    again = with_validation(replace(dataset, examples=undivided), share, seed=seed, allow_leaks=allow_leaks)
    split_of = {_place(example): example.split for example in again.examples}
    return replace(dataset, examples=tuple(replace(e, split=e.split and split_of[_place(e)]) for e in left))


def _place(example: Example) -> tuple[str, float | None, int | None]:
    """Fields that identify an example within its data set."""
    return example.path, example.start_seconds, example.start_frame


def shared_source(dataset: Dataset) -> tuple[str, str] | None:
    """Two examples of one source video, according to file, group and common naming patterns, or None."""
    seen: dict[tuple[str, str], Example] = {}
    for example in dataset.examples:
        for key in _sources(example):
            if key in seen:
                return seen[key].path, example.path
            seen[key] = example
    return None


def check_leaks(dataset: Dataset, *, allow_leaks: bool = False) -> int:
    """The number of source videos of the training part that are also in "val" or "test".

    The group identifies the source; without a group, the file and common naming patterns do. Raises DatasetError, with
    the count, unless it is 0 or `allow_leaks` is true.
    """
    trained = {key: example for example in dataset.part("train").examples for key in _sources(example, by_group=True)}
    leaks: dict[tuple[str, str], Example] = {}
    for example in dataset.part("val", "test").examples:
        leaks |= {key: example for key in _sources(example, by_group=True) if key in trained}
    if leaks and not allow_leaks:
        key, held_out = next(iter(leaks.items()))
        raise DatasetError(
            f"{len(leaks)} source videos are in train and in val or test, such as {key[1]!r}: {trained[key].path} is "
            f"in train, {held_out.path} in {held_out.split}. The accuracy would be too high. Keep each source on one "
            "side, or allow it with `allow_leaks=True`"
        )
    return len(leaks)


def _sources(example: Example, *, by_group: bool = False) -> list[tuple[str, str]]:
    """Keys that an example shares with others of its source video. by_group: only its group, when it has one."""
    group = [("group", example.group)] if example.group else []
    if group and by_group:
        return group
    stem = Path(example.path).stem
    names = [(pattern, stem[: found.end(1)]) for pattern in SOURCE_PATTERNS if (found := re.search(pattern, stem))]
    return names[:1] if by_group and names else [("file", example.path), *group, *names]


def check_for_training(dataset: Dataset) -> None:
    """Raise DatasetError unless two classes have training examples, and "val" or "test" has examples of such only."""
    train, held_out = dataset.part("train"), dataset.part("val", "test")
    counts = train.counts()
    learned = [name for name, n in counts.items() if n]
    unseen = sorted({example.label for example in held_out.examples} - set(learned))
    if unseen:
        raise DatasetError(f"{some(unseen)} in val or test but not in train; expected every tested class in train")
    if len(learned) < 2:
        raise DatasetError(f"the training part has {len(learned)} class ({some(learned)}); expected at least two")
    if not held_out.examples:
        raise DatasetError("no example is in val or test; expected some to choose the best weights by")


def check_seed(seed: int) -> None:
    """Raise UsageError for a random seed that NumPy or scikit-learn would refuse."""
    if not 0 <= seed <= LARGEST_SEED:
        raise UsageError(f"`seed=` is {seed}; expected a whole number from 0 to {LARGEST_SEED}")


def _check_fractions(fractions: Mapping[str, float]) -> None:
    if not fractions or not all(0 < share < 1 for share in fractions.values()) or sum(fractions.values()) >= 1:
        shares = " and ".join(f"`{name}={share}`" for name, share in fractions.items()) or "empty"
        raise UsageError(f"the shares of the split are {shares}; expected each between 0 and 1, with a sum below 1")


def _misfit(
    filled: Mapping[str, np.ndarray], shares: Mapping[str, float], total: np.ndarray, split: str, more: np.ndarray
) -> float:
    """Increase of the split's distance from its shares when `more` is added; negative when the distance shrinks."""
    wanted = shares[split] * total
    before, after = ((wanted - filled[split]) / wanted, (wanted - filled[split] - more) / wanted)
    return float((shares[split] * (after**2 - before**2)).sum())


def _check_every_class_on_every_side(dataset: Dataset, filled: Mapping[str, np.ndarray]) -> None:
    present = np.array(list(dataset.counts().values())) > 0
    for split, counts in filled.items():
        for name, n, here in zip(dataset.classes, counts, present, strict=True):
            if here and not n:
                groups = {example.group for example in dataset.examples if example.label == name}
                raise DatasetError(
                    f"class {name!r} gets no example in {split!r}: its {dataset.counts()[name]} examples form "
                    f"{len(groups)} group(s); add videos from other sources, or change the fractions or the seed"
                )
