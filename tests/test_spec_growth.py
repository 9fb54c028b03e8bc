"""Growth and decay as functions of the images shown."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.spec.growth import Decaying, Increments, NoGrowth, Phases, timetable

PHASES = Phases(stabilise=100, fade=64, hold=32)


def test_phases_follow_each_other_in_whole_batches():
    table = timetable(PHASES, 16, 16)
    assert table.begins == (0, 112, 208)  # 100 images are 7 batches of 16; a fade and a hold are 96
    assert [table.at(images).resolution for images in (0, 111, 112, 207, 208, 10**6)] == [4, 4, 8, 8, 16, 16]
    assert table.ends == 272
    assert [images for images in range(0, 400, 16) if table.grows(images)] == [112, 208]


def test_alpha_rises_evenly_and_is_neither_0_nor_1_while_it_fades():
    table = timetable(PHASES, 16, 16)
    assert [table.at(112 + 16 * step).alpha for step in range(5)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert table.at(112).fading and table.at(175).fading and not table.at(176).fading


def test_the_notes_increments_count_iterations():
    table = timetable(Increments(), 16, 24)
    assert table.begins == (0, 5008 * 24, 2 * 5008 * 24)  # 1,000 increments of 5 iterations, and 8 at alpha 1
    begin = table.begins[1]
    assert table.at(begin).alpha == 1e-5
    assert table.at(begin + 4 * 24).alpha == 1e-5
    assert table.at(begin + 5 * 24).alpha == pytest.approx(1e-5 + 1e-3)
    assert table.at(begin + 4999 * 24).alpha < 1 == table.at(begin + 5000 * 24).alpha
    assert timetable(Increments(every=1), 8, 24).begins[1] == 1008 * 24


def test_without_growth_everything_is_there_from_the_start():
    table = timetable(NoGrowth(), 32, 8)
    assert table.at(0) == table.at(0)._replace(resolution=32, level=3, alpha=1.0, fading=False)
    assert table.stages() == (0,) and table.ends == 0


@given(
    st.integers(1, 200), st.integers(1, 200), st.integers(0, 200), st.integers(1, 64), st.sampled_from([4, 8, 16, 64])
)
def test_every_stage_trains_the_resolution_that_it_is_for(stabilise, fade, hold, batch, resolution):
    table = timetable(Phases(stabilise=stabilise, fade=fade, hold=hold), resolution, batch)
    moments = [table.at(images) for images in table.stages()]
    assert [moment.level for moment in moments] == list(range(len(moments)))
    assert moments[-1].resolution == resolution
    assert all(images % batch == 0 for images in table.begins)
    assert all(0 < moment.alpha < 1 for moment in moments[1:])


@pytest.mark.parametrize(
    ("decay", "values"),
    [("none", [0.8, 0.8, 0.8]), ("linear", [0.8, 0.4, 0.0]), ("exponential", [0.8, 0.8 * 0.5**0.5, 0.4]),
     ("harmonic", [0.8, 0.8 / 1.5, 0.4])],
)  # fmt: skip
def test_decay(decay, values):
    table = timetable(PHASES, 16, 16)
    quantity = Decaying(start=0.8, decay=decay, clock="global", over=6, unit="iterations")
    assert [quantity.at(images, table.at(images), 16) for images in (0, 48, 96)] == pytest.approx(values)
    per_growth = quantity.model_copy(update={"clock": "growth"})
    assert per_growth.at(112, table.at(112), 16) == 0.8  # as new when 8x8 begins
    assert per_growth.at(112 + 96, table.at(112 + 96), 16) == 0.8


def test_the_notes_noise_is_all_but_gone_when_the_first_new_layer_begins():
    noise = Decaying(start=1, decay="harmonic", clock="global", over=20, unit="iterations")  # 1 / (1 + 0.05 t)
    table = timetable(Increments(every=1), 16, 72)
    assert noise.at(table.begins[1], table.at(table.begins[1]), 72) == pytest.approx(0.02, abs=1e-3)
