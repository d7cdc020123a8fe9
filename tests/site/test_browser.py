"""The built site in headless Chromium: every page on a desktop, on a phone, and in the dark."""

import base64
import contextlib

import pytest

from .conftest import ROOT

pytest.importorskip("playwright.sync_api", reason="`make test-site` installs Playwright")
pytestmark = pytest.mark.browser

SCREENSHOTS = ROOT / "_build" / "screenshots"
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
# Boxes that stick out of the window without a container that scrolls or hides them.
STICKING_OUT = """() => [...document.querySelectorAll('article *')].filter(element => {
    if (element.getBoundingClientRect().right <= innerWidth + 1 ||
      element.closest('mjx-assistive-mml')) return false;
    for (let box = element.parentElement; box && box.tagName !== 'ARTICLE'; box = box.parentElement)
        if (getComputedStyle(box).overflowX !== 'visible') return false;
    return true;
}).map(element => element.outerHTML.slice(0, 120))"""

# A formula wider than its box begins where the box does, so that scrolling shows all of it.
CUT_OFF = """() => [...document.querySelectorAll('article div.math')].filter(
    box => box.querySelector('mjx-math').getBoundingClientRect().left < box.getBoundingClientRect().left - 1
).map(box => box.textContent.slice(0, 60))"""

# Serious and critical faults that axe-core sees, one line each. It looks at every node several times, and
# four of five are spans of
# coloured code and parts of formulas: while it runs, plain text stands for them. Contrast follows from
# colours and sizes alone: of
# each combination on the page, one element with text is tried.
ACCESSIBILITY = """async (rules) => {
    const ground = (box) => box && (getComputedStyle(box).backgroundColor.replace('rgba(0, 0, 0, 0)', '') ||
      ground(box.parentElement));
    const seen = new Set();
    const include = rules !== 'contrast' ? [document]
      : [...document.body.querySelectorAll('*')].filter(element => {
        if (element.closest('mjx-container') || ![...element.childNodes].some(node => node.nodeType === 3 &&
          node.data.trim())) return false;
        if (!element.checkVisibility()) return false;
        const style = getComputedStyle(element);
        const look = [style.color, ground(element), style.fontSize, style.fontWeight, style.opacity].join();
        return !seen.has(look) && seen.add(look);
    });
    const plain = [...document.querySelectorAll('mjx-container, :is(pre, code, .sig) span:not(:has(*))')]
      .filter(element => !include.includes(element)).map(element => {
        const text = element.matches('span') ? document.createTextNode('') : element.cloneNode(false);
        text.textContent = element.textContent;
        element.replaceWith(text);
        return [text, element];
    });
    const chosen = rules === 'all' ? {rules: {'color-contrast': {enabled: false}}}
      : {runOnly: rules === 'contrast' ? ['color-contrast'] : rules};
    const found = await axe.run({include, exclude: ['mjx-container']}, {resultTypes: ['violations'],
      preload: false, ...chosen});
    plain.forEach(([text, element]) => text.replaceWith(element));
    return found.violations.filter(({impact}) => ['serious', 'critical'].includes(impact))
        .map(({id, nodes}) => `${id}: ${nodes.map(({html}) => html.slice(0, 120)).join(' | ')}`);
}"""
# What is wrong on paper: things beside the text, or cut off at its edge, or folded, or dark.
ON_PAPER = """() => {
    const article = document.querySelector('article') ?? document.querySelector('main'),
      edge = article.getBoundingClientRect().right + 1;
    const beside = ['.bd-sidebar-primary', '.bd-sidebar-secondary', '.bd-header-article', '.copybtn',
      '.headerlink', '.prev-next-footer'];
    return [
        ...beside.filter(name => [...document.querySelectorAll(name)].some(box => box.checkVisibility())),
        ...[...article.querySelectorAll('pre, table, img, div.math')].filter(
            box => box.getBoundingClientRect().right > edge ||
              box.scrollWidth > box.clientWidth + 1).map(box => box.outerHTML.slice(0, 120)),
        ...[...article.querySelectorAll('details:not([open])')].map(box => box.textContent.slice(0, 60)),
        ...(article.querySelector('h1')?.checkVisibility() === false ? ['no title'] : []),
        ...(document.documentElement.dataset.theme === 'light' ? [] : ['dark']),
    ];
}"""
A4 = {"width": 680, "height": 1000}  # the text area of a sheet with the margins of book.css, in CSS pixels
ZOOMED = {"width": 640, "height": 450}  # what a window of 1280 x 900 shows at 200 %


