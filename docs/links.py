"""Links that leave docs/ lead somewhere in a checkout and nowhere on the site: there they become the path as text."""

import re
from typing import Any

_OUTSIDE = re.compile(r"\[([^\]]+)\]\((?:\.\./)+([^)]+)\)")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Called by MkDocs for every page."""
    return _OUTSIDE.sub(r"\1 (`\2` in the repository)", markdown)
