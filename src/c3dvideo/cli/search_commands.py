"""`c3dvideo index`, `search` and `duplicates`: an index of stored features, and what is near or twice in it."""

from pathlib import Path
from typing import Annotated

import typer

from c3dvideo.choices import SearchKind
from c3dvideo.cli.needs import exists, needs
from c3dvideo.cli.output import note, print_json, rounded_seconds
from c3dvideo.cli.probe_commands import FromFolders

_MOST_NAMES = 10

Db = Annotated[
    str,
    typer.Option(
        "--db",
        help="Folder of the index, or a URI (s3://bucket/index) with the keys in the environment.",
        show_default=False,
        callback=needs("search"),
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Weights = Annotated[
    str | None,
    typer.Option(
        "--weights", help="Weights that the index was made with, to compute a query file.", show_default="embedded"
    ),
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1, ...")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("index")(index)
    app.command("search")(search)
    app.command("duplicates")(duplicates)


def index(
    features: Annotated[
        Path, typer.Argument(help="Folder that `c3dvideo extract` wrote.", show_default=False, callback=exists)
    ],
    *,
    db: Db,
    labels: Annotated[
        Path | None,
        typer.Option(
            "--labels", help="CSV path,label[,start_seconds,end_seconds].", show_default=False, callback=exists
        ),
    ] = None,
    labels_from_folders: FromFolders = False,
    layer: Annotated[
        str | None, typer.Option("--layer", help="Layer to index.", show_default="fc6, or the only one")
    ] = None,
    pca: Annotated[
        int | None,
        typer.Option(
            "--pca", min=1, help="Principal components to store per clip.", show_default="all numbers of the layer"
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Put features into an index for `c3dvideo search`, or bring the index up to date with the folder.

    Only new and changed feature files are written; the rows of deleted ones are removed. Feature files that cannot be
    read are listed, and the exit code is then 3.
    """
    from c3dvideo.search.build_index import build_index

    report = build_index(
        features, db, labels=labels, labels_from_folders=labels_from_folders, layer=layer, pca=pca, note=note
    )
    if as_json:
        print_json(report.to_dict())
    else:
        typer.echo(str(report))
    for failure in report.failures[:_MOST_NAMES]:
        note(f"failed: {failure.message}")
    if report.failures:
        left = len(report.failures) - _MOST_NAMES
        note(f"{len(report.failures)} feature files are not in the index" + f"; {left} are not shown" * (left > 0))
        raise typer.Exit(3)


def search(
    query: Annotated[
        str | None,
        typer.Argument(
            metavar="QUERY_VIDEO[@SECONDS]",
            help="A video in the index, by its name there, or a video file. With @SECONDS, the clip at that time.",
            show_default=False,
        ),
    ] = None,
    *,
    db: Db,
    top: Annotated[int, typer.Option("--top", min=1, help="Matches to print.")] = 10,
    kind: Annotated[SearchKind, typer.Option("--kind", help="Search clips or whole videos.")] = "clips",
    like: Annotated[
        list[str] | None,
        typer.Option("--like", help="One more example, written like QUERY; repeatable.", show_default=False),
    ] = None,
    unlike: Annotated[
        list[str] | None,
        typer.Option("--unlike", help="A counter-example, written like QUERY; repeatable.", show_default=False),
    ] = None,
    same_video: Annotated[
        bool,
        typer.Option("--same-video/--no-same-video", help="Keep matches of indexed videos that the query names."),
    ] = False,
    weights: Weights = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Find the clips or videos that are nearest to a video, a moment, or several examples.

    The score is a cosine after centring and whitening. The percentile is the share of random pairs of clips of
    different videos in the index that have a smaller score.
    """
    from dataclasses import asdict

    from c3dvideo.search import query as queries
    from c3dvideo.search.index import Index

    opened = Index.open(db)

    def found(text: str) -> "queries.Query":
        return queries.find_query(opened, text, weights=weights, device=device, note=note)

    matches = queries.search(
        opened,
        None if query is None else found(query),
        top=top,
        kind=kind,
        like=[found(text) for text in like or ()],
        unlike=[found(text) for text in unlike or ()],
        exclude_same_video=not same_video,
    )
    if as_json:
        print_json(rounded_seconds({"results": [asdict(match) for match in matches]}))
        return
    typer.echo(f"{'seconds':>17}  {'score':>6}  {'percentile':>10}  video")
    for match in matches:
        seconds = f"{match.start_seconds:.2f}-{match.end_seconds:.2f}"
        typer.echo(f"{seconds:>17}  {match.score:6.3f}  {match.percentile:10.2f}  {match.video}")


def duplicates(
    *,
    db: Db,
    threshold: Annotated[
        float | None,
        typer.Option(
            "--threshold",
            help="Smallest mean score of the aligned clips of near duplicates, -1 to 1.",
            show_default="chosen for few false pairs, see docs/search.md",
        ),
    ] = None,
    min_clips: Annotated[
        int,
        typer.Option("--min-clips", min=1, help="Aligned clips that near duplicates have, or all of a shorter video."),
    ] = 2,
    exact: Annotated[
        bool | None,
        typer.Option(
            "--exact/--approximate",
            help="Compare every clip with every other one, or with clips of the nearest cells only.",
            show_default="exact up to 100,000 clips",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Find videos that are in the index twice: exact copies, and copies encoded, scaled, cropped or cut anew.

    Prints the aligned spans of each pair. Copies at another speed, mirrored, or in a small part of the picture are not
    looked for.
    """
    from dataclasses import asdict

    from c3dvideo.search.duplicates import THRESHOLD, find_duplicates
    from c3dvideo.search.index import Index

    pairs = find_duplicates(
        Index.open(db),
        threshold=THRESHOLD if threshold is None else threshold,
        min_clips=min_clips,
        exact=exact,
        note=note,
    )
    if as_json:
        print_json(rounded_seconds({"pairs": [asdict(pair) for pair in pairs]}))
        return
    n_exact = sum(pair.kind == "exact" for pair in pairs)
    typer.echo(f"{len(pairs)} pairs: {n_exact} exact, {len(pairs) - n_exact} near")
    for pair in pairs:
        spans = "  ".join(
            f"{name} {start:.2f}-{end:.2f}"
            for name, (start, end) in ((pair.a, pair.a_seconds), (pair.b, pair.b_seconds))
        )
        typer.echo(f"{pair.kind:5}  {pair.score:6.3f}  {spans}")
