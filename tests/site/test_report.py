"""The page that ``compare`` writes, in a browser: no wider than the window, accessible, without requests."""

import pytest

from tests.lab.compare.test_report import example
from tricks_lib.lab.compare import report

pytestmark = pytest.mark.browser
FAULTS = """async () => (await axe.run(document)).violations
    .map(({id, nodes}) => `${id}: ${nodes.map(({html}) => html.slice(0, 120)).join(' | ')}`)"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_report(browser, axe, tmp_path, width, scheme):
    record = example(seeds=4, metric="rmse", data="a file with a rather long name for a phone.csv")
    record["arms"]["EMA"]["edge"] = "high"
    file = report.write(record, tmp_path)
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page, asked, said = context.new_page(), [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.goto(file.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") == width
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(255, 255, 255)") == (scheme == "light")
    page.evaluate(axe)
    assert page.evaluate(FAULTS) == []
    assert said == [] and {url for url in asked if not url.startswith("data:")} == {file.as_uri()}
    context.close()
