"""Numbers, durations and sizes as a person reads them."""

import math
from collections.abc import Sequence

SUPERSCRIPTS = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")
MINUS = "−"
THIN_SPACE = "\u2009"
UNITS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
ACRONYMS = {"ema": "EMA", "r1": "R1", "g": "G", "d": "D", "kid": "KID", "fd": "FD", "lr": "LR", "kl": "KL"}
NO_VALUE = "–"


def figure(value: float | None, digits: int = 3) -> str:
    """`value` with `digits` significant digits: 41.3, 12,400, 0.0021, 3.1×10⁻⁷."""
    if value is None:
        return NO_VALUE
    if value < 0:
        return f"{MINUS}{figure(-value, digits)}"
    if value == 0:
        return "0"
    if value >= 1e9 or value < 1e-4:
        mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
        return f"{_trimmed(mantissa)}×10{str(int(exponent)).translate(SUPERSCRIPTS)}"
    return f"{value:,.0f}" if value >= 10 ** (digits - 1) else _trimmed(f"{value:#.{digits}g}")


def count(value: float | None) -> str:
    """A whole number with separators: 200,000."""
    return NO_VALUE if value is None else f"{value:,.0f}"


def axis_labels(ticks: Sequence[float]) -> list[str]:
    """The labels of an axis: one unit, and just as many decimals as tell neighbours apart: 0, 50k, 100k."""
    largest = max((abs(tick) for tick in ticks), default=0.0)
    factor, letter = next(((size, letter) for size, letter in UNITS if largest >= size), (1.0, ""))
    scaled = [tick / factor for tick in ticks]
    for decimals in range(10):
        labels = [f"{tick:.{decimals}f}" for tick in scaled]
        if all(
            math.isclose(float(label), tick, abs_tol=largest / factor * 1e-6)
            for label, tick in zip(labels, scaled, strict=True)
        ):
            break
    else:
        labels = [f"{tick:.3g}" for tick in scaled]
    return [label.replace("-", MINUS) + (letter if float(label) else "") for label in labels]


def log_label(tick: float) -> str:
    """The label of one tick of a logarithmic axis: 0.01, 1, 500, 20k."""
    factor, letter = next(((size, letter) for size, letter in UNITS if tick >= size), (1.0, ""))
    return f"{tick / factor:g}{letter}" if tick >= 1e-4 else figure(tick, 1)


def percent(share: float | None) -> str:
    """0.934 -> 93 %; what is nearly nothing or nearly all keeps a digit."""
    if share is None:
        return NO_VALUE
    if 0 < share < 0.01:
        return f"{share * 100:.1g}{THIN_SPACE}%"
    return f"{share * 100:.{1 if 0.99 < share < 1 else 0}f}{THIN_SPACE}%"


def duration(seconds: float | None) -> str:
    """4213 -> 1 h 10 min."""
    if seconds is None:
        return NO_VALUE
    if round(seconds) < 60:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} d {hours % 24} h"


def size(size_bytes: float | None) -> str:
    """1234567 -> 1.2 MB (powers of ten)."""
    if size_bytes is None:
        return NO_VALUE
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size_bytes >= factor:
            return f"{size_bytes / factor:.3g} {unit}"
    return f"{size_bytes:.0f} bytes"


def title(name: str) -> str:
    """A field's name as a heading: path_length -> Path length, ema_beta -> EMA beta."""
    words = [ACRONYMS.get(word, word) for word in name.replace("_", " ").replace(".", " ").split()]
    heading = " ".join(words)
    return heading[:1].upper() + heading[1:]


def plural(number: int, noun: str) -> str:
    """1 failure, 2 failures."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _trimmed(number: str) -> str:
    return number.rstrip("0").rstrip(".") if "." in number else number
