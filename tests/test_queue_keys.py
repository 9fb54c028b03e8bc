"""Keys sort as the queue needs it, parse back, and never leave their place."""

from hypothesis import given
from hypothesis import strategies as st

from service.queue import keys
from service.queue.model import JobState, is_job_id
from service.store import is_key

ID = "0123456v" + "0" * 16


def state(**fields: object) -> JobState:
    given = {"id": ID, "name": "n", "spec_sha256": "0" * 64, "submitted_seconds": 1.0, "queued_seconds": 1.0}
    return JobState.model_validate(given | fields)


@given(st.integers(0, 99), st.integers(0, 99), st.floats(0, 4e9), st.floats(0, 4e9))
def test_ready_keys_sort_by_priority_then_age(first: int, second: int, early: float, late: float) -> None:
    one = keys.marker(state(priority=first, queued_seconds=early))
    other = keys.marker(state(priority=second, queued_seconds=late))
    if first > second or (first == second and int(early) < int(late)):
        assert one < other
    assert keys.parse_ready(one) == (first, int(early))
    assert keys.parse_marker(one) == keys.Marker(ID, 1)
    assert one < keys.after_class(one)
    assert (keys.after_class(one) < other) == (first > second)


def test_every_status_has_one_hint_that_parses_back() -> None:
    hints = {
        status: keys.marker(state(status=status, epoch=7, marker_index=7, finished_seconds=1_800_000_000.0))
        for status in ("queued", "claimed", "paused", "succeeded", "failed", "cancelled", "dead")
    }
    assert len(set(hints.values())) == len(hints)
    for status, key in hints.items():
        assert is_key(key)
        assert keys.parse_marker(key) == keys.Marker(ID, 7)
        if key.startswith(keys.DONE):
            assert keys.parse_done(key) == ("2027/01/15", status)


def test_what_is_no_hint_does_not_parse() -> None:
    for key in (
        "ready/50/x",
        "active/",
        f"active/{ID}",
        f"active/{ID}-1",
        "ready/50/../../etc/passwd",
        f"{ID}x-00000001",
    ):
        assert keys.parse_marker(key) is None
    assert keys.parse_ready(f"ready/5/000000000001-{ID}-00000001") is None
    assert keys.parse_done("done/2027/01/15/x") is None


@given(st.integers(0, 2**40 - 1), st.integers(0, 2**40 - 1), st.binary(max_size=20))
def test_ids_sort_by_time(early: int, late: int, seed: bytes) -> None:
    one, other = keys.job_id(early, seed), keys.job_id(late, seed)
    assert is_job_id(one)
    assert (one < other) == (early < late)


def test_ids_of_odd_clocks_are_still_ids() -> None:
    for seconds in (-1.0, 0.0, 1e15):
        assert is_job_id(keys.job_id(seconds, b""))


@given(st.text(max_size=300))
def test_any_text_becomes_a_harmless_name(text: str) -> None:
    slug = keys.slug(text)
    assert is_key(slug)
    assert "/" not in slug
    assert not slug.startswith(".")


def test_a_ticket_is_read_from_the_name() -> None:
    assert keys.ticket(f"inbox/run.{ID}.yaml") == ID
    assert keys.ticket("inbox/run.yaml") is None
    assert keys.ticket(f"inbox/run.{ID}x.yaml") is None


@given(st.floats(0, 4e9), st.sampled_from(["attempts", "job"]))
def test_due_dates_parse_back_and_sort(seconds: float, what: str) -> None:
    key = keys.due(seconds, what, ID)
    parsed = keys.parse_due(key)
    assert parsed is not None
    assert parsed[1:] == (what, ID)
    assert keys.due(seconds + 86_400, what, ID) > key
