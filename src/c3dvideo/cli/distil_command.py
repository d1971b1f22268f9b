"""`c3dvideo distil`: appearance from an image network, motion from moving clips, without labels."""

from pathlib import Path
from typing import Annotated, Any

import typer

from c3dvideo.cli.output import note, print_json
from c3dvideo.cli.setting_options import with_settings
from c3dvideo.training.distillation.distillation_settings import DistilSettings

_DATA = "What to learn from"
_TEACHER = "Teacher"


def _default(name: str) -> str:
    return str(getattr(DistilSettings(), name))


@with_settings(DistilSettings, defaults=_default)
def distil(
    *,
    teacher: Annotated[
        str,
        typer.Option(
            "--teacher",
            help="efficientnet-lite2; an .onnx image encoder; or an .npz file with one vector per picture or video.",
            rich_help_panel=_TEACHER,
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder of the run; OUT/weights is the result.")],
    images: Annotated[
        list[str] | None,
        typer.Option("--images", help="Folder of pictures; repeatable.", rich_help_panel=_DATA, show_default=False),
    ] = None,
    videos: Annotated[
        list[str] | None,
        typer.Option(
            "--videos", help="Folder of videos, or a video; repeatable.", rich_help_panel=_DATA, show_default=False
        ),
    ] = None,
    source_note: Annotated[
        str | None,
        typer.Option(
            "--source-note",
            help="Origin and licence of the folders, for the card.",
            rich_help_panel=_DATA,
            show_default="a line of their LICENSE or README",
        ),
    ] = None,
    init: Annotated[str, typer.Option("--init", help="Weights to start from; 'none': random weights.")] = "embedded",
    teacher_size: Annotated[
        int, typer.Option("--teacher-size", help="Pixels of an ONNX encoder's square input.", rich_help_panel=_TEACHER)
    ] = 224,
    teacher_mean: Annotated[
        list[float] | None,
        typer.Option(
            "--teacher-mean",
            help="Subtracted from pixels of 0 to 255 for an ONNX encoder; once, or for red, green and blue.",
            rich_help_panel=_TEACHER,
            show_default="127",
        ),
    ] = None,
    teacher_std: Annotated[
        list[float] | None,
        typer.Option(
            "--teacher-std",
            help="Then divides them; once, or for red, green and blue.",
            rich_help_panel=_TEACHER,
            show_default="128",
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in OUT after its checkpoint.")] = False,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1, ...")] = "auto",
    workers: Annotated[
        int | None,
        typer.Option("--workers", min=0, max=1024, help="Processes that prepare clips.", show_default="one per core"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    **settings: Any,
) -> None:
    """Train C3D to predict the features of an image network, on pictures and videos without labels.

    Pictures become clips of a moving camera, so that motion is learned along with appearance. To adapt the embedded
    weights to your own videos: c3dvideo distil --teacher efficientnet-lite2 --videos my_videos --out run
    """
    from c3dvideo.training.distillation.distillation_inputs import TeacherChoice, find_inputs

    choice = TeacherChoice(teacher, teacher_size, tuple(teacher_mean or (127.0,)), tuple(teacher_std or (128.0,)))
    choice.check()
    chosen = DistilSettings(**settings)
    inputs = find_inputs(images=images or (), videos=videos or (), source_note=source_note)
    if inputs.left_out is not None:
        note(inputs.left_out)
    from c3dvideo.training.distillation.distillation_run import distil as run

    result = run(
        out,
        inputs=inputs,
        teacher=choice,
        init=None if init == "none" else init,
        settings=chosen,
        resume=resume,
        device=device,
        workers=workers,
    )
    provenance = result.network.provenance
    document = {
        "weights": str(result.weights),
        **{name: provenance[name] for name in ("pictures", "clips_of_videos", "clips_seen")},
        "unreadable": result.unreadable,
    }
    if as_json:
        print_json(document)
    else:
        typer.echo(
            f"{result.weights}: learned from {document['clips_seen']:,} clips of {document['pictures']:,} pictures and "
            f"{document['clips_of_videos']:,} clips of videos"
        )
    for path, problem in result.unreadable.items():
        note(f"left out: {problem}" if str(path) in problem else f"left out: {path}: {problem}")
    if result.unreadable:
        raise typer.Exit(3)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(distil)
