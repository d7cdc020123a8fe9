"""The rules of a chapter: each is a function, run on every chapter, and each has a bad notebook that it must
refuse.
"""

import base64
import copy
import io
import re
import statistics
from pathlib import Path

import matplotlib.pyplot
import nbformat
import pytest
from nbformat import v4
from PIL import Image, ImageChops

from tests import load_script

notebooks = load_script("notebooks")
NOTEBOOKS = sorted((Path(__file__).resolve().parent.parent / "chapters").glob("*.ipynb"))
CHAPTERS = [path for path in NOTEBOOKS if path.stem[:2].isdigit()]

HEADINGS = [
    "Idea",
    "Math",
    "Code",
    "Check",
    "Pitfalls",
    "Demo",
    "Evidence",
    "Cost",
    "In your own training",
    "Today",
    "What we learned",
    "Exercises",
    "References",
]
MAX_NOTEBOOK = 1_000_000  # bytes; larger ones are slow to open in Colab
MAX_OUTPUT = 200_000  # bytes of one cell
MIN_COMPARED = 0.8  # of the cells with text output
MAX_MEDIAN_LINES = 8
MAX_LINE = 84  # characters of code that the page's column shows without scrolling
MAX_WORDS = 1800  # that a reader of a chapter sees without opening anything
NOT_COMPARED = {"nbval-ignore-output", "nbval-skip"}
NOT_COMPARED_COMMENT = re.compile(
    r"(?mi)^\s*#\s*(nbval_ignore_output|nbval_skip|pytest_validate_ignore_output)\s*$"
)
PROGRESS = re.compile(r"\r|\d+%\|| \[\d+:\d+<|\d(it/s|s/it)\b")
MACHINE_PATH = re.compile(r"(?<![\w./:-])/(root|home|work|tmp|Users|content|mnt|opt|usr|var)/|\b[A-Z]:\\\w")
FOLD = re.compile(r"(?s)<details.*?</details>")
NUMBERS = "no one two three four five six seven eight".split()
COPIED = re.compile(r"then the (\w+) code cells? below the folded one")
RECIPE = re.compile(r"(?s)```python\n(.*?^checkpoint = \".*?)```", re.MULTILINE)


# ---- Helpers ----


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def as_text(value):
    return "".join(value) if isinstance(value, list) else str(value)


def texts(output):
    """What nbval compares of an output as text. A figure's own text is only its size."""
    if output.output_type == "stream":
        return [as_text(output.text)]
    data = output.get("data", {})
    if any(kind.startswith("image/") for kind in data):
        return []
    return [as_text(value) for kind, value in data.items()]


def figures(cell):
    return [output.data["image/png"] for output in cell.outputs if "image/png" in output.get("data", {})]


def is_compared(cell):
    tags = {tag.lower().replace("_", "-") for tag in cell.metadata.get("tags", [])}
    return not tags & NOT_COMPARED and not NOT_COMPARED_COMMENT.search(cell.source)


# ---- Rules: each yields what is wrong ----


def cells_are_executed_in_order(notebook):
    # nbval passes over a cell that was never executed, without a word.
    for number, cell in enumerate(code_cells(notebook), start=1):
        if cell.execution_count != number:
            yield f"code cell {number} has execution count {cell.execution_count}"


def no_cell_is_empty(notebook):
    for number, cell in enumerate(code_cells(notebook), start=1):
        if not cell.source.strip():
            yield f"code cell {number} is empty"


def no_error_is_stored(notebook):
    # A pitfall catches the error it shows; a stored traceback has machine paths and line numbers in it.
    for number, cell in enumerate(code_cells(notebook), start=1):
        if any(output.output_type == "error" for output in cell.outputs):
            yield f"code cell {number} stores an error"


def no_stderr(notebook):
    for number, cell in enumerate(code_cells(notebook), start=1):
        if any(output.get("name") == "stderr" for output in cell.outputs):
            yield f"code cell {number} wrote to stderr"


def no_svg(notebook):
    # nbval compares SVG, which has random ids.
    for number, cell in enumerate(code_cells(notebook), start=1):
        for output in cell.outputs:
            data = output.get("data", {})
            if "image/svg+xml" in data or "<svg" in as_text(data.get("text/html", "")):
                yield f"code cell {number} has SVG output"


