"""The report's page as HTML: its style, tables and a figure of intervals; nothing comes from outside."""

import math
from html import escape

STYLE = """
:root {
  color-scheme: light dark;
  --ground: #ffffff; --text: #1c2126; --quiet: #59626b; --line: #d5dade; --soft: #f4f6f8;
  --better: #00639c; --worse: #b03a00; --none: #59626b; --told: #7a5200; --told-ground: #fff6e0;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #15181b; --text: #e4e7ea; --quiet: #a4adb5; --line: #3a4147; --soft: #1f2428;
    --better: #6cbdf2; --worse: #ff9d66; --none: #a4adb5; --told: #f2cc77; --told-ground: #2b2415;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; max-width: 60rem; padding: 1.5rem 1rem 4rem; overflow-wrap: break-word;
  font: 1rem/1.55 system-ui, sans-serif; color: var(--text); background: var(--ground);
}
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 .3rem; }
h2 { font-size: 1.25rem; margin: 2.4rem 0 .6rem; padding-top: 1rem; border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.4rem 0 .4rem; }
p { margin: .5rem 0; max-width: 44rem; }
.quiet, caption, figcaption, dt { color: var(--quiet); }
.better { color: var(--better); } .worse { color: var(--worse); } .none { color: var(--none); }
ul { padding-left: 1.4rem; } li { margin: .35rem 0; max-width: 44rem; }
.told { background: var(--told-ground); border-left: 4px solid var(--told); padding: .5rem 1rem .5rem 2rem; }
.scroll { overflow-x: auto; margin: .8rem 0; }
:focus-visible { outline: 2px solid var(--better); outline-offset: 2px; }
table { border-collapse: collapse; font-size: .94rem; font-variant-numeric: tabular-nums; min-width: 100%; }
caption { text-align: left; padding-bottom: .4rem; }
th, td { text-align: left; padding: .35rem .9rem .35rem 0; border-bottom: 1px solid var(--line); }
th, td { vertical-align: top; } thead th { border-bottom: 2px solid var(--line); vertical-align: bottom; }
th[scope=row] { font-weight: 600; min-width: 8rem; } td:not(.number) { min-width: 11rem; }
td.better, td.worse { font-weight: 600; } td.number, th.number { text-align: right; white-space: nowrap; }
figure { margin: .8rem 0; } figcaption { font-size: .94rem; margin-top: .4rem; }
svg { display: block; width: 100%; font: 14px system-ui, sans-serif; fill: var(--text); overflow: visible; }
svg .quiet { fill: var(--quiet); } svg line { stroke: var(--line); }
svg .better { fill: var(--better); stroke: var(--better); }
svg .worse { fill: var(--worse); stroke: var(--worse); }
svg .none { fill: var(--ground); stroke: var(--none); } svg .zero { stroke: var(--quiet); }
svg text, svg text.size { stroke: var(--ground); stroke-width: 6px; paint-order: stroke; }
svg .middle { text-anchor: middle; } svg .size { text-anchor: end; }
svg .none.size { fill: var(--none); }
pre {
  background: var(--soft); border: 1px solid var(--line); border-radius: 4px; padding: .8rem;
  margin: .5rem 0;
  font: .88rem/1.5 ui-monospace, monospace; white-space: pre-wrap; overflow-wrap: anywhere;
}
code { font-family: ui-monospace, monospace; font-size: .92em; }
dl { display: grid; grid-template-columns: minmax(8rem, max-content) 1fr; gap: .3rem 1.2rem; }
dd { margin: 0; min-width: 0; overflow-wrap: anywhere; }
@media (max-width: 32rem) { dl { grid-template-columns: 1fr; gap: 0; } dd { margin-bottom: .5rem; } }
@media print { body { max-width: none; } .scroll { overflow: visible; } }
"""


COLOURED = ("better", "worse")


def document(title: str, body: list[str]) -> str:
    """A whole page: language, width of a phone, style, one ``main``."""
    return "\n".join([
        "<!doctype html>",
        '<html lang="en">',
        '<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">',
        '<link rel="icon" href="data:,">',
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>",
        "<body><main>",
        *body,
        "</main></body></html>\n",
    ])  # fmt: skip


def section(title: str, *content: str) -> str:
    return "\n".join([f"<h2>{escape(title)}</h2>", *content])


def paragraph(text: str, kind: str = "") -> str:
    return f"<p{_class(kind)}>{escape(text)}</p>"


def bullets(items, kind: str = "") -> str:
    """A list; an item is a text, or a text and its class."""
    pairs = [(item, "") if isinstance(item, str) else item for item in items]
    pairs = [(text.replace(" = ", "\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}"), own) for text, own in pairs]
    return f"<ul{_class(kind)}>{''.join(f'<li{_class(own)}>{escape(text)}</li>' for text, own in pairs)}</ul>"


