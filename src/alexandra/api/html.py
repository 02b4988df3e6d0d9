"""Pieces of a self-contained HTML page: style, tables, figures. Text is escaped here unless it is `Html`."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 62rem; padding: 1rem; color: #1d2733; }
h1 { font-size: 1.6rem; margin: .2rem 0; }
h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; border-bottom: 1px solid #d5dbe1; }
p, li { max-width: 70ch; }
.lead { font-size: 1.05rem; }
.muted { color: #5b6875; }
.ok { color: #1d6b3f; }
.no { color: #9c2f1c; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; }
caption, figcaption { text-align: left; color: #5b6875; font-size: .85rem; }
th, td { padding: .25rem .6rem; text-align: left; border-bottom: 1px solid #e6eaee; vertical-align: top; }
.whole { white-space: nowrap; }
td.num { text-align: right; }
td.cell { text-align: center; min-width: 2.2rem; }
.grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 22rem), 1fr)); gap: 1rem; }
.grid > * { min-width: 0; }
figure { margin: 0; }
svg { width: 100%; max-width: 38rem; height: auto; }
.tick { font: 10px system-ui, sans-serif; fill: #44505c; }
.axis { font: 11px system-ui, sans-serif; fill: #1d2733; }
line.grid { stroke: #e3e8ec; }
.even { stroke: #9aa5b1; stroke-dasharray: 3 3; }
pre { background: #f4f6f8; padding: .7rem; overflow-x: auto; font-size: .85rem; }
code { overflow-wrap: anywhere; }
pre.said { background: none; padding: 0; margin: 0; white-space: pre-wrap; overflow-wrap: anywhere; max-width: 26rem; }
"""

Cells = Sequence[object]


class Html(str):
    """Text that is already markup."""


def document(title: str, body: str) -> str:
    """A whole page without anything from elsewhere."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="icon" href="data:,"><title>{escape(title)}</title><style>{STYLE}</style></head>'
        f"<body>{body}</body></html>"
    )


def section(title: str, content: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{content}</section>"


def table(head: Cells, rows: Sequence[Cells], caption: str = "") -> Html:
    """Numbers stand right; the table scrolls sideways where the page is narrow."""
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    top = "".join(f"<th>{escape(str(cell))}</th>" for cell in head)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    return Html(f'<div class="scroll"><table>{title}<tr>{top}</tr>{body}</table></div>')


def _cell(cell: object) -> str:
    if isinstance(cell, Html):
        return f"<td>{cell}</td>"
    if isinstance(cell, int):
        return f'<td class="num">{cell:,}</td>'
    if isinstance(cell, float):
        return f'<td class="num">{cell:.4g}</td>'
    return f"<td>{escape(str(cell))}</td>"


def figure(chart: str, caption: str = "") -> Html:
    shown = caption if isinstance(caption, Html) else escape(caption)
    return Html(f"<figure>{chart}<figcaption>{shown}</figcaption></figure>")


def whole(text: str) -> Html:
    """Text that is never broken into lines."""
    return Html(f'<span class="whole">{escape(text)}</span>')


def grid(parts: Sequence[str]) -> Html:
    """As many beside each other as the page is wide."""
    return Html(f'<div class="grid">{"".join(parts)}</div>')


def paragraph(text: str, muted: bool = False) -> Html:
    return Html(f'<p class="muted">{escape(text)}</p>' if muted else f"<p>{escape(text)}</p>")
