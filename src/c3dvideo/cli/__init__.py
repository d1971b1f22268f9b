"""The command line: parse, call, print. One file per group of commands.

    c3dvideo extract my_videos/ --out features/

stdout carries results (`--json` for machines), stderr carries progress and notes. Exit codes: 0 all done, 1 failed (one
line on stderr; `--debug` shows the traceback), 2 wrong usage, 3 finished but some inputs failed.
"""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from io import TextIOWrapper
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from c3dvideo import __version__
from c3dvideo.cli.output import speak_for, with_flags
from c3dvideo.errors import C3DVideoError, UsageError
from c3dvideo.files import os_reason
from c3dvideo.video.access import without_secrets

_WrongUsage: Any = typer.BadParameter.__base__  # typer names no public class for all of them


class _Group(TyperGroup):
    """The commands, whose messages about wrong usage repeat no password or token of an address."""

    def make_context(self, *arguments: Any, **values: Any) -> Any:
        with _without_secrets():
            return super().make_context(*arguments, **values)

    def invoke(self, ctx: Any) -> Any:
        with _without_secrets():
            return super().invoke(ctx)


@contextmanager
def _without_secrets() -> Iterator[None]:
    try:
        yield
    except _WrongUsage as error:
        error.message = without_secrets(error.message)
        raise


app = typer.Typer(
    cls=_Group,
    name="c3dvideo",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="C3D video features: extract, convert, predict, train, evaluate.",
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"c3dvideo {__version__}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error; may stand anywhere.")] = False,
) -> None:
    """Options that every command takes."""


GROUPS: tuple[str, ...] = (
    "extract_commands",
    "plan_command",
    "dataset_commands",
    "training_commands",
    "synthetic_commands",
    "distil_command",
    "demo_command",
    "serve_command",
    "probe_commands",
    "evaluation_commands",
    "similar_command",
    "search_commands",
    "convert_command",
    "export_command",
    "weights_commands",
    "explain_command",
    "segment_command",
    "watch_command",
    "plot_commands",
    "doctor_command",
)
for _group in GROUPS:
    import_module(f"c3dvideo.cli.{_group}").register(app)


_INTERRUPTED = 130  # what typer makes of Ctrl-C


def main() -> None:
    """Run the command line and exit with its code."""
    try:
        _run()
    except KeyboardInterrupt:  # a second Ctrl-C, while the first was being handled
        _end_interrupted(at_once=True)


def _run() -> None:
    if isinstance(sys.stdout, TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files need not be UTF-8
    arguments, debug = _take_debug(sys.argv[1:])
    group = get_command(app)
    speak_for(_command(group, arguments), group)
    try:
        app(args=arguments, prog_name="c3dvideo")
    except (C3DVideoError, OSError) as error:
        if debug:
            raise
        print(f"c3dvideo: {with_flags(_one_line(error))}", file=sys.stderr)  # noqa: T201
        sys.exit(2 if isinstance(error, UsageError) else 1)
    except SystemExit as end:
        if end.code == _INTERRUPTED:
            _end_interrupted(at_once=_n_interrupts(end) > 1)
        raise


def _n_interrupts(error: BaseException | None) -> int:
    """How many Ctrl-C there were, from an exception and those that it replaced."""
    n = 0
    while error is not None:
        n += isinstance(error, KeyboardInterrupt)
        error = error.__context__
    return n


def _end_interrupted(*, at_once: bool) -> None:
    """Print that the run was stopped; from here on another Ctrl-C ends the process without a traceback.

    at_once: end it now. A second Ctrl-C broke off the clean-up, so threads may still run, and C++ libraries abort when
    Python ends below them.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    print("c3dvideo: stopped; what was finished is kept", file=sys.stderr)  # noqa: T201
    if at_once:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(_INTERRUPTED)


def _one_line(error: Exception) -> str:
    """The message; of an error of the operating system, the file that it concerns and the reason."""
    if isinstance(error, OSError) and error.strerror:
        files = [str(name) for name in (error.filename, error.filename2) if name is not None]
        return f"{' -> '.join(files) or 'this machine'}: {os_reason(error)}"
    return " ".join(str(error).split())


def _command(group: Any, arguments: list[str]) -> Any:
    """The command that the words name, as far as they name one."""
    command = group
    for word in arguments:
        if word in getattr(command, "commands", {}):
            command = command.commands[word]
    return command


def _take_debug(arguments: list[str]) -> tuple[list[str], bool]:
    """The arguments without `--debug`, and whether it was there (only before a bare `--`)."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    kept = [word for word in arguments[:end] if word != "--debug"]
    return kept + arguments[end:], len(kept) < end