@contextlib.contextmanager
def opening(browser, address, page_name):
    """An open page, and what went wrong since it began to load."""
    context = browser.new_context(viewport=DESKTOP)
    page, faults = context.new_page(), []
    page.on(
        "console",
        lambda message: (
            faults.append(f"console: {message.text}") if message.type in ("error", "warning") else None
        ),
    )
    page.on("pageerror", lambda error: faults.append(f"script: {error}"))
    page.on("requestfailed", lambda failed: faults.append(f"request failed: {failed.url}"))
    page.on(
        "response",
        lambda response: (
            faults.append(f"{response.status}: {response.url}") if response.status >= 400 else None
        ),
    )
    page.on(
        "request",
        lambda sent: (
            faults.append(f"outside: {sent.url}")
            if not sent.url.startswith((address, "data:", "blob:"))
            else None
        ),
    )
    page.goto(f"{address}/{page_name}", wait_until="networkidle")
    if page.locator("script[src*=mathjax]").count():
        page.wait_for_function("() => window.MathJax && MathJax.startup && MathJax.startup.promise")
        page.evaluate("() => MathJax.startup.promise")
    page.evaluate("() => document.fonts.ready")
    yield page, faults
    context.close()


@pytest.fixture
def opened(browser, address, page_name):
    with opening(browser, address, page_name) as page_and_faults:
        yield page_and_faults


def keep_picture(page, page_name, look):
    """The whole page, a pixel for each of CSS. Playwright's ``screenshot`` compresses harder, which took
    longer than all else here.
    """
    chromium = page.context.new_cdp_session(page)
    clip = {**chromium.send("Page.getLayoutMetrics")["cssContentSize"], "scale": 1}
    picture = chromium.send(
        "Page.captureScreenshot", {"captureBeyondViewport": True, "optimizeForSpeed": True, "clip": clip}
    )
    chromium.detach()
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    name = page_name.replace("/", "__").removesuffix(".html")
    assert (SCREENSHOTS / f"{name}.{look}.png").write_bytes(base64.b64decode(picture["data"]))


@contextlib.contextmanager
def a_phone(page):
    """The open page on a phone, as the browser's own tools for developers show it; test_interactive loads
    pages there anew.
    """
    chromium = page.context.new_cdp_session(page)
    chromium.send("Emulation.setDeviceMetricsOverride", {**PHONE, "deviceScaleFactor": 1, "mobile": True})
    chromium.send("Emulation.setTouchEmulationEnabled", {"enabled": True})
    page.wait_for_function("width => innerWidth === width", arg=PHONE["width"])
    page.wait_for_timeout(
        400
    )  # 0.3 s after a change of size the theme lets the keyboard reach what scrolls now
    yield
    chromium.detach()


def fits(page, width):
    """Nothing is wider than the window, and nothing scrolls it sideways."""
    assert page.evaluate("() => document.documentElement.scrollWidth") <= width
    assert page.evaluate(STICKING_OUT) == []