def no_widgets(notebook):
    # GitHub calls a notebook with stored widget state invalid.
    if "widgets" in notebook.metadata:
        yield "widget state is stored"
    for number, cell in enumerate(code_cells(notebook), start=1):
        if any("widget-view" in kind for output in cell.outputs for kind in output.get("data", {})):
            yield f"code cell {number} shows a widget"


def no_progress_bars(notebook):
    for number, cell in enumerate(code_cells(notebook), start=1):
        if any(PROGRESS.search(text) for output in cell.outputs for text in texts(output)):
            yield f"code cell {number} stores a progress bar"


def no_machine_paths(notebook):
    for number, cell in enumerate(code_cells(notebook), start=1):
        for output in cell.outputs:
            for text in texts(output):
                if found := MACHINE_PATH.search(text):
                    yield f"code cell {number} prints a path of the machine: {text[found.start() :][:40]!r}"


def metadata_is_clean(notebook):
    if notebook.metadata.get("kernelspec", {}).get("name") != "python3":
        yield f"kernelspec is {notebook.metadata.get('kernelspec')}, not python3"
    for number, cell in enumerate(code_cells(notebook), start=1):
        if "execution" in cell.metadata:
            yield f"code cell {number} stores when it ran"


def sizes_are_small(notebook):
    size = len(nbformat.writes(notebook).encode())
    if size > MAX_NOTEBOOK:
        yield f"the notebook has {size:,} bytes; at most {MAX_NOTEBOOK:,}"
    for number, cell in enumerate(code_cells(notebook), start=1):
        size = sum(len(str(output).encode()) for output in cell.outputs)
        if size > MAX_OUTPUT:
            yield f"the output of code cell {number} has {size:,} bytes; at most {MAX_OUTPUT:,}"


def figures_have_alt_text_and_caption(notebook):
    for number, cell in enumerate(code_cells(notebook), start=1):
        if figures(cell):
            mystnb = cell.metadata.get("mystnb", {})
            if len(mystnb.get("image", {}).get("alt", "").strip()) < 20:
                yield f"the figure of code cell {number} has no alt text worth the name (mystnb.image.alt)"
            if not mystnb.get("figure", {}).get("caption", "").strip():
                yield f"the figure of code cell {number} has no caption (mystnb.figure.caption)"
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and re.search(r"!\[\s*\]\(", cell.source):
            yield "an image in the text has no alt text"


def figures_are_opaque(notebook):
    # A transparent figure has dark axes on a dark page.
    for number, cell in enumerate(code_cells(notebook), start=1):
        for png in figures(cell):
            image = Image.open(io.BytesIO(base64.b64decode(png)))
            if image.convert("RGBA").getchannel("A").getextrema()[0] < 255:
                yield f"the figure of code cell {number} is transparent"


def figures_have_a_palette(notebook):
    # Less than half of the bytes of a figure in true colours.
    for number, cell in enumerate(code_cells(notebook), start=1):
        for png in figures(cell):
            if Image.open(io.BytesIO(base64.b64decode(png))).mode != "P":
                yield f"the figure of code cell {number} has no palette; scripts/notebooks.py makes one"


def enough_cells_are_compared(notebook):
    with_text = [cell for cell in code_cells(notebook) if any(texts(output) for output in cell.outputs)]
    compared = sum(map(is_compared, with_text))
    if compared < MIN_COMPARED * len(with_text):
        yield f"{compared} of {len(with_text)} cells with text are compared; at least {MIN_COMPARED:.0%}"


def uncompared_cells_assert(notebook):
    for number, cell in enumerate(code_cells(notebook), start=1):
        one_line = len(cell.source.strip().splitlines()) == 1
        if not is_compared(cell) and not one_line and not re.search(r"(?m)^\s*assert\b", cell.source):
            yield f"code cell {number} is not compared and asserts nothing"


def cells_are_short(notebook):
    lines = [len(cell.source.strip().splitlines()) for cell in code_cells(notebook)]
    if lines and statistics.median(lines) > MAX_MEDIAN_LINES:
        yield f"the median code cell has {statistics.median(lines)} lines; at most {MAX_MEDIAN_LINES}"


def lines_fit_the_page(notebook):
    for number, cell in enumerate(code_cells(notebook), start=1):
        for line in cell.source.splitlines():
            if len(line) > MAX_LINE:
                yield f"code cell {number}: {len(line)} characters, at most {MAX_LINE}: {line[:40]}..."


