"""The figures with sliders, on the site: drawn, moved by keys and fingers, within a phone, absent from paper
and without scripts.
"""

import json
import re
from pathlib import Path

import bokeh
import pytest
from bs4 import BeautifulSoup

from ..lab.test_interactive import CUTS, kept_by_the_package

CHAPTERS = ["02_rdrop", "06_ema", "08_focal_loss", "10_decoding"]
SCRIPT = "_static/bokeh/bokeh.min.js"
PIXELS = "canvases => canvases.map(canvas => canvas.toDataURL()).join()"
each = pytest.mark.parametrize("chapter", CHAPTERS)


@pytest.fixture
def open_page(browser, address):
    """``open_page(chapter, route, **context)``: the page, when its figure has been drawn, and what went wrong
    or was asked for on the way.
    """
    contexts = []

    def open_(chapter, route=None, **options):
        contexts.append(context := browser.new_context(**options))
        page, faults, asked = context.new_page(), [], []
        page.on(
            "console",
            lambda message: faults.append(message.text) if message.type in ("error", "warning") else None,
        )
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("request", lambda sent: asked.append(sent.url))
        if route:
            page.route(*route)
        page.goto(f"{address}/chapters/{chapter}.html", wait_until="networkidle")
        if not route and options.get("java_script_enabled", True):
            page.wait_for_function("() => document.querySelector('.interactive [role=status]').textContent")
        return page, faults, asked

    yield open_
    for context in contexts:
        context.close()


def still_figure_above(page):
    """The image of the nearest cell above that has one."""
    return page.evaluate("""() => {
        const boxes = [...document.querySelectorAll('article figure img, article .interactive')];
        const image = boxes[boxes.findIndex(box => box.matches('.interactive')) - 1];
        return image.checkVisibility() && image.alt.length > 20 && image.getBoundingClientRect().height > 100;
    }""")


@pytest.mark.browser
@each
def test_is_drawn_answers_to_the_keyboard_and_is_not_on_paper(open_page, address, chapter):
    page, faults, asked = open_page(chapter, viewport={"width": 1280, "height": 900})
    picture, sentence = (
        page.locator(".interactive [role=img] canvas"),
        page.locator(".interactive [role=status]"),
    )
    assert picture.count() >= 1
    for slider in page.locator(".interactive input").all():
        drawn, said = picture.evaluate_all(PIXELS), sentence.text_content()
        value = slider.evaluate("input => input.ariaValueText")
        slider.focus()
        for _ in range(3):
            page.keyboard.press(
                "ArrowLeft" if slider.get_attribute("max") == slider.input_value() else "ArrowRight"
            )
        page.wait_for_timeout(200)  # Bokeh draws in the browser's next frame
        assert slider.evaluate("input => input.ariaValueText") != value
        assert sentence.text_content() != said
        assert picture.evaluate_all(PIXELS) != drawn
    assert not faults
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []
    assert len([url for url in asked if SCRIPT in url]) == 1

    page.emulate_media(media="print")
    assert not page.locator(".interactive").is_visible()
    assert still_figure_above(page)


@pytest.mark.browser
@each
def test_fits_a_phone_in_the_dark_and_answers_to_a_finger(open_page, chapter):
    page, faults, _ = open_page(
        chapter,
        viewport={"width": 390, "height": 844},
        device_scale_factor=2,
        is_mobile=True,
        has_touch=True,
        color_scheme="dark",
    )
    colours = page.locator(".interactive [role=status]").evaluate(
        "p => [getComputedStyle(p).color, getComputedStyle(p.parentElement).backgroundColor]"
    )
    text, ground = (sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in colours)
    assert ground - text > 3 * 128
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 390
    outside = """box => [...box.querySelectorAll('*')].filter(
        element => element.checkVisibility()).filter(element => {
        const {left, right} = element.getBoundingClientRect(), frame = box.getBoundingClientRect();
        return left < frame.left - 1 || right > frame.right + 1 ||
          element.scrollWidth > element.clientWidth + 1 && element.clientWidth;
    }).map(element => element.outerHTML.slice(0, 120))"""
    assert page.locator(".interactive").evaluate(outside) == []
    assert page.locator(".interactive canvas").first.bounding_box()["width"] > 300
    slider = page.locator(".interactive input").first
    box, before = slider.bounding_box(), page.locator(".interactive [role=status]").text_content()
    assert box["height"] >= 24  # WCAG 2.5.8
    slider.tap(position={"x": box["width"] * 0.9, "y": box["height"] / 2})
    assert page.locator(".interactive [role=status]").text_content() != before
    assert not faults


