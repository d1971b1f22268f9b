"""`c3dvideo serve`: a web page over an index: look, search, label, classify."""

from pathlib import Path
from typing import Annotated

import typer

from c3dvideo.cli.needs import exists
from c3dvideo.cli.output import note
from c3dvideo.extras import require_extra

Host = Annotated[str, typer.Option("--host", help="Address to listen at.")]
Port = Annotated[int, typer.Option("--port", min=0, max=65535, help="Port; 0 chooses a free one.")]
Token = Annotated[
    str | None,
    typer.Option(
        "--token",
        help="Secret that the page requires.",
        show_default="none on the loopback address, else a new one",
        envvar="C3DVIDEO_TOKEN",
    ),
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("serve")(serve)


def serve(
    *,
    db: Annotated[str, typer.Option("--db", help="Index that `c3dvideo index` made: a folder or a URI.")],
    videos: Annotated[
        Path | None,
        typer.Option("--videos", help="Folder of the videos, the one that was extracted.", callback=exists),
    ] = None,
    labels: Annotated[Path, typer.Option("--labels", help="Table in which labels are saved.")] = Path("labels.csv"),
    probe: Annotated[
        Path | None,
        typer.Option(
            "--probe",
            help="Fitted probe for predictions.",
            show_default="fitted on the labels",
            callback=exists,
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option("--weights", help="Weights of the index, to analyse uploads.", show_default="embedded"),
    ] = None,
    host: Host = "127.0.0.1",
    port: Port = 8000,
    token: Token = None,
    max_upload_mb: Annotated[int, typer.Option("--max-upload-mb", min=1, help="Largest upload in MB.")] = 512,
    max_upload_seconds: Annotated[float, typer.Option("--max-upload-seconds", min=1, help="Longest upload.")] = 600.0,
    upload_time_limit: Annotated[
        float, typer.Option("--upload-time-limit", min=1, help="Seconds after which the analysis of an upload ends.")
    ] = 300.0,
    cache_mb: Annotated[int, typer.Option("--cache-mb", min=16, help="Disk space for converted video in MB.")] = 2048,
) -> None:
    """Serve a web page over an index until Ctrl-C.

    A library with moving previews, a map of all clips, similar clips, comparison, labels, and a classifier that is
    fitted on them. The page answers on this machine only, unless `--host` names another address.
    """
    require_extra("web")
    from c3dvideo.web.server import serve as run_server
    from c3dvideo.web.site_parts import SiteSettings
    from c3dvideo.web.uploads import UploadLimits

    settings = SiteSettings(
        db=db,
        videos=videos,
        labels=labels,
        probe=probe,
        weights=weights,
        host=host,
        port=port,
        token=token,
        cache_bytes=cache_mb * 1_000_000,
        uploads=UploadLimits(
            max_bytes=max_upload_mb * 1_000_000,
            max_seconds=max_upload_seconds,
            time_limit_seconds=upload_time_limit,
        ),
    )
    run_server(settings, note=note)