def facts(pairs: dict[str, str]) -> str:
    """What is known, name by name; empty ones are left out."""
    known = {name: text for name, text in pairs.items() if text}
    return f"<dl>{''.join(f'<dt>{escape(k)}</dt><dd>{escape(v)}</dd>' for k, v in known.items())}</dl>"


def code(text: str) -> str:
    return f"<pre><code>{escape(text)}</code></pre>"


def table(caption: str, header: list[str], rows: list[list[str]], words: tuple[str, ...] = ()) -> str:
    """A table whose first column names its rows; it scrolls by itself where it is wider than the page.

    Args:
        words: columns of words, set to the left; the others are numbers. "better" and "worse" are coloured.
    """

    def cell(column: int, text: str) -> str:
        if column == 0:
            return f'<th scope="row">{escape(text)}</th>'
        kind = "number" if header[column] not in words else text if text in COLOURED else ""
        return f"<td{_class(kind)}>{escape(text)}</td>"

    head = "".join(
        f'<th scope="col"{_class("" if i == 0 or name in words else "number")}>{escape(name)}</th>'
        for i, name in enumerate(header)
    )
    body = "".join(f"<tr>{''.join(cell(i, text) for i, text in enumerate(row))}</tr>" for row in rows)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}"><table>'
        f"<caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        "</div>"
    )


def _class(name: str) -> str:
    return f' class="{name}"' if name else ""


# ---- Figure: positions in percent of the width, so that letters keep their size on a phone ----

ROW, MARGIN, SPAN = 52, 5, 90  # pixels of a row; percent beside the axis, and of the axis


def intervals(rows: dict[str, dict], unit: str, caption: str) -> str:
    """Means and 95 % intervals, one below the other, around a line at zero.

    Args:
        rows: name -> ``{"low", "mean", "high", "text", "class"}`` in the figure's unit; ``text`` is printed
            beside the name, and ``class`` is "better", "worse" or "none".
        unit: of the axis. caption: below the figure.
    """
    lowest, highest = (
        side(0, *(r[key] for r in rows.values())) for side, key in ((min, "low"), (max, "high"))
    )
    ticks = ticks_of(lowest, highest)
    step = ticks[1] - ticks[0]
    height, zero = ROW * len(rows), _percent(0, ticks)
    drawn = []
    for tick in ticks:
        x = _percent(tick, ticks)
        drawn += [
            f'<line x1="{x}" x2="{x}" y1="0" y2="{height}"/>',
            f'<text class="quiet middle" x="{x}" y="{height + 18}">{_signed(tick, step)}</text>',
        ]
    drawn.append(f'<line class="zero" x1="{zero}" x2="{zero}" y1="0" y2="{height}" stroke-width="1.5"/>')
    for i, (name, r) in enumerate(rows.items()):
        low, mean, high = (_percent(r[key], ticks) for key in ("low", "mean", "high"))
        y = ROW * i + 36
        drawn += [
            f'<text x="0" y="{y - 16}">{escape(name)}</text>',
            f'<text class="size {r["class"]}" x="100%" y="{y - 16}">{escape(r["text"])}</text>',
            f'<line class="{r["class"]}" x1="{low}" x2="{high}" y1="{y}" y2="{y}" stroke-width="3"/>',
            f'<circle class="{r["class"]}" cx="{mean}" cy="{y}" r="5" stroke-width="2.5"/>',
        ]
    drawn.append(f'<text class="quiet middle" x="50%" y="{height + 38}">{escape(unit)}</text>')
    described = "; ".join(f"{name}: {r['text']}" for name, r in rows.items())
    return (
        f'<figure><svg role="img" height="{height + 44}" aria-label="{escape(f"{caption} {described}")}">'
        f"{''.join(drawn)}</svg><figcaption>{escape(caption)}</figcaption></figure>"
    )


def ticks_of(low: float, high: float) -> list[float]:
    """Round numbers, at most seven and zero among them, from at most ``low`` to at least ``high``."""
    width = (high - low) or 1.0
    power = 10.0 ** math.floor(math.log10(width))  # width / power is in [1, 10)
    step = next(s * power for s in (0.2, 0.5, 1, 2) if width <= 5.001 * s * power)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [i * step for i in range(first, max(last, first + 1) + 1)]


def _percent(value: float, ticks: list[float]) -> str:
    return f"{MARGIN + SPAN * (value - ticks[0]) / (ticks[-1] - ticks[0]):.2f}%"


def _signed(value: float, step: float) -> str:
    digits = 0
    while digits < 6 and abs(round(step, digits) - step) > 1e-9 * step:
        digits += 1
    return f"{value:+.{digits}f}" if value else "0"
