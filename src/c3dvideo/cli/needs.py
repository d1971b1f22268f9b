"""Options that need an extra: a missing one is reported while the command line is read, before any work.

picture: Annotated[Path | None, typer.Option("--picture", callback=needs("plots"))] = None
"""

from collections.abc import Callable
from typing import Any

from c3dvideo.extras import Extra, require_extra


def needs(extra: Extra) -> Callable[[Any], Any]:
    """A callback for an option that, when given, needs the extra."""

    def check(value: Any) -> Any:
        if value is not None:
            require_extra(extra)
        return value

    return check
