"""`c3dvideo dataset`: check that everything decodes, and split by source video."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from c3dvideo.choices import LARGEST_SEED, Layout
from c3dvideo.cli.needs import exists
from c3dvideo.cli.output import note, print_json, with_flags
from c3dvideo.counts import count

if TYPE_CHECKING:
    from c3dvideo.datasets.examples import Dataset

Data = Annotated[
    Path,
    typer.Argument(
        help="Folder per class, CSV with path,label, or split files of a published data set.",
        show_default=False,
        callback=exists,
    ),
]
Videos = Annotated[
    Path | None, typer.Option("--videos", help="Where the videos lie, if not with DATA.", show_default=False)
]
LayoutOption = Annotated[Layout, typer.Option("--layout", help="How DATA is laid out.")]
Fold = Annotated[int, typer.Option("--fold", min=1, max=3, help="Official split of UCF101 and HMDB51.")]
GroupPattern = Annotated[
    str | None,
    typer.Option(
        "--group-pattern",
        help=r"Regular expression whose group 1 names the source video of a path, such as 'v_(\w+_g\d+)_'.",
        show_default=False,
    ),
]
Seed = Annotated[int, typer.Option("--seed", min=0, max=LARGEST_SEED, help="Random seed.")]
AllowLeaks = Annotated[
    bool, typer.Option("--allow-leaks", help="Accept clips of one source video in training and in testing.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(no_args_is_help=True, help="Labelled videos: check them, split them.")
    group.command("check")(check)
    group.command("split")(split)
    app.add_typer(group, name="dataset")


def read(
    data: Path, *, layout: Layout = "auto", videos: Path | None = None, fold: int = 1, group_pattern: str | None = None
) -> "Dataset":
    """The data set that a command's options name; what it lacks is reported on stderr."""
    from c3dvideo.datasets.read import read_dataset
    from c3dvideo.datasets.splits import with_groups

    dataset = read_dataset(data, layout=layout, videos=videos, fold=fold)
    if dataset.missing:
        listed = ", ".join(dataset.missing[:3]) + (", ..." if len(dataset.missing) > 3 else "")
        note(f"{count(len(dataset.missing), 'video')} named but missing: {listed}")
    if dataset.left_out:
        note(dataset.left_out)
    if dataset.shortfalls:
        note(f"fewer videos than the published data set has: {'; '.join(dataset.shortfalls)}")
    return dataset if group_pattern is None else with_groups(dataset, group_pattern)


def check(
    data: Data,
    *,
    out: Annotated[Path, typer.Option("--out", help="Folder for good.csv and problems.csv.")] = Path("dataset_check"),
    videos: Videos = None,
    layout: LayoutOption = "auto",
    fold: Fold = 1,
    stride_frames: Annotated[int, typer.Option("--stride-frames", help="Frames between clip starts.")] = 16,
    workers: Annotated[int, typer.Option("--workers", min=1, max=1024, help="Processes that decode.")] = 4,
    as_json: AsJson = False,
) -> None:
    """Decode every video; write which are good, how many clips they give, and what is wrong with the others.

    Exit code 3 when a video is missing or cannot be read.
    """
    from c3dvideo.datasets.check_dataset import check_dataset
    from c3dvideo.video.clips import ClipPlan

    dataset = read(data, layout=layout, videos=videos, fold=fold)
    summary = check_dataset(dataset, out, plan=ClipPlan(stride_frames=stride_frames), workers=workers)
    if as_json:
        numbers = {name: getattr(summary, name) for name in ("n_videos", "n_good", "n_short", "n_frames", "n_clips")}
        print_json({**numbers, "problems": list(summary.problems), "shortfalls": list(summary.shortfalls)})
    else:
        typer.echo(
            f"{summary.n_good} of {count(summary.n_videos, 'video')} can be read: {count(summary.n_frames, 'frame')}, "
            f"{count(summary.n_clips, 'clip')}; {count(len(summary.problems), 'problem')}; tables in {out}"
        )
        if summary.n_short:
            typer.echo(
                f"{count(summary.n_short, 'video')} shorter than a clip: for a clip of each, extract with "
                "`--short repeat_last`"
            )
        for row in summary.problems[:10]:
            typer.echo(with_flags(f"  {row['path']}: {row['problem']}"))
        if len(summary.problems) > 10:
            typer.echo(f"  and {len(summary.problems) - 10} more")
    if not summary.all_readable:
        raise typer.Exit(3)


def split(
    data: Data,
    *,
    out: Annotated[Path, typer.Option("--out", help="CSV to write: path,label,split,group.", show_default=False)],
    videos: Videos = None,
    layout: LayoutOption = "auto",
    fold: Fold = 1,
    val: Annotated[float, typer.Option("--val", help="Share of every class for validation; 0 for none.")] = 0.2,
    test: Annotated[float, typer.Option("--test", help="Share of every class for testing; 0 for none.")] = 0.0,
    group_pattern: GroupPattern = None,
    seed: Seed = 0,
    allow_leaks: AllowLeaks = False,
    as_json: AsJson = False,
) -> None:
    """Divide videos into train, val and test, whole groups at a time; use it with `train OUT --videos DATA`."""
    from c3dvideo.datasets.lists import write_csv
    from c3dvideo.datasets.splits import split_at_random, split_by_group

    dataset = read(data, layout=layout, videos=videos, fold=fold, group_pattern=group_pattern)
    fractions = {name: share for name, share in (("val", val), ("test", test)) if share}
    if all(example.group for example in dataset.examples):
        divided = split_by_group(dataset, fractions=fractions, seed=seed)
    else:
        divided = split_at_random(dataset, fractions=fractions, seed=seed, allow_leaks=allow_leaks)
    write_csv(divided, out)
    counts = {name: divided.part(name).counts() for name in ("train", *fractions)}
    if as_json:
        print_json({"out": str(out), "counts": counts})
        return
    for name, per_class in counts.items():
        fewest, most = min(per_class.values()), max(per_class.values())
        typer.echo(f"{name}: {count(sum(per_class.values()), 'video')}, {fewest} to {most} per class")