def headings_are_the_same_in_every_chapter(notebook):
    text = "\n".join(
        re.sub(r"(?ms)^(```|~~~|:::).*?^\1", "", cell.source)
        for cell in notebook.cells
        if cell.cell_type == "markdown"
    )
    if len(re.findall(r"(?m)^# ", text)) != 1:
        yield "a chapter has one title (a line that starts with '# ')"
    found = [title.strip() for title in re.findall(r"(?m)^## (.+)$", text)]
    if found != HEADINGS:
        yield f"the second-level headings are {found}, not {HEADINGS}"


def prose(notebook):
    return [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]


def warm_up_is_a_number_of_steps(notebook):
    """A share is refused by transformers 4, which the package allows."""
    for cell in code_cells(notebook):
        if found := re.search(r"warmup_steps=0?\.\d+", cell.source):
            yield f"{found[0]}: the oldest transformers takes a number of steps"


def what_is_folded_is_closed_again(notebook):
    for text in prose(notebook):
        if text.count("<details") != text.count("</details>"):
            yield f"a fold opens or ends in another cell: {text[:60]!r}"
        for fold in FOLD.findall(text):
            if "<summary>" not in fold or re.search(r"(?m)^#+ ", fold):
                yield f"a fold needs a summary, and holds no heading: {fold[:60]!r}"


def visible_text_is_short(notebook):
    text = "\n".join(FOLD.sub("", text) for text in prose(notebook)).partition("\n## References")[0]
    words = len(re.sub(r"(?s)```.*?```|\$\$.*?\$\$|\$[^$\n]+\$", " ", text).split())
    if words > MAX_WORDS:
        yield f"{words} words are visible; at most {MAX_WORDS}"


def the_scale_is_said_at_once(notebook):
    if "Measured on" not in prose(notebook)[0]:
        yield "the first cell does not say what the chapter was measured on"


def a_recipe_can_be_copied(notebook):
    """A fence with what a reader changes, then cells tagged ``recipe``; ``test_recipes`` runs the two."""
    fences = [text for text in prose(notebook) if RECIPE.search(text)]
    rest = [cell for cell in code_cells(notebook) if "recipe" in cell.metadata.get("tags", [])]
    told = COPIED.search("\n".join(fences))
    if not fences:
        yield "no fence names a checkpoint"
    elif not told or NUMBERS.index(told[1]) != len(rest):
        yield f"the fence's cell does not say 'then the {NUMBERS[len(rest)]} code cells below the folded one'"
    if not rest:
        yield "no cell is tagged `recipe`"


def equations_are_computed(notebook):
    """Each numbered equation is named again where something is computed: in code, or directly above it."""
    above = [a for a, b in zip(notebook.cells, notebook.cells[1:]) if b.cell_type == "code"]
    where = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code" or cell in above)
    for number in re.findall(r"\\tag\{(\d+)\}", "\n".join(prose(notebook))):
        if f"({number})" not in where:
            yield f"no cell computes equation ({number})"


OF_CHAPTERS = [  # other pages have headings and lengths of their own
    headings_are_the_same_in_every_chapter,
    visible_text_is_short,
    the_scale_is_said_at_once,
    a_recipe_can_be_copied,
    equations_are_computed,
]
RULES = [
    cells_are_executed_in_order,
    no_cell_is_empty,
    no_error_is_stored,
    no_stderr,
    no_svg,
    no_widgets,
    no_progress_bars,
    no_machine_paths,
    metadata_is_clean,
    sizes_are_small,
    figures_have_alt_text_and_caption,
    figures_are_opaque,
    figures_have_a_palette,
    enough_cells_are_compared,
    uncompared_cells_assert,
    cells_are_short,
    lines_fit_the_page,
    warm_up_is_a_number_of_steps,
    what_is_folded_is_closed_again,
    *OF_CHAPTERS,
]


@pytest.mark.parametrize(
    "path, rule",
    [
        pytest.param(path, rule, id=f"{path.stem}-{rule.__name__}")
        for path in NOTEBOOKS
        for rule in RULES
        if path in CHAPTERS or rule not in OF_CHAPTERS
    ],
)
def test_notebook(path, rule):
    wrong = list(rule(nbformat.read(path, as_version=4)))
    assert not wrong, f"{path.name}: " + "; ".join(wrong)


def test_there_is_a_chapter():
    assert CHAPTERS


# ---- Each rule must be able to fail ----


def png(alpha):
    buffer = io.BytesIO()
    Image.new("RGBA", (4, 4), (255, 255, 255, alpha)).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def see_through():
    """A palette whose first colour is transparent."""
    buffer = io.BytesIO()
    Image.new("P", (4, 4)).save(buffer, "PNG", transparency=0)
    return base64.b64encode(buffer.getvalue()).decode()


