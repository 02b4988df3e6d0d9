"""Small charts as inline SVG: lines, bars, a matrix, points. No scripts, no fonts from elsewhere.

Every chart scales with the page's width (viewBox) and names its axes; colours have enough contrast in print.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

import numpy as np

WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 420, 240, 52, 38, 12, 10
COLORS = ("#1b6ca8", "#c8553d", "#3d8f5f", "#8a5fa8", "#b8860b", "#4a4a4a", "#d1788c", "#2a9d8f")


def frame(body: str, x_label: str, y_label: str, title: str) -> str:
    """A chart's box with its axis titles and accessible name."""
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">{body}'
        f'<text x="{(LEFT + WIDTH) / 2}" y="{HEIGHT - 4}" class="axis" text-anchor="middle">{escape(x_label)}</text>'
        f'<text x="12" y="{(HEIGHT - BOTTOM) / 2}" class="axis" text-anchor="middle" '
        f'transform="rotate(-90 12 {(HEIGHT - BOTTOM) / 2})">{escape(y_label)}</text></svg>'
    )


class Scale:
    """Data coordinates to pixels, with round ticks."""

    def __init__(self, x: tuple[float, float], y: tuple[float, float]) -> None:
        self.x = x if x[1] > x[0] else (x[0] - 0.5, x[0] + 0.5)
        self.y = y if y[1] > y[0] else (y[0] - 0.5, y[0] + 0.5)

    def at(self, x: float, y: float) -> tuple[float, float]:
        u = (x - self.x[0]) / (self.x[1] - self.x[0])
        v = (y - self.y[0]) / (self.y[1] - self.y[0])
        return LEFT + u * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - v * (HEIGHT - BOTTOM - TOP)

    def axes(self) -> str:
        """Grid lines and tick labels."""
        out = []
        for value in ticks(*self.x):
            x, y = self.at(value, self.y[0])
            out.append(f'<text x="{x:.1f}" y="{y + 14:.1f}" class="tick" text-anchor="middle">{value:.4g}</text>')
        for value in ticks(*self.y):
            x, y = self.at(self.x[0], value)
            out.append(f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}" class="grid"/>')
            out.append(f'<text x="{x - 4:.1f}" y="{y + 3:.1f}" class="tick" text-anchor="end">{value:.4g}</text>')
        return "".join(out)


def ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """About `wanted` round numbers between low and high."""
    step = 10 ** math.floor(math.log10((high - low) / wanted))
    step *= next((m for m in (1, 2, 5, 10) if (high - low) / (m * step) <= wanted), 10)
    first = math.ceil(low / step - 1e-9)
    return [i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]


def lines(series: Sequence[tuple[str, np.ndarray, int, bool]], x_label: str, y_label: str, title: str) -> str:
    """Curves (name, values per step from 1, colour index, dashed)."""
    values = np.concatenate([y[np.isfinite(y)] for _, y, _, _ in series] or [np.zeros(1)])
    longest = max([len(y) for _, y, _, _ in series], default=1)
    scale = Scale((1, max(2, longest)), (float(values.min()), float(values.max())))
    body = [scale.axes()]
    for name, y, color, dashed in series:
        points = " ".join(
            f"{px:.1f},{py:.1f}" for px, py in (scale.at(i + 1, v) for i, v in enumerate(y) if math.isfinite(v))
        )
        dash = ' stroke-dasharray="4 3"' if dashed else ""
        body.append(
            f'<polyline points="{points}" fill="none" stroke="{COLORS[color % len(COLORS)]}" stroke-width="1.4"{dash}>'
            f"<title>{escape(name)}</title></polyline>"
        )
    return frame("".join(body), x_label, y_label, title)


def scatter(x: np.ndarray, y: np.ndarray, labels: tuple[str, str, str], diagonal: bool = False) -> str:
    """Points; labels are x axis, y axis, title; `diagonal` draws y = x."""
    low, high = float(min(x.min(), y.min())), float(max(x.max(), y.max()))
    scale = Scale((low, high), (low, high)) if diagonal else Scale((x.min(), x.max()), (y.min(), y.max()))
    body = [scale.axes()]
    if diagonal:
        (x1, y1), (x2, y2) = scale.at(low, low), scale.at(high, high)
        body.append(f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="even"/>')
    for a, b in zip(x.tolist(), y.tolist(), strict=True):
        px, py = scale.at(a, b)
        body.append(f'<circle cx="{px:.1f}" cy="{py:.1f}" r="2.2" fill="{COLORS[0]}" fill-opacity="0.55"/>')
    return frame("".join(body), labels[0], labels[1], labels[2])


def calibration(mean: np.ndarray, rate: np.ndarray, count: np.ndarray) -> str:
    """Mean predicted probability against observed rate per bin; the area of a point is its number of rows."""
    scale = Scale((0, 1), (0, 1))
    (x1, y1), (x2, y2) = scale.at(0, 0), scale.at(1, 1)
    body = [scale.axes(), f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="even"/>']
    largest = max(float(count.max()), 1.0)
    for a, b, n in zip(mean, rate, count, strict=True):
        px, py = scale.at(float(a), float(b))
        radius = 2 + 7 * math.sqrt(n / largest)
        body.append(
            f'<circle cx="{px:.1f}" cy="{py:.1f}" r="{radius:.1f}" fill="{COLORS[0]}" fill-opacity="0.6">'
            f"<title>{int(n)} rows: predicted {a:.3f}, observed {b:.3f}</title></circle>"
        )
    return frame("".join(body), "predicted probability", "observed share", "calibration")


def bars(names: Sequence[str], values: Sequence[float], errors: Sequence[float], title: str) -> str:
    """Horizontal bars with error whiskers; the names stand left of them."""
    row, left = 20, 150
    height = row * len(names) + 26
    reach = list(zip(values, errors, strict=True))
    low = min([0.0, *(value - error for value, error in reach)])
    high = max([1e-12, *(value + error for value, error in reach)])
    scale = (WIDTH - left - 50) / (high - low)
    body = []
    for i, (name, value, error) in enumerate(zip(names, values, errors, strict=True)):
        y = 6 + i * row
        x0, x1 = left + (0 - low) * scale, left + (value - low) * scale
        color = COLORS[0] if value >= 0 else COLORS[1]
        body.append(f'<text x="{left - 6}" y="{y + 12}" class="tick" text-anchor="end">{escape(_cut(name))}</text>')
        box = f'x="{min(x0, x1):.1f}" y="{y + 2}" width="{max(abs(x1 - x0), 0.5):.1f}" height="{row - 7}"'
        body.append(f'<rect {box} fill="{color}"/>')
        e = error * scale
        body.append(f'<line x1="{x1 - e:.1f}" x2="{x1 + e:.1f}" y1="{y + 8}" y2="{y + 8}" stroke="#333"/>')
        body.append(f'<text x="{max(x0, x1) + e + 4:.1f}" y="{y + 12}" class="tick">{value:.3g}</text>')
    return f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}">{"".join(body)}</svg>'


def _cut(name: str, most: int = 22) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"
