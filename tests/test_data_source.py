"""What all kinds of data share."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.data.decode import DecodeError
from jobs.data.source import decode_block, printable, spread
from tests.data_files import png


@given(st.integers(1, 5000), st.one_of(st.none(), st.integers(1, 6000)))
def test_a_spread_is_ordered_even_and_without_repeats(count: int, wanted: int | None) -> None:
    chosen = np.asarray(spread(count, wanted))
    assert len(chosen) == min(count, wanted or count)
    assert chosen[0] == 0 and chosen[-1] < count
    if len(chosen) > 1:
        steps = np.diff(chosen)
        assert steps.min() >= 1 and steps.max() - steps.min() <= 1


@given(st.text())
def test_whatever_a_name_holds_it_can_be_printed(text: str) -> None:
    safe = printable(text)
    assert safe.isprintable() and len(safe) <= 10 * 200 + 3
    safe.encode()
    if text.isprintable() and len(text) <= 200:
        assert safe == text


@pytest.mark.parametrize("bad", [(), (0,), (1, 3), (0, 1, 2, 3)])
def test_a_block_says_which_of_its_images_are_good(bad: tuple[int, ...]) -> None:
    def read(name: str) -> bytes:
        if int(name) in bad:
            raise DecodeError("gone")
        return png(int(name))

    block = decode_block(["0", "1", "2", "3"], read, 8, "rgb", "crop")
    assert block.good_M.tolist() == [index not in bad for index in range(4)]
    assert len(block.images_NCHW) == 4 - len(bad)
    assert block.skipped == [(str(index), "gone") for index in bad]
