"""Command-line options that come from the fields of a settings dataclass: type, help, group and default.

    @with_settings(TrainSettings, defaults=preset_default)
    def train(data: Data, *, out: Out, **settings: Any) -> None: ...

The command then has one option per field that has a help text in its metadata. `settings` holds those that were given.
"""

import functools
import inspect
from collections.abc import Callable, Collection
from dataclasses import Field, fields
from types import NoneType, UnionType
from typing import Annotated, Any, Union, cast, get_args, get_origin

import typer


def with_settings(
    settings: type, *, defaults: Callable[[str], str | None], names: Collection[str] | None = None
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A decorator that replaces `**settings` of a command by one option per field of the dataclass `settings`.

    defaults: the text of a field's default in the help, or None for none. names: the fields to offer; None offers all.
    """
    offered = [each for each in fields(settings) if "help" in each.metadata and (names is None or each.name in names)]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def run(**arguments: Any) -> None:
            chosen = {each.name: arguments.pop(each.name) for each in offered}
            command(**arguments, **{name: value for name, value in chosen.items() if value not in (None, [])})

        own = [each for each in inspect.signature(command).parameters.values() if each.kind is not each.VAR_KEYWORD]
        options = [_option(each, defaults(each.name)) for each in offered]
        # Typer reads the options from here; functools.wraps alone would show it `**settings`.
        run.__signature__ = inspect.Signature([*own, *options])  # type: ignore[attr-defined]
        run.__annotations__ = {each.name: each.annotation for each in (*own, *options)}
        return run

    return decorate


def _option(field: Field[Any], default: str | None) -> inspect.Parameter:
    """One keyword-only parameter of a command; None, its default, leaves the choice to the preset."""
    flag = field.metadata.get("flag", f"--{field.name.replace('_', '-')}")
    if field.type is bool:
        flag = f"{flag}/--no-{flag.removeprefix('--')}"
    information = typer.Option(
        flag,
        help=field.metadata["help"],
        rich_help_panel=field.metadata.get("group"),
        show_default=default or False,
    )
    annotated: Any = Annotated
    annotation = annotated[_type(field) | None, information]
    return inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _type(field: Field[Any]) -> Any:
    """The field's type as Typer takes it: a fixed number of values, or a list where the default is empty."""
    given: Any = field.type
    if get_origin(given) in (Union, UnionType):
        (given,) = (each for each in get_args(given) if each is not NoneType)
    if get_origin(given) is tuple and get_args(given)[-1] is Ellipsis:
        kind, item, default = get_origin(given), get_args(given)[0], cast("tuple[Any, ...]", field.default)
        return kind[(item,) * len(default)] if default else list.__class_getitem__(item)
    return given
