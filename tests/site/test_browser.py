"""The built site in headless Chromium: every page on a desktop, on a phone, and in the dark."""

import os
import shutil

import pytest

from .conftest import ROOT

sync_api = pytest.importorskip("playwright.sync_api", reason="`make test-site` installs Playwright")
pytestmark = pytest.mark.browser

SCREENSHOTS = ROOT / "_build" / "screenshots"
VIEWS = {
    "desktop": {"viewport": {"width": 1280, "height": 900}},
    "phone": {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2, "is_mobile": True, "has_touch": True},
    "dark": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "dark"},
}
# Boxes that stick out of the window without a container that scrolls or hides them.
STICKING_OUT = """() => [...document.querySelectorAll('article *')].filter(element => {
    if (element.getBoundingClientRect().right <= innerWidth + 1 || element.closest('mjx-assistive-mml')) return false;
    for (let box = element.parentElement; box && box.tagName !== 'ARTICLE'; box = box.parentElement)
        if (getComputedStyle(box).overflowX !== 'visible') return false;
    return true;
}).map(element => element.outerHTML.slice(0, 120))"""


# A formula wider than its box begins where the box does, so that scrolling shows all of it.
CUT_OFF = """() => [...document.querySelectorAll('article div.math')].filter(
    box => box.querySelector('mjx-math').getBoundingClientRect().left < box.getBoundingClientRect().left - 1
).map(box => box.textContent.slice(0, 60))"""


@pytest.fixture(scope="session")
def browser():
    path = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.fail("Chromium is missing: `apt-get install chromium`, or name it in CHROMIUM", pytrace=False)
    with sync_api.sync_playwright() as playwright:
        # Containers run as root and have a small /dev/shm; the pages are our own.
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield browser
        browser.close()


@pytest.fixture(params=VIEWS)
def view(request, browser, address, page_name):
    """An open page, and what went wrong while it loaded."""
    context = browser.new_context(**VIEWS[request.param])
    page, faults = context.new_page(), []
    page.on("console", lambda message: faults.append(f"console: {message.text}") if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: faults.append(f"script: {error}"))
    page.on("requestfailed", lambda failed: faults.append(f"request failed: {failed.url}"))
    page.on("response", lambda response: faults.append(f"{response.status}: {response.url}") if response.status >= 400 else None)
    page.on("request", lambda sent: faults.append(f"outside: {sent.url}")
            if not sent.url.startswith((address, "data:", "blob:")) else None)
    page.goto(f"{address}/{page_name}", wait_until="networkidle")
    if page.locator("script[src*=mathjax]").count():
        page.wait_for_function("() => window.MathJax && MathJax.startup && MathJax.startup.promise")
        page.evaluate("() => MathJax.startup.promise")
    page.evaluate("() => document.fonts.ready")
    yield request.param, page, faults
    context.close()


def test_page(view, page_name):
    name, page, faults = view
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{page_name.replace('/', '__').removesuffix('.html')}.{name}.png", full_page=True)
    assert not faults

    formulas = page.locator("article .math").count()
    assert page.locator("article .math mjx-container").count() >= formulas
    assert page.locator("mjx-merror").count() == 0
    assert page.evaluate(CUT_OFF) == []

    if name == "phone":
        assert page.evaluate("() => document.documentElement.scrollWidth") <= 390
        assert page.evaluate(STICKING_OUT) == []
    if name == "dark":
        assert page.evaluate("() => document.documentElement.dataset.theme") == "dark"
    # The book's own fonts are there, rather than whatever the machine has.
    assert page.evaluate("() => document.fonts.check('16px \"Source Serif 4\"') && document.fonts.check('16px Inter')")


def test_keyboard_reaches_the_content(browser, address):
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"{address}/index.html", wait_until="networkidle")
    page.keyboard.press("Tab")
    assert "main-content" in page.evaluate("() => document.activeElement.getAttribute('href') || document.activeElement.outerHTML")
    context.close()


def test_search_finds_a_chapter(browser, address):
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"{address}/search.html?q=pooling", wait_until="networkidle")
    page.wait_for_selector("#search-results li a")
    page.wait_for_selector('#search-results li a[href*="01_mean_pooling"]')  # beside the glossary's entry
    context.close()
