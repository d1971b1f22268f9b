"""`c3dvideo watch`: the classes of a camera, a stream or a file as if live, as JSON lines or on a web page."""

import json
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from c3dvideo.cli.extract_commands import Device, PrecisionOption, ProfileName, SamplingRate, Weights
from c3dvideo.cli.needs import exists
from c3dvideo.cli.output import note
from c3dvideo.cli.serve_command import Host, Port, Token
from c3dvideo.errors import UsageError
from c3dvideo.extras import require_extra

if TYPE_CHECKING:
    from c3dvideo.probing.watch import WatchSummary
    from c3dvideo.web.live_view import LiveView, Unit

_TOP, _TOP_OF_PAGE = 3, 8


def _exists_or_camera(source: str) -> str:
    """The source; raises UsageError for a file that does not exist. A number is a camera."""
    return source if source.isdecimal() else str(exists(source))


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("watch")(watch)


def watch(
    context: typer.Context,
    source: Annotated[
        str,
        typer.Argument(
            help="RTSP or HTTP address, camera (0, /dev/video0), or a file, which is played at its own speed.",
            show_default=False,
            callback=_exists_or_camera,
        ),
    ],
    *,
    page: Annotated[bool, typer.Option("--page", help="Serve a web page instead of printing lines.")] = False,
    json_lines: Annotated[bool, typer.Option("--json", help="Print the lines with `--page`, too.")] = False,
    host: Host = "127.0.0.1",
    port: Port = 8000,
    token: Token = None,
    weights: Weights = None,
    probe: Annotated[
        Path | None, typer.Option("--probe", help="Score with this probe, not with fc8.", show_default=False)
    ] = None,
    top: Annotated[
        int | None,
        typer.Option("--top", min=1, help="Classes per clip.", show_default=f"{_TOP}, with `--page` {_TOP_OF_PAGE}"),
    ] = None,
    stride_frames: Annotated[int, typer.Option("--stride-frames", min=1, help="Frames between clips.")] = 8,
    sampling_rate: SamplingRate = 1,
    smooth_seconds: Annotated[
        float, typer.Option("--smooth-seconds", min=0, help="Time constant of the mean over time; 0: no smoothing.")
    ] = 1.0,
    profile: ProfileName = None,
    device: Device = "auto",
    precision: PrecisionOption = "auto",
    stall_seconds: Annotated[
        float, typer.Option("--stall-seconds", min=0.1, help="Connect again when nothing comes for so long.")
    ] = 10.0,
    max_seconds: Annotated[
        float | None, typer.Option("--max-seconds", min=0, help="Stop after so long.", show_default="never")
    ] = None,
) -> None:
    """Classify a live source clip by clip: JSON lines on stdout, or a web page; notes and a summary on stderr.

    Frames are dropped rather than classified late, and counted. A source that ends or fails is opened again, after
    waits that grow to 30 seconds. Ctrl-C ends it. The page answers on this machine only, unless `--host` says
    otherwise, and stays after the end of a file.
    """
    _check_page(context, page)
    from c3dvideo.probing.watch import WatchSummary

    settings = {
        "weights": weights,
        "probe": probe,
        "top": top or (_TOP_OF_PAGE if page else _TOP),
        "stride_frames": stride_frames,
        "sampling_rate": sampling_rate,
        "smooth_seconds": smooth_seconds,
        "profile": profile,
        "device": device,
        "precision": precision,
        "stall_seconds": stall_seconds,
        "max_seconds": max_seconds,
    }
    summary = WatchSummary(latencies=[])
    try:
        if not page:
            _print_clips(source, settings, summary)
        else:
            from c3dvideo.web.live_server import live_page

            unit: Unit = "probability" if probe is None else "score"
            with live_page(source, summary, unit=unit, host=host, port=port, token=token, note=note) as view:
                _print_clips(source, settings, summary, view, lines=json_lines)
                _stay(view, summary, max_seconds)
    except KeyboardInterrupt:
        note("stopped")
    note(summary.text())


def _check_page(context: typer.Context, page: bool) -> None:
    """Raises UsageError for options that need `--page`, and MissingExtraError where no page can be served."""
    if page:
        require_extra("web")
        return
    for name in ("host", "port", "token"):
        given = context.get_parameter_source(name)
        if given is not None and given.name == "COMMANDLINE":
            raise UsageError(f"`--{name}` is an option of the page; add `--page`")


def _print_clips(
    source: str,
    settings: dict[str, Any],
    summary: "WatchSummary",
    view: "LiveView | None" = None,
    *,
    lines: bool = True,
) -> None:
    from contextlib import closing

    from c3dvideo.probing.watch import watch as watch_source

    show = None if view is None else view.picture.offer
    with closing(watch_source(source, **settings, summary=summary, note=note, show=show)) as clips:  # type: ignore[type-var]
        for seen in clips:
            if view is not None:
                view.add(seen)
            if lines:
                typer.echo(json.dumps(seen.to_dict(), ensure_ascii=False))


def _stay(view: "LiveView", summary: "WatchSummary", max_seconds: float | None) -> None:
    """Keep the page of a file that has ended, for as long as the command may run."""
    left = None if max_seconds is None else max_seconds - summary.seconds
    if left is not None and left <= 0:
        view.end(f"stopped after {max_seconds:g} seconds")
        return
    view.end()
    note("the source has ended; Ctrl-C ends the page")
    threading.Event().wait(left)
