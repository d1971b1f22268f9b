"""One self-contained HTML page: text, tables, and pictures as data in the page, so that it opens from disk anywhere.

page = Page("What c3dvideo saw")
page.paragraph("64 videos, 8 classes.")
page.charts({"map.png": "Near points are alike."})
page.write("report.html")
"""

from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from c3dvideo.files import atomic_file

_STYLE = """
:root { --ink: #1f2933; --faint: #687683; --line: #dde3e8; --ground: #ffffff; --card: #f5f7f9; --accent: #0b6e99;
  --good: #2f8f4e; --bad: #c2410c; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6eaee; --faint: #9aa7b3; --line: #33404c; --ground: #12181d;
  --card: #1b242b; --accent: #59b5dd; --good: #5cc07f; --bad: #f0884e; } img.chart { background: #fff; } }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--ground); margin: 0 auto;
  max-width: 62rem; padding: 2rem 1.2rem 4rem; }
h1 { font-size: 1.9rem; margin: 0 0 .4rem; } h2 { font-size: 1.25rem; margin: 2.4rem 0 .6rem; }
p { max-width: 46rem; margin: .5rem 0; } .faint, figcaption { color: var(--faint); font-size: .9rem; }
.numbers { display: flex; flex-wrap: wrap; gap: 1rem; margin: 1.2rem 0; }
.numbers div { background: var(--card); border-radius: .6rem; padding: .8rem 1.2rem; min-width: 9rem; }
.numbers b { display: block; font-size: 1.7rem; color: var(--accent); }
.charts { display: flex; flex-wrap: wrap; gap: 1.2rem; align-items: flex-start; }
figure { margin: 0; } img.chart { max-width: 100%; height: auto; border-radius: .4rem; display: block; }
.charts figure { flex: 1 1 24rem; max-width: 30rem; }
pre { background: var(--card); border-radius: .5rem; padding: .8rem 1rem; overflow-x: auto; font-size: .85rem; }
.row { display: flex; gap: .8rem; align-items: flex-start; overflow-x: auto; padding: .6rem 0;
  border-top: 1px solid var(--line); }
.row figure { width: 7.5rem; flex: none; } .row figure:first-child { margin-right: 1.2rem; }
.row img { width: 7.5rem; border-radius: .35rem; border: 3px solid var(--line); display: block; }
.row img.good { border-color: var(--good); } .row img.bad { border-color: var(--bad); }
.row figcaption { font-size: .75rem; line-height: 1.25; overflow-wrap: anywhere; }
table { border-collapse: collapse; } td { padding: .15rem .8rem .15rem 0; } td.bar { width: 18rem; }
td.bar i { display: block; height: .8rem; border-radius: .2rem; background: var(--accent); min-width: 2px; }
"""


@dataclass(frozen=True)
class Tile:
    """One small picture with its caption; kind "good" or "bad" colours its frame."""

    picture: bytes
    caption: str
    kind: str = ""


class Page:
    """A page that grows from top to bottom; every text is escaped."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._parts = [f"<h1>{escape(title)}</h1>"]

    def heading(self, text: str) -> None:
        """Begin a section."""
        self._parts.append(f"<h2>{escape(text)}</h2>")

    def paragraph(self, text: str) -> None:
        """Add a paragraph."""
        self._parts.append(f"<p>{escape(text)}</p>")

    def numbers(self, values: Mapping[str, str]) -> None:
        """Add large figures, each with what it is."""
        cells = "".join(f"<div><b>{escape(value)}</b>{escape(name)}</div>" for name, value in values.items())
        self._parts.append(f'<div class="numbers">{cells}</div>')

    def commands(self, lines: Iterable[str]) -> None:
        """Add command lines as they would be typed."""
        self._parts.append(f"<pre>{escape(chr(10).join(lines))}</pre>")

    def charts(self, pictures: Mapping[str | Path, str]) -> None:
        """Add PNG files side by side, each under its path with a caption."""
        figures = (
            f'<figure><img class="chart" alt="{escape(caption)}" src="{_png(Path(path).read_bytes())}">'
            f"<figcaption>{escape(caption)}</figcaption></figure>"
            for path, caption in pictures.items()
        )
        self._parts.append(f'<div class="charts">{"".join(figures)}</div>')

    def row(self, tiles: Sequence[Tile]) -> None:
        """Add a row of small moving pictures; the first stands a little apart."""
        figures = (
            f'<figure><img class="{tile.kind}" alt="" src="data:image/webp;base64,{b64encode(tile.picture).decode()}">'
            f"<figcaption>{escape(tile.caption)}</figcaption></figure>"
            for tile in tiles
        )
        self._parts.append(f'<div class="row">{"".join(figures)}</div>')

    def bars(self, values: Mapping[str, float]) -> None:
        """Add a table of names with bars, from the smallest value (no bar) to the largest (a full one)."""
        low, high = min(values.values()), max(values.values())
        share = {name: 100 * (value - low) / (high - low or 1) for name, value in values.items()}
        rows = (
            f'<tr><td>{escape(name)}</td><td class="bar"><i style="width:{share[name]:.1f}%"></i></td>'
            f"<td>{value:+.2f}</td></tr>"
            for name, value in values.items()
        )
        self._parts.append(f"<table>{''.join(rows)}</table>")

    def html(self) -> str:
        """The whole page."""
        return (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{escape(self._title)}</title><style>{_STYLE}</style></head><body>"
            + "\n".join(self._parts)
            + "</body></html>\n"
        )

    def write(self, path: str | Path) -> None:
        """Write the page, atomically."""
        with atomic_file(path) as file:
            file.write(self.html().encode())


def _png(data: bytes) -> str:
    return f"data:image/png;base64,{b64encode(data).decode()}"
