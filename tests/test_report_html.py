"""report.html: says first what is asked first, in every state of a run; escapes all; needs nothing from outside."""

import base64
import hashlib
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from jobs.report import ReportFacts, pictures, render, write_report
from jobs.report.model import Report
from tests.fake_run import emerging, facts, nasty_facts, write_neighbours, write_run

NASTY = "<script>alert('x')</script><img src=x onerror=alert(1)>\"'&{{ 7 * 7 }}"


class Reader(HTMLParser):
    """Collects what a page would run, load and say."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.scripts: list[str] = []
        self._inside = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        self._inside = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts[-1] += data
        elif self._inside != "style":
            self.text += f" {data}"

    def says(self) -> str:
        return " ".join(self.text.split())


def page_of(out: Path, told: ReportFacts) -> str:
    return write_report(out, told).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> str:
    out = write_run(tmp_path_factory.mktemp("full"))
    return page_of(out, facts(nearest=write_neighbours(out)))


def test_it_opens_with_how_good_how_healthy_and_how_it_looks(full: str) -> None:
    said = Reader(full).says()
    order = [
        "How good is it?", "38.4", "11× lower than untrained", "95 % bootstrap interval", "untrained 412",
        "Is it healthy?", "✕ Style share", "Try: set recipe.generator.noise", "! Discriminator overpowered",
        "What does it look like", "How did training go?", "Every metric", "How far to trust", "Which modes",
        "Does it copy?", "What was really in force", "Values that nobody wrote", "How to get this again",
    ]  # fmt: skip
    found = [said.find(words) for words in order]
    assert -1 not in found, order[found.index(-1)]
    assert found == sorted(found)
    assert 0 <= said.find("1 failure: style share") < said.find("1 warning: discriminator overpowered") < found[0]


def test_every_number_of_the_run_is_on_it(full: str) -> None:
    said = Reader(full).says()
    for words in (
        "1,204,211", "fp32", "auto: this CPU does not multiply", "0.0002 · 32² / 16", "7,000 shown again", "cut off",
        "cats/0042.jpg", "truncated: 1,204 of 8,800 bytes", "gankiln run spec.yaml --out shapes-demo-again",
        "torch 2.13.0+cpu", "channels_max: 32", "real against noise", "was a failure at 40,000 images", "One seed",
        "558.1", "precision: fp32, because",
    ):  # fmt: skip
        assert words in said, words


def test_it_needs_nothing_from_outside(full: str) -> None:
    assert not re.search(r"https?://", full.replace("http-equiv", ""))
    for tag, attributes in Reader(full).tags:
        for name in ("src", "href", "srcset", "action", "data", "poster", "background"):
            value = attributes.get(name, "data:")
            assert value.startswith(("data:image/", "data:", "#")), (tag, name, value[:80])
        assert tag not in ("link", "iframe", "object", "embed", "base", "form")
    assert "@import" not in full
    assert "url(" not in full


def test_its_policy_allows_its_one_script_and_nothing_else(full: str) -> None:
    read = Reader(full)
    (policy,) = [a["content"] for tag, a in read.tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert len(read.scripts) == 1
    digest = base64.b64encode(hashlib.sha256(read.scripts[0].encode()).digest()).decode()
    assert policy.split("; ") == [
        "default-src 'none'", "img-src data:", "media-src data:", "style-src 'unsafe-inline'",
        f"script-src 'sha256-{digest}'",
        "base-uri 'none'", "form-action 'none'",
    ]  # fmt: skip
    assert not [name for _, attributes in read.tags for name in attributes if name.startswith("on")]


def test_every_word_of_a_run_is_only_a_word(tmp_path: Path) -> None:
    out = write_run(tmp_path, spec_extra=f"note: {NASTY}\n")
    nasty_event = {"event": "progress", "images": 7, "losses": {NASTY: 1.0}, "statistics": {f"{NASTY}.a": 2.0}}
    with (out / "events.jsonl").open("a") as file:
        for event in (
            nasty_event,
            {**nasty_event, "images": 8},
            {"event": "note", "message": NASTY},
            {"event": "samples", "images": 9, "path": NASTY},
            {"event": "end", "images": 9, "outcome": NASTY},
        ):
            file.write(json.dumps(event) + "\n")
    read = Reader(page_of(out, nasty_facts(NASTY)))
    assert len(read.scripts) == 1
    assert not [attributes for tag, attributes in read.tags if tag == "img" and attributes.get("src") == "x"]
    assert not [name for _, attributes in read.tags for name in attributes if name.startswith("on")]
    assert read.text.count("<script>alert('x')</script>") > 20
    assert "{{ 7 * 7 }}" in read.text


@pytest.mark.parametrize(
    ("outcome", "message", "said"),
    [
        ("running", None, "Still running: this page says how it stood after 30,000 images."),
        ("diverged", "d was nan", "Diverged at 30,000 images: d was nan."),
        ("interrupted", None, "Interrupted at 30,000 images. Run the same command again to go on."),
        ("failed", "out of memory", "Failed at 30,000 images: out of memory."),
        ("cancelled", None, "Cancelled at 30,000 images."),
    ],
)
def test_a_run_that_is_not_finished_says_so(tmp_path: Path, outcome: str, message: str | None, said: str) -> None:
    out = write_run(tmp_path, until=30_000)
    page = Reader(page_of(out, facts(30_000, outcome=outcome, outcome_message=message)))
    assert said in page.says()
    assert "30,000 of 200,000 images" in page.says()


def test_a_run_of_which_nothing_is_known_yet_has_a_page(tmp_path: Path) -> None:
    bare = ReportFacts(name="new", recipe="stylegan2", seed=0, images=0, seconds=0, device="cpu")
    said = Reader(page_of(tmp_path, bare)).says()
    assert "No metric has been measured yet." in said
    assert "No detector has run, so nothing is known about its health." in said
    assert "There is no sample grid yet." in said
    assert "Nothing has been logged yet." in said


def test_an_untrained_generator_that_was_not_measured_is_not_made_up(tmp_path: Path) -> None:
    only = {"metric": "fd", "features": "pixels", "value": 5.0, "images": 3}
    said = Reader(page_of(tmp_path, facts(metrics=[only]))).says()
    assert "The untrained generator was not measured." in said
    assert "of the way" not in said


def test_real_images_stand_beside_the_samples_where_the_run_left_them(tmp_path: Path) -> None:
    out = write_run(tmp_path)
    assert "Real images, to compare with" not in page_of(out, facts())
    pictures.write_png(out / "real.png", pictures.grid(emerging(0, 1.0)[None].repeat(4, 0)))
    assert "Real images, to compare with" in page_of(out, facts())


def test_a_missing_or_broken_picture_is_named_and_stops_nothing(tmp_path: Path) -> None:
    out = write_run(tmp_path)
    (out / "samples/000050000.png").unlink()
    (out / "samples/000100000.png").write_bytes(b"torn")
    told = facts(
        pictures=[{"path": "../../etc/passwd.png", "caption": "Elsewhere"}],
        nearest={"path": "gone.png", "features": "pixels", "rows": []},
    )
    said = Reader(page_of(out, told)).says()
    assert "samples/000050000.png: is not in the run directory" in said
    assert "samples/000100000.png: cannot identify" in said
    assert "leads out of the run directory" in said
    assert "gone.png cannot be shown" in said


def test_many_grids_become_at_most_24_and_the_page_stays_small(tmp_path: Path) -> None:
    out = write_run(tmp_path)
    lines = []
    for index in range(60):
        pictures.write_png(out / f"samples/{index:09d}.png", pictures.grid(emerging(index, 0.1)[None].repeat(64, 0), 8))
        lines.append(json.dumps({"event": "samples", "images": index, "path": f"samples/{index:09d}.png"}))
    (out / "events.jsonl").write_text("\n".join(lines) + "\n")
    page = page_of(out, facts(0))
    shown = [a["data-caption"] for _, a in Reader(page).tags if "data-caption" in a]
    assert len(shown) == 24
    assert (shown[0], shown[-1]) == ("0 images, untrained", "59 images, the latest")
    assert "24 of 60 grids are shown here" in Reader(page).says()
    assert len(page) < 6_000_000


def test_the_page_is_drawn_again_from_report_json_alone(tmp_path: Path) -> None:
    out = write_run(tmp_path)
    first = page_of(out, facts())
    (out / "report.html").unlink()
    assert render(out).read_text(encoding="utf-8") == first


def test_facts_are_joined_with_what_was_said_on_the_way(tmp_path: Path) -> None:
    row = {"metric": "fd", "features": "pixels", "samples": 10}
    events: list[dict[str, Any]] = [
        {"event": "start", "images": 0},
        {"event": "progress", "images": 10, "waiting_ratio": 0.2},
        {"event": "progress", "images": 20, "waiting_ratio": 0.4},
        {"event": "evaluation", "images": 10, "rows": [{**row, "value": 9.0, "images": 10}]},
        {"event": "verdict", "images": 10, "detector": "collapse", "verdict": "failure"},
        {"event": "checkpoint", "images": 10, "path": "checkpoints/000000010"},
        {"event": "checkpoint", "images": 20, "path": "checkpoints/000000020"},
    ]
    (tmp_path / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    (tmp_path / "checkpoints/000000020").mkdir(parents=True)
    told = facts(
        metrics=[{**row, "value": 4.0, "images": 20}],
        verdicts=[{"detector": "collapse", "verdict": "healthy", "images": 20}],
    )
    page = page_of(tmp_path, told)
    report = Report.load(tmp_path / "report.json")
    assert [row.value for row in report.metrics] == [9.0, 4.0]
    assert [verdict.verdict for verdict in report.verdicts] == ["failure", "healthy"]
    assert report.waiting_ratio == pytest.approx(0.3)
    assert [checkpoint.path for checkpoint in report.checkpoints] == ["checkpoints/000000020"]
    assert "gankiln sample checkpoints/000000020" in page
    assert "was a failure at 10 images" in Reader(page).says()


def test_idleness_is_what_was_not_spent_in_steps(tmp_path: Path) -> None:
    seconds = {"training": 90.0, "waiting": 10.0, "evaluation": 50.0, "checkpoints": 25.0, "samples": 25.0}
    page = page_of(tmp_path, facts(time_seconds=seconds))
    report = Report.load(tmp_path / "report.json")
    assert report.waiting_ratio == pytest.approx(0.1)
    assert report.idle_ratio == pytest.approx(0.55)
    assert report.idle_ratio_without_evaluation == pytest.approx(0.4)
    said = Reader(page).says()
    assert "idle from first to last step" in said and "without evaluation" in said


def test_a_report_needs_no_torch() -> None:
    code = "import sys, jobs.report; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
