"""Figures that answer to sliders, in the book, in Colab and in Jupyter: Bokeh draws, the browser computes, no
Python runs.

A figure is Bokeh axes whose sources have names, controls that are lists of values, and the body of a
JavaScript function from the settings to a sentence and the sources' columns, which tests can call. The
controls are the browser's own: keyboards, fingers and screen readers know them (Bokeh's sliders have no name
that a screen reader could say).

Stored is one ``text/html`` of some kilobytes, the same in every run, without Bokeh's script. A page of the
book brings that along (``_ext/interactive.py``), so nothing is asked from outside; elsewhere it comes from
Bokeh's address, in the installed version. Without scripts one sentence is shown, and in print nothing: a
still figure stands above.
"""

import json
import re

try:
    from bokeh.embed import json_item
    from bokeh.layouts import column
    from bokeh.models import ColumnDataSource
    from bokeh.plotting import figure
    from bokeh.resources import CDN
except ModuleNotFoundError as error:
    raise ImportError("interactive figures need Bokeh: pip install bokeh") from error

STYLE = """
.interactive { padding: .8rem 1rem; border-radius: .35rem; background: white; color: #222222;
  color-scheme: light; font-family: var(--book-sans, sans-serif); }
.interactive .controls { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 14rem),
  1fr)); gap: .3rem 1.4rem; }
.interactive label { display: block; margin: 0; font-size: .9rem; }
.interactive label:has(select) { grid-column: 1 / -1; }
.interactive label span { float: right; font-weight: 600; }
.interactive input, .interactive select { display: block; width: 100%; height: 2rem; margin: 0;
  accent-color: #0072B2; font-size: inherit; }
.interactive p[role=status] { min-height: 4.8em; margin: .6rem 0; font-family: inherit; font-size: .95rem;
  line-height: 1.6; }
@media (max-width: 36rem) { .interactive { padding: .8rem .6rem; } .interactive p[role=status] {
  min-height: 8em; } }
@media print { .interactive { display: none; } }
"""

# What differs from figure to figure, `box` and `move`, is defined above it in the page: see `playground`.
SCRIPT = """
const {item, controls, data, label, height} = JSON.parse(box.querySelector("script").textContent);
const make = (tag, properties, parent) => parent.appendChild(Object.assign(document.createElement(tag),
  properties));
const panel = make("div", {className: "controls"}, box);
const inputs = controls.map(({name, values, start}) => {
  const field = make("label", {textContent: name}, panel), shown = make("span", {}, field),
    pick = typeof values[0] === "string";
  const input = make(pick ? "select" : "input", pick ? {} : {type: "range", min: 0, max: values.length - 1},
    field);
  if (pick) values.forEach((textContent, value) => make("option", {value, textContent}, input));
  input.value = values.indexOf(start);
  input.ariaLabel = name;
  return {name, input, read() {
    if (!pick) input.ariaValueText = shown.textContent = values[input.value] ?? "off";
    return values[input.value];
  }};
});
const status = make("p", {role: "status"}, box), plot = make("div", {role: "img", ariaLabel: label}, box);
plot.style.minHeight = height + "px";  // nothing below moves when it is drawn
box.hidden = false;
try {
  if (document.querySelector("script[src*='bokeh/bokeh.min.js']")) {  // a page that brings Bokeh along
    if (document.readyState === "loading") await new Promise(done =>
      document.addEventListener("DOMContentLoaded", done));
  } else if (!window.Bokeh) {
    await new Promise((onload, onerror) => make("script", {src: box.dataset.bokeh, onload, onerror},
      document.head));
  }
  await Bokeh.embed.embed_item(item, plot);
  const drawn = Bokeh.documents.filter(one => one.get_model_by_id(item.root_id)).at(-1);
  const update = () => {
    const {sentence, ...columns} = move(Object.fromEntries(inputs.map(one => [one.name, one.read()])), data);
    status.textContent = sentence;
    for (const [name, values] of Object.entries(columns)) drawn.get_model_by_name(name).data = values;
  };
  inputs.forEach(({input}) => input.addEventListener("input", update));
  update();
} catch (error) {
  box.hidden = true;
  console.error(error);
}
"""


