"""The site by plain Sphinx and MyST-NB, from the same files: what Jupyter Book 1 makes of ``_config.yml``.

    sphinx-build -W -n --keep-going -c _sphinx . _build/sphinx      (``make sphinx``)

Jupyter Book 1 is in maintenance. This is the way out of it, kept open by a test and not taken:
``_config.yml`` stays the one place for settings, and everything below is how its keys are called in Sphinx.
"""

import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "_ext"), str(ROOT)]
book = yaml.safe_load((ROOT / "_config.yml").read_text("utf-8"))

project = html_title = book["title"]
author, copyright = book["author"], book["copyright"]
exclude_patterns = [*book["exclude_patterns"], "_build", "_sphinx"]
bibtex_bibfiles = [str(ROOT / name) for name in book["bibtex_bibfiles"]]
external_toc_path, external_toc_exclude_missing = "_toc.yml", book["only_build_toc_files"]
numfig = True
suppress_warnings = ["myst.domains"]

myst_enable_extensions = book["parse"]["myst_enable_extensions"]
myst_url_schemes = ["mailto", "http", "https"]
nb_execution_mode = book["execute"]["execute_notebooks"]
nb_output_stderr = book["execute"]["stderr_output"]

html_theme = "sphinx_book_theme"
html_baseurl = book["html"]["baseurl"]
html_logo, html_favicon = str(ROOT / book["logo"]), str(ROOT / book["html"]["favicon"])
html_static_path = [str(ROOT / "_static")]
html_css_files = [file.name for file in sorted((ROOT / "_static").glob("*.css"))]
html_js_files = [file.name for file in sorted((ROOT / "_static").glob("*.js"))]
html_sourcelink_suffix = ""

# The rest of _config.yml is Sphinx's own; sphinx.config.extensions stand there with Jupyter Book's two.
settings = dict(book["sphinx"]["config"])
extensions = [name for name in settings.pop("extensions") if name not in ("jupyter_book", "sphinx_comments")]
html_theme_options = {
    **{
        key: value
        for key, value in book["html"].items()
        if key.startswith("use_") and key.endswith("_button") or key == "extra_footer"
    },
    "repository_url": book["repository"]["url"],
    "repository_branch": book["repository"]["branch"],
    "launch_buttons": book["launch_buttons"],
    "path_to_docs": "",
    **settings.pop("html_theme_options"),
}
globals().update(settings)
