"""study.html: the answer first, everything escaped, no network, readable at two widths and without JavaScript."""

import re

import pytest

from jobs.study import conduct
from jobs.study.comparison import compare_runs
from jobs.study.conduct import read_here, read_trials
from jobs.study.drawings import drawn_variants, forest
from jobs.study.gallery import gallery
from jobs.study.page import page
from tests import browser
from tests.study_kit import StandIn, gamma_quality, study

NASTY = "<script>document.title='broken'</script>\"&"


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    out = tmp_path_factory.mktemp("searched")
    space = {"recipe.r1.gamma": {"low": 0.01, "high": 1000.0, "log": True}, "recipe.r1.interval": [4, 8]}
    asked = study(search={"space": space, "trials": 8, "prune": "median", "startup_trials": 3}, seeds=2)
    conduct(asked, out, StandIn(gamma_quality), lambda report: None)
    return out


@pytest.fixture(scope="module")
def ablated(tmp_path_factory):
    out = tmp_path_factory.mktemp("ablated")
    asked = study(question=NASTY, ablate={"recipe.r1.gamma": [0.1, 10]}, seeds=3)
    return out, asked, conduct(asked, out, StandIn(gamma_quality), lambda report: None)


def test_the_page_says_the_answer_and_escapes_what_others_wrote(ablated):
    out, _, report = ablated
    text = (out / "study.html").read_text()
    assert "<script>document" not in text and "&lt;script&gt;document" in text
    assert report.answer in text
    assert text.count("<svg") >= 3 and "data:image/webp" in text
    assert not re.search(r"(?:src|href)=[\"']?(?:https?:)?//", text)


def test_failures_in_a_run_s_own_words_are_only_text(ablated):
    out, asked, _ = ablated
    results = [
        result if result.variant == "baseline" else type(result)(result.variant, result.seed, "failed", message=NASTY)
        for result in read_here(asked, out, [])
    ]
    assert "<script>document" not in page(compare_runs(asked, results), results)


def test_the_gallery_shows_the_same_images_and_seed_for_all(ablated):
    out, asked, _ = ablated
    shown = gallery(["baseline", "gamma-0.1", "gamma-10"], asked.seeds, read_here(asked, out, []))
    assert shown.seed == asked.seeds[0] and shown.names == ("baseline", "gamma-0.1", "gamma-10")
    assert [row.label for row in shown.moments] == [f"{images} images" for images in (64, 128, 192, 256)]
    assert all(len(row.pictures) == 3 and all(row.pictures) for row in (*shown.moments, *shown.seeds))
    assert len(shown.seeds) == 2


def test_a_page_before_anything_has_run():
    asked = study(ablate={"recipe.r1.gamma": 10}, seeds=2)
    text = page(compare_runs(asked, []), [])
    assert "Nothing can be compared yet" in text and "Nothing has been measured yet" in text


def test_differences_are_drawn_around_one_zero(ablated):
    _, _, report = ablated
    bars = forest([row.primary for row in report.variants])
    assert bars[0] == "" and all(bar.count("<circle") == 1 for bar in bars[1:])
    zeros = {re.search(r'class="zero" x1="([\d.]+)"', bar).group(1) for bar in bars[1:]}
    assert len(zeros) == 1
    assert drawn_variants(report) == ["baseline", "gamma-0.1", "gamma-10"]


def test_a_search_has_one_plot_a_parameter_and_a_dot_a_trial(searched):
    text = (searched / "study.html").read_text()
    plots = re.findall(r'<svg[^>]*class="chart scatter".*?</svg>', text)
    assert len(plots) == 2
    trials = len(read_trials(searched))
    assert all(plot.count("<circle") == trials for plot in plots)
    assert all(plot.count(" best") == 1 for plot in plots)


@pytest.mark.browser
@pytest.mark.parametrize("width", [1400, 390])
@pytest.mark.parametrize("script", [True, False])
def test_the_page_in_a_browser(ablated, searched, width, script):
    for out in (ablated[0], searched):
        with browser.page((out / "study.html").as_uri(), width=width, height=900, script=script) as opened:
            assert opened.problems() == []
            assert opened.evaluate("document.documentElement.scrollWidth") <= width
            assert "study" in opened.evaluate("document.title")
