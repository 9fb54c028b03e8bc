"""Numbers, durations and sizes as a person reads them."""

SUPERSCRIPTS = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")
THIN_SPACE = "\u2009"
NO_VALUE = "–"


def figure(value: float | None, digits: int = 3) -> str:
    """`value` with `digits` significant digits: 41.3, 12,400, 0.0021, 3.1×10⁻⁷."""
    if value is None:
        return NO_VALUE
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 1e9 or size < 1e-4:
        mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
        return f"{_trimmed(mantissa)}×10{str(int(exponent)).translate(SUPERSCRIPTS)}"
    if size >= 10 ** (digits - 1):
        return f"{value:,.0f}"
    return f"{value:#.{digits}g}".rstrip(".")


def count(value: float | None) -> str:
    """A whole number with separators: 200,000."""
    return NO_VALUE if value is None else f"{value:,.0f}"


def short_count(value: float) -> str:
    """A number short enough for an axis: 0, 250, 12k, 1.5M, 0.05."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{_trimmed(f'{value / size:.2f}')}{letter}"
    return f"{value:.4g}"


def percent(share: float | None) -> str:
    """0.934 -> 93 %; small shares keep a digit."""
    if share is None:
        return NO_VALUE
    return (
        f"{share * 100:.0f}{THIN_SPACE}%"
        if share in (0, 1) or 0.01 <= share <= 0.99
        else f"{share * 100:.2g}{THIN_SPACE}%"
    )


def duration(seconds: float | None) -> str:
    """4213 -> 1 h 10 min."""
    if seconds is None:
        return NO_VALUE
    if seconds < 60:
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
    """A field's name as a heading: path_length -> Path length."""
    spaced = name.replace("_", " ").strip()
    return spaced[:1].upper() + spaced[1:]


def plural(number: int, noun: str) -> str:
    """1 failure, 2 failures."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _trimmed(number: str) -> str:
    return number.rstrip("0").rstrip(".") if "." in number else number
