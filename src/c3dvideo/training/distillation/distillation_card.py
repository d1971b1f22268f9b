"""The card of distilled weights: README.md beside them, with the teacher, every source and its licence, and settings.

card(network.provenance)
"""

from collections.abc import Mapping
from typing import Any


def card(provenance: Mapping[str, Any]) -> str:
    """The card as Markdown, from the provenance that `distil` writes."""
    rows = [
        f"| {source['folder']} | {source['kind']} | {source['files']:,} | {_cell(str(source['licence']))} |"
        for source in provenance["sources"]
    ]
    settings = [f"| `{name}` | {value} |" for name, value in provenance["recipe"].items()]
    return "\n".join(
        [
            "# Distilled C3D weights",
            "",
            f"Made by `c3dvideo distil` {provenance['version']}, from {provenance['init']}. Nothing was learned from",
            "labels of the files below: appearance comes from a teacher's outputs, motion from moving pictures and",
            "generated clips.",
            "",
            f"- Teacher: {provenance['teacher']}",
            f"- Read: {provenance['pictures']:,} pictures and {provenance['clips_of_videos']:,} clips of videos",
            f"- Clips seen: {provenance['clips_seen']:,}",
            "- `descriptor_mean`: the mean descriptor (fc6) of the training clips, for centring",
            "",
            "| source | | files | licence |",
            "|---|---|---|---|",
            *rows,
            "",
            "| setting | |",
            "|---|---|",
            *settings,
            "",
        ]
    )


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
