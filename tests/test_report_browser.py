"""report.html in a real browser: nothing overflows, nothing complains, the slider and the curves answer."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.report import write_report
from tests import browser
from tests.fake_run import facts, nasty_facts, write_neighbours, write_run

pytestmark = pytest.mark.browser

CURRENT = "document.querySelector('.frame.current').dataset.caption"
OVERFLOWING = """
[...document.querySelectorAll('body *')].filter(part => {
    const box = part.getBoundingClientRect();
    return box.width && !part.closest('svg') && (box.right > innerWidth + 1 || box.left < -1);
}).map(part => part.tagName + '.' + part.className)
"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    out = write_run(tmp_path_factory.mktemp("run"))
    return write_report(out, facts(nearest=write_neighbours(out))).as_uri()


@pytest.fixture(scope="module")
def page(report: str) -> Iterator[browser.Page]:
    with browser.page(report) as opened:
        yield opened


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1400, 390, 320])
def test_nothing_overflows_at_any_width(page: browser.Page, width: int, scheme: str) -> None:
    page.resize(width, 844)
    page.prefer(scheme)
    page.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(OVERFLOWING) == []


def test_the_console_is_silent_and_the_network_untouched(page: browser.Page) -> None:
    assert page.problems() == []


def test_every_picture_can_be_decoded(page: browser.Page) -> None:
    broken = "[...document.images].filter(picture => !picture.complete || !picture.naturalWidth).length"
    assert page.evaluate(broken) == 0
    assert page.evaluate("document.images.length") > 40


def test_the_slider_moves_through_time(page: browser.Page) -> None:
    page.resize(1400, 900)
    assert page.evaluate(CURRENT) == "200,000 images, the latest"
    page.evaluate("document.querySelector('.controls input').focus()")
    page.press("ArrowLeft")
    assert page.evaluate(CURRENT) == "190,000 images"
    page.press("ArrowRight")
    assert page.evaluate(CURRENT) == "200,000 images, the latest"
    page.press("Home")
    assert page.evaluate(CURRENT) == "0 images, untrained"
    assert page.evaluate("document.querySelector('.controls output').textContent") == "0 images, untrained"
    visible = "[...document.querySelectorAll('.frame')].filter(frame => frame.getBoundingClientRect().height).length"
    assert page.evaluate(visible) == 1


def test_the_play_button_plays(page: browser.Page) -> None:
    page.evaluate("document.querySelector('.controls button').click()")
    before = page.evaluate(CURRENT)
    moved = f"""new Promise(done => setInterval(() => {CURRENT} !== {before!r} && done(true), 50))"""
    assert page.evaluate(moved)
    page.evaluate("document.querySelector('.controls button').click()")
    assert page.evaluate("document.querySelector('.controls button').getAttribute('aria-label')") == "Play"


def test_the_pointer_reads_values_off_a_curve(page: browser.Page) -> None:
    page.resize(1400, 900)
    page.evaluate("document.querySelector('svg.chart').scrollIntoView({block: 'center'})")
    box = page.evaluate(
        "(b => [b.left, b.top, b.width, b.height])(document.querySelector('svg.chart').getBoundingClientRect())"
    )
    page.hover(box[0] + box[2] * 0.98, box[1] + box[3] / 2)
    said = page.evaluate("document.querySelector('.tip').innerText")
    assert said.split("\n") == ["200,000 images", "Fréchet distance 38.4"]
    assert not page.evaluate("document.querySelector('.tip').hidden")


def test_without_scripts_the_last_grid_and_the_first_are_shown(report: str) -> None:
    with browser.page(report, script=False) as page:
        # the page's own scripts are off; what the test asks is answered all the same
        frames = page.evaluate(
            "[...document.querySelectorAll('.frame')].filter(frame => frame.getBoundingClientRect().height)"
            ".map(frame => [frame.dataset.caption, frame.getBoundingClientRect().top])"
        )
        assert sorted(caption for caption, _ in frames) == ["0 images, untrained", "200,000 images, the latest"]
        tops = dict(frames)
        assert tops["200,000 images, the latest"] < tops["0 images, untrained"]
        assert page.evaluate("document.querySelector('.controls').getBoundingClientRect().height") == 0


def test_a_page_of_hostile_words_runs_none_of_them_and_keeps_its_shape(tmp_path: Path) -> None:
    nasty = "<script>document.title = 'run'</script><img src=x onerror=\"document.title='run'\">"
    out = write_run(tmp_path, until=30_000, spec_extra=nasty)
    with browser.page(write_report(out, nasty_facts(nasty + "W" * 300)).as_uri()) as page:
        assert page.evaluate("document.title").endswith(": gankiln report")
        assert page.problems() == []
        page.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
        for width in (1400, 390):
            page.resize(width, 844)
            assert page.evaluate(OVERFLOWING) == []


def test_the_policy_stops_what_would_be_slipped_in(report: str) -> None:
    with browser.page(report) as page:
        page.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=\"https://example.org/x.png\">')")
        page.evaluate("new Promise(done => setTimeout(done, 200))")
        assert any("Content Security Policy" in problem for problem in page.problems())
