"""Checks made while the command line is read, before PyTorch is imported and any work is done.

picture: Annotated[Path | None, typer.Option("--picture", callback=needs("plots"))] = None
data: Annotated[Path, typer.Argument(callback=exists)]
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from c3dvideo.errors import UsageError
from c3dvideo.extras import Extra, require_extra
from c3dvideo.figure_layout import check_picture
from c3dvideo.storage import is_object, location


def needs(extra: Extra) -> Callable[[Any], Any]:
    """A callback for an option that, when given, needs the extra."""

    def check(value: Any) -> Any:
        if value is not None:
            require_extra(extra)
        return value

    return check


def is_picture(value: Any) -> Any:
    """A callback for an option that names a picture to write, when given; its suffix is checked before any work."""
    if value is not None:
        require_extra("plots")
        check_picture(value)
    return value


def exists(value: Any) -> Any:
    """A callback for arguments that name files or folders; addresses and `-` for stdin are not looked up."""
    for given in value if isinstance(value, list | tuple) else [value]:
        if given is not None and is_object(given):
            location(given)  # raises for a missing extra, and for a key in the address
            continue
        if given is None or str(given) == "-" or "://" in str(given):
            continue
        try:
            found = Path(given).exists()
        except (OSError, ValueError):  # too long, or with a NUL byte
            found = False
        if not found:
            raise UsageError(f"no such file or folder: {str(given)!r}")
    return value