@pytest.mark.browser
@each
def test_without_script_the_still_figure_is_there_and_nothing_is_empty(open_page, chapter):
    page, _, _ = open_page(chapter, java_script_enabled=False)
    assert not page.locator(".interactive").is_visible()
    assert still_figure_above(page)
    assert (
        20 < page.locator(".cell_output:has(.interactive)").bounding_box()["height"] < 80
    )  # a sentence that says so


@pytest.mark.browser
@each
def test_without_bokeh_it_hides_and_asks_nobody_else(open_page, address, chapter):
    page, faults, asked = open_page(chapter, route=(f"**/{SCRIPT}*", lambda route: route.abort()))
    assert not page.locator(".interactive").is_visible()
    assert faults and all(url.startswith((address, "data:")) for url in asked)


@pytest.mark.browser
@each
def test_outside_the_site_bokehs_own_address_serves(browser, site, chapter):
    output = BeautifulSoup(
        (site / "chapters" / f"{chapter}.html").read_text("utf-8"), "html.parser"
    ).select_one(".interactive")
    asked = []

    def serve(route):
        asked.append(route.request.url)
        route.fulfill(body=(site / SCRIPT).read_text("utf-8"), content_type="text/javascript")

    context = browser.new_context()
    page = context.new_page()
    page.route(re.compile("^https:"), serve)
    page.set_content(f"<!doctype html>{output}")
    page.wait_for_function("() => document.querySelector('.interactive [role=status]').textContent")
    assert page.locator(".interactive canvas").count() >= 1
    assert asked == [f"https://cdn.bokeh.org/bokeh/release/bokeh-{bokeh.__version__}.min.js"]
    context.close()


@pytest.mark.browser
def test_cuts_are_those_of_the_packages_filters(open_page):
    page, _, _ = open_page("10_decoding")
    stored = json.loads(page.locator(".interactive script").first.text_content())
    values = {control["name"]: control["values"] for control in stored["controls"]}
    start = {control["name"]: control["start"] for control in stored["controls"]}
    for text, distribution in stored["data"].items():
        for cut in CUTS:
            settings = {**start, **cut, "after the words": text}
            for name, value in settings.items():
                page.locator(f".interactive [aria-label='{name}']").evaluate(
                    "(input, value) => { input.value = value; input.dispatchEvent(new Event('input')); }",
                    values[name].index(value),
                )
            sentence = page.locator(".interactive [role=status]").text_content()
            assert (
                re.match(r"Kept: ([\d,]+) ", sentence)[1]
                == f"{len(kept_by_the_package(distribution, **settings)[0]):,}"
            )


def test_bokeh_is_loaded_where_it_is_used(site, page_name):
    soup = BeautifulSoup((site / page_name).read_text("utf-8"), "html.parser")
    figures, scripts = (
        soup.select(".interactive"),
        [script["src"] for script in soup.select("script[src*=bokeh]")],
    )
    assert len(scripts) == bool(figures)
    assert (Path(page_name).stem in CHAPTERS) == bool(figures)
    for figure in figures:
        assert (
            f"-{bokeh.__version__}.min.js" in figure["data-bokeh"]
        )  # stored by the version that the site serves
        assert ((site / page_name).parent / scripts[0].split("?")[0]).resolve() == (site / SCRIPT).resolve()