def code(source, *outputs, **metadata):
    return v4.new_code_cell(source, outputs=list(outputs), metadata=metadata)


def printed(text, name="stdout"):
    return v4.new_output("stream", name=name, text=text)


def shown(**data):
    return v4.new_output("display_data", {kind.replace("__", "/"): value for kind, value in data.items()})


FIGURE = {
    "image": {"alt": "Accuracy rises with the number of tokens"},
    "figure": {"caption": "Accuracy by length."},
}
FENCE = (
    "Copy this block, then the one code cell below the folded one:\n\n"
    '```python\nimport torch\n\ncheckpoint = "owner/name"\n```'
)


def good():
    cells = [v4.new_markdown_cell("# A trick\n\nMeasured on: a model."), code("print(1)", printed("1\n"))]
    for heading in HEADINGS:
        cells += [
            v4.new_markdown_cell(f"## {heading}\n\nText.\n\n```python\n# a comment, no title\n```"),
            code("print(2)", printed("2\n")),
        ]
    folded = f"<details><summary>Derivation</summary>\n\n{'a ' * 2000}\n\n</details>"
    cells += [v4.new_markdown_cell(folded), v4.new_markdown_cell(FENCE), code("train()", tags=["recipe"])]
    figure = shown(image__png=notebooks.palette(png(255)), text__plain="<Figure size 4x4>")
    cells.append(code("draw()", figure, mystnb=FIGURE))
    for number, cell in enumerate([cell for cell in cells if cell.cell_type == "code"], start=1):
        cell.execution_count = number
    return v4.new_notebook(
        cells=cells, metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    )


def bad(**changes):
    """A good notebook of which one code cell, the last, was changed."""
    notebook = good()
    cell = notebook.cells[-1]
    for key, value in changes.items():
        cell[key] = nbformat.from_dict(value)
    return notebook


def edited(change):
    notebook = good()
    change(notebook)
    return notebook


def with_text(text):
    return edited(lambda notebook: notebook.cells.append(v4.new_markdown_cell(text)))


def untagged(notebook):
    for cell in code_cells(notebook)[:4]:
        cell.metadata["tags"] = ["nbval-ignore-output"]


def swap_headings(notebook):
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = (
                cell.source.replace("## Idea", "## X")
                .replace("## Math", "## Idea")
                .replace("## X", "## Math")
            )


