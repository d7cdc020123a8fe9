"""What the page "API" shows of docstrings and signatures.

Indented lines of a module's docstring (formulas, tables) stand as they are typed, not as quotations.
A dataclass shows its own fields, not the hundred of the one it extends. Whether a module's source page is
up to date is seen from its file: sphinx.ext.viewcode would import it, and torch with it, at every build.
"""

import dataclasses
from pathlib import Path

from sphinx.ext import viewcode

import tricks_lib


def as_typed(app, what, name, obj, options, lines):
    if what != "module":
        return
    out = []
    for line in lines:
        starts = (
            line.startswith("    ")
            and (not out or not out[-1])
            and not next((o for o in reversed(out) if o), "").startswith("    ")
        )
        out += ["::", "", line] if starts else [line]
    lines[:] = out


def own_fields(app, what, name, obj, options, signature, returns):
    if what == "class" and dataclasses.is_dataclass(obj) and obj.__base__ is not object:
        own = [field for field in dataclasses.fields(obj) if field.name in obj.__annotations__]
        return "(..., " + ", ".join(f"{field.name}={field.default!r}" for field in own) + ")", returns


def file_of_module(app, name):
    path = Path(tricks_lib.__file__).parent.parent.joinpath(*name.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def setup(app):
    app.connect("autodoc-process-docstring", as_typed)
    app.connect("autodoc-process-signature", own_fields)
    viewcode.get_module_filename = file_of_module
    return {"parallel_read_safe": True}
