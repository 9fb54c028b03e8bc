"""Numbers as a person reads them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.report import words


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "–"), (0, "0"), (38.41, "38.4"), (412.3, "412"), (12400, "12,400"), (0.71, "0.71"), (0.0213, "0.0213"),
        (-0.0002, "−0.0002"), (3.14e-7, "3.14×10⁻⁷"), (1.5e12, "1.5×10¹²"), (1, "1"), (9.996, "10"), (99.96, "100"),
    ],
)  # fmt: skip
def test_figure(value: float | None, said: str) -> None:
    assert words.figure(value) == said


@given(st.floats(1e-30, 1e30))
def test_a_figure_is_the_value_to_three_digits(value: float) -> None:
    said = words.figure(value).replace(",", "")
    mantissa, _, exponent = said.partition("×10")
    superscripts = {ord(sign): plain for sign, plain in zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-", strict=True)}
    read = float(mantissa) * 10.0 ** int(exponent.translate(superscripts) or 0)
    assert read == pytest.approx(value, rel=0.0051)


@pytest.mark.parametrize(
    ("ticks", "labels"),
    [
        ((0, 50_000, 100_000), ["0", "50k", "100k"]),
        ((0, 0.5, 1.0, 1.5), ["0.0", "0.5", "1.0", "1.5"]),
        ((0.98, 0.985, 0.99), ["0.980", "0.985", "0.990"]),
        ((-1, 0, 1), ["−1", "0", "1"]),
        ((1_000_000, 2_500_000), ["1.0M", "2.5M"]),
        ((0.00002, 0.00004), ["0.00002", "0.00004"]),
        ((), []),
    ],
)
def test_axis_labels_tell_neighbours_apart(ticks: tuple[float, ...], labels: list[str]) -> None:
    assert words.axis_labels(ticks) == labels


@pytest.mark.parametrize(
    ("tick", "label"), [(0.01, "0.01"), (1, "1"), (500, "500"), (20_000, "20k"), (1e-6, "1×10⁻⁶"), (2e6, "2M")]
)
def test_log_label(tick: float, label: str) -> None:
    assert words.log_label(tick) == label


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(None, "–"), (0.5, "0.5 s"), (12.3, "12 s"), (59.6, "1 min"), (90, "2 min"), (3599, "1 h 0 min"),
     (4213, "1 h 10 min"), (200_000, "2 d 7 h")],
)  # fmt: skip
def test_duration(seconds: float | None, said: str) -> None:
    assert words.duration(seconds) == said


def test_sizes_shares_headings_and_plurals() -> None:
    assert [words.size(size) for size in (None, 12, 4_200, 1_234_567, 3.2e9)] == [
        "–", "12 bytes", "4.2 kB", "1.23 MB", "3.2 GB",
    ]  # fmt: skip
    assert [words.percent(share).replace("\u2009", " ") for share in (None, 0, 0.004, 0.93, 0.999, 1)] == [
        "–", "0 %", "0.4 %", "93 %", "99.9 %", "100 %",
    ]  # fmt: skip
    assert [words.title(name) for name in ("path_length", "ema_beta", "logit.real", "g")] == [
        "Path length", "EMA beta", "Logit real", "G",
    ]  # fmt: skip
    assert (words.plural(1, "failure"), words.plural(1200, "failure")) == ("1 failure", "1,200 failures")