def test_page(opened, axe, page_name):
    page, faults = opened
    keep_picture(page, page_name, "desktop")
    assert not faults

    formulas = page.locator("article .math").count()
    assert page.locator("article .math mjx-container").count() >= formulas
    assert page.locator("mjx-merror").count() == 0
    assert page.evaluate(CUT_OFF) == []
    # The book's own fonts are there, rather than whatever the machine has.
    assert page.evaluate(
        "() => document.fonts.check('16px \"Source Serif 4\"') && document.fonts.check('16px Inter')"
    )

    page.evaluate(axe)
    assert page.evaluate(ACCESSIBILITY, "all") == []
    assert page.evaluate(ACCESSIBILITY, "contrast") == []

    page.set_viewport_size(ZOOMED)
    fits(page, ZOOMED["width"])

    page.set_viewport_size(DESKTOP)
    page.add_style_tag(
        content="* { transition: none !important }"
    )  # colours are judged when they have arrived
    page.emulate_media(color_scheme="dark")  # the reader's system turns dark: the page follows
    page.wait_for_function("() => document.documentElement.dataset.theme === 'dark'")
    assert page.evaluate(ACCESSIBILITY, "contrast") == []

    with a_phone(page):
        keep_picture(page, page_name, "phone")  # in the dark: each look in one picture
        fits(page, PHONE["width"])
        assert page.evaluate(CUT_OFF) == []
        assert (
            page.evaluate(
                ACCESSIBILITY,
                ["scrollable-region-focusable", "aria-hidden-focus", "button-name", "link-name"],
            )
            == []
        )

    page.set_viewport_size(A4)
    page.emulate_media(media="print")
    page.evaluate("() => dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate(ON_PAPER) == []
    assert not faults


def test_source_page(browser, axe, address, source_name):
    """Code as wide as it is scrolls in its own box, on a phone too; nothing is lost or pale."""
    with opening(browser, address, source_name) as (page, faults):
        page.evaluate(axe)
        assert page.evaluate(ACCESSIBILITY, "all") == []
        assert page.evaluate(ACCESSIBILITY, "contrast") == []
        with a_phone(page):
            fits(page, PHONE["width"])
            assert page.evaluate(ACCESSIBILITY, ["scrollable-region-focusable"]) == []
        assert not faults


@pytest.fixture
def tab(browser):
    """A new tab, with a history and a storage of its own."""
    context = browser.new_context(viewport=DESKTOP)
    yield context.new_page()
    context.close()


def test_page_without_script(browser, address, page_name):
    """Text and figures are there all the same; formulas stand as they were typed."""
    context = browser.new_context(viewport=DESKTOP, java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{address}/{page_name}")
    assert all(
        page.locator("main img").evaluate_all(
            "images => Promise.all(images.map(image => image.decode().then(() => image.naturalWidth)))"
        )
    )
    assert page.locator("main").is_visible() and page.locator("main").inner_text().strip()
    assert page.locator(".pst-js-only:visible").count() == 0  # no button that would do nothing
    assert page.evaluate(
        "() => getComputedStyle(document.body).color !== getComputedStyle(document.body).backgroundColor"
    )
    context.close()


@pytest.mark.parametrize("deep", ["nowhere.html", "chapters/nowhere.html", "a/b/c/"])
def test_not_found_page_leads_back(tab, published, deep):
    faults = []
    tab.on("requestfailed", lambda failed: faults.append(failed.url))
    tab.on(
        "response",
        lambda response: (
            faults.append(response.url)
            if response.status >= 400 and response.url != published + deep
            else None
        ),
    )
    assert tab.goto(published + deep, wait_until="networkidle").status == 404
    assert tab.locator("article h1").inner_text() == "Page not found" and not faults
    assert tab.evaluate("() => document.fonts.check('16px \"Source Serif 4\"')")
    tab.get_by_role("link", name="The start page").click()
    assert tab.url == published + "index.html" and not faults


def test_keyboard_reaches_the_content_and_shows_where_it_is(tab, address):
    tab.goto(f"{address}/chapters/01_mean_pooling.html", wait_until="networkidle")
    tab.keyboard.press("Tab")
    assert "main-content" in tab.evaluate(
        "() => document.activeElement.getAttribute('href') || document.activeElement.outerHTML"
    )
    for _ in range(40):
        tab.keyboard.press("Tab")
        assert (
            tab.evaluate("""() => {
            const shows = (element) => { const {outlineStyle, boxShadow} = getComputedStyle(element);
              return outlineStyle !== 'none' || boxShadow !== 'none'; };
            return shows(document.activeElement) || document.activeElement.outerHTML.slice(0, 120);
        }""")
            is True
        )


def test_search_by_keyboard_finds_a_chapter(tab, address):
    lost, dialog = [], tab.locator("#pst-search-dialog")
    tab.on("requestfailed", lambda request: lost.append(request.url))
    for _ in range(5):  # a busy machine can lose a key, or a script: a reader tries again
        tab.goto(f"{address}/index.html", wait_until="networkidle")
        tab.keyboard.press("Control+k")
        if dialog.evaluate("dialog => dialog.open"):
            break
    assert dialog.evaluate("dialog => dialog.open && dialog.contains(document.activeElement)"), (
        f"five times; lost: {lost}"
    )
    tab.keyboard.type("adversarial")
    tab.keyboard.press("Enter")
    tab.wait_for_selector('#search-results li a[href*="09_fgm"]')
    assert "search.html?q=adversarial" in tab.url


@pytest.mark.parametrize("query, chapter", [("pooling", "01_mean_pooling"), ("对抗训练", "glossary")])
def test_search_finds_a_page(tab, address, query, chapter):
    tab.goto(f"{address}/search.html?q={query}", wait_until="networkidle")
    tab.wait_for_selector(f'#search-results li a[href*="{chapter}"]')


def test_download_button_gives_the_notebook(tab, address):
    tab.goto(f"{address}/chapters/01_mean_pooling.html", wait_until="networkidle")
    tab.get_by_label("Download this page").click()
    with tab.expect_download() as download:
        tab.locator("a.btn-download-source-button").click()
    assert download.value.suggested_filename == "01_mean_pooling.ipynb" and download.value.url.startswith(
        address
    )


# ---- The checks must be able to fail ----


@pytest.mark.parametrize(
    "rules, html, fault",
    [
        ("all", '<img src="a.png">', "image-alt"),
        ("contrast", '<p style="color: #ccc; background: #fff">pale</p>', "color-contrast"),
        (
            "contrast",
            '<pre style="background: #fff"><span>dark</span> <span style="color: #ccc">pale</span></pre>',
            "color-contrast",
        ),
        (
            ["scrollable-region-focusable"],
            '<div style="height: 20px; overflow-y: scroll"><p style="height: 900px">long</p></div>',
            "scrollable-region-focusable",
        ),
    ],
)
def test_accessibility_fault_is_seen(tab, axe, rules, html, fault):
    tab.set_content(f'<html lang="en"><title>t</title><body><main><h1>h</h1>{html}</main></body></html>')
    tab.evaluate(axe)
    assert [line for line in tab.evaluate(ACCESSIBILITY, rules) if line.startswith(fault)]


@pytest.mark.parametrize(
    "html",
    [
        '<div class="bd-sidebar-primary">x</div><article><h1>h</h1></article>',
        "<article><h1>h</h1><details>folded</details></article>",
        f'<article><h1>h</h1><pre style="overflow: hidden">{"x" * 300}</pre></article>',
        "<article><h1 hidden>h</h1></article>",
    ],
)
def test_fault_on_paper_is_seen(tab, html):
    tab.set_content(f'<html data-theme="light">{html}</html>')
    assert len(tab.evaluate(ON_PAPER)) == 1