def axes(x: str, y: str, height: int = 280, **options):
    """A Bokeh figure in the book's look; ``x``, ``y``: labels with units; ``height`` in pixels; ``options``
    of ``bokeh.plotting.figure``.
    """
    ax = figure(
        x_axis_label=x,
        y_axis_label=y,
        height=height,
        sizing_mode="stretch_width",
        tools="",
        toolbar_location=None,
        **options,
    )
    for axis in ax.axis:
        axis.update(
            axis_label_text_font_size="14px",
            axis_label_text_font_style="normal",
            major_label_text_font_size="13px",
        )
    ax.outline_line_color, ax.grid.grid_line_color = None, "#e6e6e6"
    ax.background_fill_color = ax.border_fill_color = "white"
    return ax


def source(name: str, *columns: str) -> ColumnDataSource:
    """An empty source that ``code`` of :func:`playground` fills under this name."""
    return ColumnDataSource(data={column: [] for column in columns}, name=name)


def playground(
    name: str, label: str, panels: list, controls: dict[str, tuple[list, object]], code: str, data=None
):
    """Axes and the controls that move them.

    Args:
        name: of the figure, its id on the page: letters, digits and hyphens.
        label: what the figure draws, for those who do not see it.
        panels: :func:`axes`, from top to bottom.
        controls: name -> (values, the one to start with): numbers, and None for "off", give a slider, strings
            a list to choose from.
        code: body of a JavaScript function of ``at`` (name of a control -> its value) and ``data``. It
            returns an object: ``sentence``, what to read off the figure, and name of a :func:`source` -> its
                columns.
        data: whatever ``code`` needs besides, as JSON has it.

    Returns:
        ``IPython.display.HTML``.

    Raises:
        ValueError: ``name`` is not fit for an id, ``panels`` is empty, or a control starts with a value that
            it does not have.
    """
    from IPython.display import HTML

    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9-]*", name):
        raise ValueError(f"name: {name!r} given, letters, digits and hyphens are accepted, a letter first")
    if not panels:
        raise ValueError("panels: none given, at least one is accepted")
    for control, (values, start) in controls.items():
        if start not in values:
            raise ValueError(f"controls: {control!r} starts with {start!r}; accepted: {values}")
    for legend in (legend for panel in panels for legend in panel.legend):
        legend.update(
            background_fill_alpha=0.7, border_line_color=None, label_text_font_size="13px", padding=2
        )
    ids = {}  # Bokeh counts on through a session; here each figure has ids of its own
    item = json.dumps(json_item(column(*panels, sizing_mode="stretch_width")))
    item = json.loads(
        re.sub(r'"p\d{4,}"', lambda found: ids.setdefault(found[0], f'"{name}-{len(ids)}"'), item)
    )
    stored = {
        "item": item,
        "data": data,
        "label": label,
        "height": sum(panel.height for panel in panels),
        "controls": [
            {"name": control, "values": values, "start": start}
            for control, (values, start) in controls.items()
        ],
    }
    stored = json.dumps(stored, separators=(",", ":"), allow_nan=False).replace("</", "<\\/")
    return HTML(
        f'<div class="interactive" id="{name}" role="group" aria-label="Figure with sliders" '
        f'data-bokeh="{CDN.js_files[0]}" hidden>'
        f'<style>{STYLE}</style>\n<script type="application/json">{stored}</script>\n<script>(async () => '
        f"{{\n"
        f'const box = document.getElementById("{name}");\nconst move = (at, data) => '
        f"{{\n{code.strip()}\n}};{SCRIPT}}})();</script></div>"
        "<noscript><p>With JavaScript, sliders appear here; the figure above stands still.</p></noscript>"
    )