BAD = {
    "share of warm-up": (warm_up_is_a_number_of_steps, bad(source="TricksArguments('x', warmup_steps=0.1)")),
    "never executed": (cells_are_executed_in_order, bad(execution_count=None)),
    "out of order": (cells_are_executed_in_order, bad(execution_count=40)),
    "empty cell": (no_cell_is_empty, bad(source=" \n")),
    "stored error": (
        no_error_is_stored,
        bad(outputs=[v4.new_output("error", ename="E", evalue="", traceback=[])]),
    ),
    "stderr": (no_stderr, bad(outputs=[printed("careful", "stderr")])),
    "SVG": (no_svg, bad(outputs=[shown(**{"image__svg+xml": "<svg/>"})])),
    "SVG in HTML": (no_svg, bad(outputs=[shown(text__html="<div><svg></svg></div>")])),
    "widget state": (no_widgets, edited(lambda notebook: notebook.metadata.update(widgets={}))),
    "widget": (no_widgets, bad(outputs=[shown(**{"application__vnd.jupyter.widget-view+json": {}})])),
    "tqdm": (no_progress_bars, bad(outputs=[printed("100%|##########| 5/5 [00:01<00:00, 3.2it/s]")])),
    "carriage return": (no_progress_bars, bad(outputs=[printed("1 of 2\r2 of 2")])),
    "Linux path": (no_machine_paths, bad(outputs=[printed("saved to /home/me/x.pt")])),
    "path in a result": (no_machine_paths, bad(outputs=[shown(text__plain="PosixPath('/tmp/x')")])),
    "Windows path": (no_machine_paths, bad(outputs=[printed("C:\\Users\\me")])),
    "other kernel": (
        metadata_is_clean,
        edited(lambda notebook: notebook.metadata.kernelspec.update(name="conda")),
    ),
    "no kernel": (metadata_is_clean, edited(lambda notebook: notebook.metadata.pop("kernelspec"))),
    "timestamps": (
        metadata_is_clean,
        bad(metadata={"execution": {"iopub.execute_input": "2026"}, "mystnb": FIGURE}),
    ),
    "large output": (sizes_are_small, bad(outputs=[printed("x" * (MAX_OUTPUT + 1))])),
    "large notebook": (sizes_are_small, bad(source="x" * (MAX_NOTEBOOK + 1))),
    "no alt text": (
        figures_have_alt_text_and_caption,
        bad(metadata={"mystnb": {"figure": FIGURE["figure"]}}),
    ),
    "no caption": (figures_have_alt_text_and_caption, bad(metadata={"mystnb": {"image": FIGURE["image"]}})),
    "image without alt": (
        figures_have_alt_text_and_caption,
        edited(lambda notebook: notebook.cells.append(v4.new_markdown_cell("![](a.png)"))),
    ),
    "transparent": (figures_are_opaque, bad(outputs=[shown(image__png=png(0))])),
    "transparent palette": (figures_are_opaque, bad(outputs=[shown(image__png=see_through())])),
    "true colours": (figures_have_a_palette, bad(outputs=[shown(image__png=png(255))])),
    "few compared": (enough_cells_are_compared, edited(untagged)),
    "silent": (
        uncompared_cells_assert,
        bad(source="a = 1\nprint(a)", metadata={"tags": ["nbval-ignore-output"]}),
    ),
    "silent by comment": (uncompared_cells_assert, bad(source="# NBVAL_IGNORE_OUTPUT\nprint(a)")),
    "long cells": (
        cells_are_short,
        edited(lambda notebook: [cell.update(source="x = 1\n" * 9) for cell in code_cells(notebook)]),
    ),
    "long line": (lines_fit_the_page, bad(source="x = " + "1 + " * 22)),
    "missing heading": (
        headings_are_the_same_in_every_chapter,
        edited(lambda notebook: notebook.cells.pop(2)),
    ),
    "misordered headings": (headings_are_the_same_in_every_chapter, edited(swap_headings)),
    "open fold": (what_is_folded_is_closed_again, with_text("<details><summary>More</summary>")),
    "fold without a word": (what_is_folded_is_closed_again, with_text("<details>\n\nText.\n\n</details>")),
    "folded heading": (
        what_is_folded_is_closed_again,
        with_text("<details><summary>More</summary>\n\n### Title\n\n</details>"),
    ),
    "long text": (
        visible_text_is_short,
        edited(lambda n: n.cells.insert(1, v4.new_markdown_cell("a " * 1900))),
    ),
    "no scale": (the_scale_is_said_at_once, edited(lambda n: n.cells[0].update(source="# A trick"))),
    "no recipe": (a_recipe_can_be_copied, edited(lambda n: n.cells[-2].metadata.pop("tags"))),
    "wrong count": (
        a_recipe_can_be_copied,
        edited(lambda n: n.cells[-3].update(source=FENCE.replace("the one code cell", "the two code cells"))),
    ),
    "no checkpoint": (a_recipe_can_be_copied, edited(lambda n: n.cells[-3].update(source="Text."))),
    "equation": (equations_are_computed, with_text("$$\na = b . \\tag{7}\n$$")),
    "two titles": (
        headings_are_the_same_in_every_chapter,
        edited(lambda notebook: notebook.cells.append(v4.new_markdown_cell("# Again"))),
    ),
}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_rule_accepts_a_good_notebook(rule):
    assert not list(rule(good()))


@pytest.mark.parametrize("case", BAD)
def test_rule_refuses(case):
    rule, notebook = BAD[case]
    assert list(rule(copy.deepcopy(notebook)))


def test_every_rule_has_a_bad_notebook():
    assert {rule for rule, _ in BAD.values()} == set(RULES)


def test_a_palette_is_smaller_and_looks_the_same():
    figure, ax = matplotlib.pyplot.subplots(dpi=100)
    ax.plot([0, 1, 3], color="#0072B2", label="a curve")
    ax.legend()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    matplotlib.pyplot.close(figure)
    small = base64.b64decode(notebooks.palette(base64.b64encode(buffer.getvalue()).decode()))
    before, after = (Image.open(io.BytesIO(b)).convert("RGB") for b in (buffer.getvalue(), small))
    off = ImageChops.difference(before, after)
    assert after.size == before.size and max(high for _, high in off.getextrema()) <= 8
    assert len(small) < 0.5 * len(buffer.getvalue())
