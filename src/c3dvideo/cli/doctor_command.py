"""`c3dvideo doctor`: what was found on this machine and what will be used."""

from typing import Annotated, Any

import typer

from c3dvideo.cli.output import print_json


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("doctor")(doctor)


def doctor(*, as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False) -> None:
    """Report what was found on this machine: processor, GPUs, engine, compiled layers, extras."""
    from c3dvideo.doctor import examine

    found = examine()
    if as_json:
        print_json(found)
        return
    for name, value in found.items():
        typer.echo(f"{name:13} {_line(value)}")


def _line(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_word(each)}" for key, each in value.items())
    if isinstance(value, list):
        return "; ".join(map(_line, value)) or "none"
    return str(value)


def _word(value: Any) -> str:
    return ("no", "yes")[value] if isinstance(value, bool) else str(value)
