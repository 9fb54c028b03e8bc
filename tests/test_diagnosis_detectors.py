"""Each detector by itself: what it measures, against an independent reference, and which side of a limit is which."""

import dataclasses
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import gaussian_filter
from scipy.spatial.distance import pdist, squareform
from scipy.stats import theilslopes
from sklearn.metrics import roc_auc_score

from jobs.data.modegrid import generate
from jobs.diagnosis import (
    blank_images,
    blind,
    checkerboard,
    collapse,
    droplets,
    hue_collapse,
    learning_rate,
    loss_spikes,
    lost_modes,
    lost_recall,
    memorisation,
    memory_growth,
    no_progress,
    non_finite,
    overpowered,
    repeated_images,
    saturated_images,
    spectrum,
    spots,
    style_ignored,
    update_size,
    vanishing_gradient,
)
from jobs.diagnosis.detector import Detector, Measured
from jobs.diagnosis.inputs import FeatureMaps, Gallery, Judgement, Moving, Scores, Snapshot, Steps, Window
from jobs.diagnosis.spectra import mean_power
from jobs.diagnosis.table import ALL, OF_GALLERY
from jobs.spec.data import ModeGrid
from jobs.spec.diagnosis import DETECTORS

RNG = np.random.RandomState(0)


def pictures(count: int = 128, seed: int = 0, channels: int = 3) -> np.ndarray:
    """Soft coloured blobs, as a data set might hold."""
    rng = np.random.RandomState(seed)
    y, x = np.mgrid[-1:1:32j, -1:1:32j]
    centre, size = rng.uniform(-0.5, 0.5, (count, 2, 1, 1)), rng.uniform(0.3, 0.6, (count, 1, 1))
    blob = np.exp(-((x - centre[:, 0]) ** 2 + (y - centre[:, 1]) ** 2) / size**2)[:, None]
    colour = rng.uniform(0.2, 0.9, (count, channels, 1, 1))
    noise = rng.normal(0, 0.01, (count, channels, 32, 32))
    return ((0.1 + 0.8 * blob * colour + noise).clip(0, 1) * 255).astype(np.uint8)


def gallery(fake: np.ndarray | None = None, **changes) -> Gallery:
    """Healthy: samples are as the data is."""
    features = np.random.RandomState(0).normal(size=(2, 128, 8))
    given = Gallery(
        images=10_000,
        planned_images=20_000,
        fake_MCHW=pictures(seed=1) if fake is None else fake,
        real_NCHW=pictures(seed=2),
        fake_MD=features[0],
        real_ND=features[1],
        space="test",
    )
    return replace(given, **changes)


def steps(**scalars) -> Steps:
    values = {name: np.asarray(series, dtype=np.float64) for name, series in scalars.items()}
    return Steps(images=10_000, planned_images=20_000, recent=values, windows={})


def fails(detector: Detector, measured: Measured | None) -> bool:
    assert measured is not None
    limit = detector.failure.value
    return measured.value > limit if detector.bad == "above" else measured.value < limit


def warns(detector: Detector, measured: Measured | None) -> bool:
    assert measured is not None and detector.warning is not None
    limit = detector.warning.value
    return measured.value > limit if detector.bad == "above" else measured.value < limit


def test_the_spec_and_the_table_name_the_same_detectors() -> None:
    assert sorted(detector.name for detector in ALL) == sorted(DETECTORS)


@pytest.mark.parametrize("detector", ALL, ids=lambda detector: detector.name)
def test_every_detector_says_what_it_means_and_where_its_limit_comes_from(detector: Detector) -> None:
    for words in (detector.watches, detector.means, detector.hint, detector.failure.origin):
        assert len(words) > 10 and "placeholder" not in words
    if detector.warning is not None:
        assert "placeholder" not in detector.warning.origin
        sooner = detector.warning.value < detector.failure.value
        assert sooner == (detector.bad == "above"), "a warning comes before a failure"


@pytest.mark.parametrize("detector", OF_GALLERY, ids=lambda detector: detector.name)
def test_healthy_pictures_raise_nothing(detector: Detector) -> None:
    measured = detector.measure(gallery())
    assert measured is None or not fails(detector, measured)
    if measured is not None and measured.picture is not None:
        assert measured.picture().dtype == np.uint8 and measured.picture().ndim == 4


def test_non_finite_names_the_terms_and_the_moment() -> None:
    bad = dataclasses.replace(steps(), first_bad_images=160, bad_terms=("loss.r1", "gradient.generator"))
    measured = non_finite.measure(bad)
    assert measured.value == 2 and "loss.r1" in measured.detail and "160" in measured.detail
    assert fails(non_finite.DETECTOR, measured) and not fails(non_finite.DETECTOR, non_finite.measure(steps()))


def test_loss_spikes_are_counted_and_noise_is_not() -> None:
    calm = RNG.normal(1, 0.1, 1000)
    assert loss_spikes.spike_rate(calm) == 0
    spiky = calm.copy()
    spiky[250::50] += 3
    assert loss_spikes.spike_rate(spiky) == pytest.approx(1000 * 15 / 800)
    assert loss_spikes.spike_rate(calm[:499]) is None
    measured = loss_spikes.measure(
        steps(**{"loss.generator": calm, "loss.discriminator": spiky, "loss.r1": spiky[::4]})
    )
    assert measured is not None and measured.detail == "loss discriminator"


def test_a_loss_that_falls_has_no_spikes() -> None:
    assert loss_spikes.spike_rate(np.exp(-np.arange(1000) / 300) + RNG.normal(0, 0.001, 1000)) == 0


def windows(*medians: float) -> list[Window]:
    return [Window(value, value, 10) for value in medians]


def test_vanishing_gradient_looks_at_each_network() -> None:
    given = replace(
        steps(),
        windows={"gradient.generator": windows(1, 1.2, 0.9, 1e-4), "gradient.discriminator": windows(1, 1, 1, 1)},
    )
    measured = vanishing_gradient.measure(given)
    assert measured is not None and "generator" in measured.detail and fails(vanishing_gradient.DETECTOR, measured)
    assert vanishing_gradient.measure(replace(steps(), windows={"gradient.generator": windows(1, 0)})) is None
    fine = vanishing_gradient.measure(replace(steps(), windows={"gradient.generator": windows(1, 1, 0.7)}))
    assert not warns(vanishing_gradient.DETECTOR, fine)


def snapshot(**changes) -> Snapshot:
    return replace(Snapshot(4_000, 10_000, {"G": (0.002, 0.002)}, {"G.w": Moving(1e-3, 0.1)}), **changes)


@pytest.mark.parametrize(("factor", "bad"), [(1.0, False), (0.5, False), (0.02, True), (0.0004, True)])
def test_a_learning_rate_that_has_decayed_to_nothing(factor: float, bad: bool) -> None:
    measured = learning_rate.measure(snapshot(learning_rates={"G": (0.002, 0.002), "D": (0.002, 0.002 * factor)}))
    assert fails(learning_rate.DETECTOR, measured) is bad
    assert measured is not None and ("D" in measured.detail or not bad)


def test_late_in_a_run_a_small_learning_rate_is_no_failure() -> None:
    assert learning_rate.measure(snapshot(images=6_000, learning_rates={"G": (1.0, 0.0001)})) is None


def test_update_size_names_the_tensor_that_stands_still() -> None:
    updates = {"G.a": Moving(1e-3, 1.0), "G.b": Moving(1e-9, 0.0), "D.c": Moving(1e-8, 0.0)}
    measured = update_size.measure(snapshot(updates=updates))
    assert (
        measured is not None and measured.detail.startswith("G.b") and "2 of 3 tensors stand still" in measured.detail
    )
    assert fails(update_size.DETECTOR, measured)
    assert not warns(update_size.DETECTOR, update_size.measure(snapshot()))
    assert update_size.measure(snapshot(updates={})) is None


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 10**9), min_size=3, max_size=12))
def test_the_slope_of_memory_is_theil_and_sens(used: list[int]) -> None:
    points = [(100 * index, value) for index, value in enumerate(used)]
    assert memory_growth.slope(points) == pytest.approx(theilslopes(used, [x for x, _ in points])[0])


def test_memory_growth_is_judged_by_what_the_rest_of_the_run_will_need() -> None:
    growing = [(100 * check, 10**9 + check * 10**7) for check in range(8)]
    # 10 MB every 100 images, 6,000 to go: 600 MB more.
    little, much = (snapshot(memory=growing, free_bytes=free) for free in (500 * 10**6, 50 * 10**9))
    assert fails(memory_growth.DETECTOR, memory_growth.measure(little))
    assert not warns(memory_growth.DETECTOR, memory_growth.measure(much))
    assert memory_growth.measure(snapshot(memory=growing[:4], free_bytes=1)) is None


def test_no_progress_compares_with_the_untrained_generator() -> None:
    given = gallery()
    assert no_progress.measure(given) is None
    now = no_progress.distance(given.fake_MD, given.real_ND)
    worse = no_progress.measure(replace(given, untrained_distance=now / 2))
    better = no_progress.measure(replace(given, untrained_distance=now * 10))
    assert worse is not None and worse.value == pytest.approx(2) and fails(no_progress.DETECTOR, worse)
    assert not warns(no_progress.DETECTOR, better)


@settings(deadline=None, max_examples=30)
@given(arrays(np.float64, (9, 3), elements=st.floats(-100, 100)))
def test_the_mean_distance_is_that_of_all_pairs(features: np.ndarray) -> None:
    assert collapse.mean_distance(features) == pytest.approx(pdist(features).mean(), abs=1e-4)


@pytest.mark.parametrize(("spread", "bad"), [(1.0, False), (0.05, True), (0.0, True)])
def test_collapse_is_little_distance_between_samples(spread: float, bad: bool) -> None:
    given = gallery()
    alike = replace(given, fake_MD=given.fake_MD.mean(0) + spread * (given.fake_MD - given.fake_MD.mean(0)))
    assert fails(collapse.DETECTOR, collapse.measure(alike)) is bad


def test_repeats_are_found_however_far_apart_the_few_pictures_are() -> None:
    given = gallery()
    few = given.fake_MD[np.arange(128) % 4] * 10 + RNG.normal(0, 1e-3, given.fake_MD.shape)
    measured = repeated_images.measure(replace(given, fake_MD=few))
    assert fails(repeated_images.DETECTOR, measured)
    assert not warns(collapse.DETECTOR, collapse.measure(replace(given, fake_MD=few)))
    assert not warns(repeated_images.DETECTOR, repeated_images.measure(given))
    assert repeated_images.measure(replace(given, real_ND=few.round())) is None


@settings(deadline=None, max_examples=30)
@given(arrays(np.float64, (7, 2), elements=st.floats(-100, 100)))
def test_the_nearest_distance_is_the_smallest_of_all(features: np.ndarray) -> None:
    distances = squareform(pdist(features))
    np.fill_diagonal(distances, np.inf)
    assert repeated_images.nearest_distance(features) == pytest.approx(np.median(distances.min(1)), abs=1e-4)


def test_collapse_says_nothing_of_data_that_is_all_alike() -> None:
    assert collapse.measure(gallery(real_ND=np.ones((128, 8)))) is None


def test_style_share_of_pictures_that_depend_on_one_of_the_two() -> None:
    by_style, by_noise = RNG.normal(size=(2, 8, 1, 50))
    assert style_ignored.style_share(np.repeat(by_style, 4, axis=1)) == 1
    assert style_ignored.style_share(np.repeat(by_noise.reshape(1, 8, 50), 6, axis=0)) == pytest.approx(0)
    assert style_ignored.style_share(np.ones((4, 4, 5))) is None
    even = style_ignored.style_share(RNG.normal(size=(60, 1, 2000)) + RNG.normal(size=(1, 60, 2000)))
    assert even == pytest.approx(0.5, abs=0.03)
    assert fails(style_ignored.DETECTOR, style_ignored.measure(gallery(style_share=0.05)))
    assert not warns(style_ignored.DETECTOR, style_ignored.measure(gallery(style_share=0.9)))


def judged(real: float, fake: float, gradient: float, *earlier: float, advantage: float = 0.5) -> Gallery:
    logits = np.random.RandomState(0).normal(size=200)
    return gallery(judgements={"D": Judgement(logits + real, logits + fake, advantage, gradient, earlier)})


def test_overpowered_needs_certainty_and_a_growing_gradient() -> None:
    assert fails(overpowered.DETECTOR, overpowered.measure(judged(8, -8, 1000.0, 1, 2, 3)))
    assert not warns(overpowered.DETECTOR, overpowered.measure(judged(8, -8, 2.0, 1, 2, 3)))
    assert not warns(overpowered.DETECTOR, overpowered.measure(judged(0.5, -8, 1000.0, 1, 2, 3)))
    assert overpowered.measure(judged(8, -8, 1000.0)) is None


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(-5, 5), min_size=1, max_size=20), st.lists(st.integers(-5, 5), min_size=1, max_size=20))
def test_the_area_under_the_curve_is_the_fields(real: list[int], fake: list[int]) -> None:
    labels, scores = [1] * len(real) + [0] * len(fake), [*real, *fake]
    area = blind.area_under_curve(np.array(real, float), np.array(fake, float))
    assert area == pytest.approx(roc_auc_score(labels, scores))


def test_a_discriminator_that_guesses_is_blind() -> None:
    for advantage in (0.0, -0.3):
        assert fails(blind.DETECTOR, blind.measure(judged(0, 0, 1, advantage=advantage)))
    fine = blind.measure(judged(1, -1, 1, advantage=0.4))
    assert not warns(blind.DETECTOR, fine)
    assert fine is not None and "in 91% of pairs" in fine.detail


def test_fine_detail_that_the_data_does_not_have() -> None:
    noisy = (pictures(seed=1) + RNG.normal(0, 20, (128, 1, 32, 32))).clip(0, 255).astype(np.uint8)
    assert fails(spectrum.DETECTOR, spectrum.measure(gallery(noisy)))
    same = spectrum.measure(gallery())
    assert abs(same.value) < 0.2


def test_the_gap_of_a_known_gain() -> None:
    power = RNG.uniform(1, 2, (32, 32))
    assert spectrum.top_octave_gap(power * np.e, power) == pytest.approx(1)


@pytest.mark.parametrize("period", [2, 4])
def test_a_regular_grid_is_found_at_its_period(period: int) -> None:
    grid = np.where(np.arange(32) % period < period / 2, 12, -12)
    striped = (pictures(seed=1).astype(int) + grid).clip(0, 255).astype(np.uint8)
    measured = checkerboard.measure(gallery(striped))
    assert measured is not None and f"period of {period} pixels" in measured.detail
    assert fails(checkerboard.DETECTOR, measured)
    small = pictures()[:, :, :8, :8]
    assert checkerboard.measure(gallery(small, real_NCHW=small)) is None


def test_a_line_that_real_images_lack_makes_no_checkerboard() -> None:
    """Shapes on the grid of pixels have next to no power at some periods; blurred ones have what everything has."""
    drawn, _ = generate(ModeGrid(images=64, shapes=2, hues=8, positions=1, jitter=0, scale_jitter=0))
    blurred = gaussian_filter(drawn, (0, 0, 1.5, 1.5))
    assert checkerboard.grid_power(mean_power(drawn)).min() < 0.05
    assert not warns(checkerboard.DETECTOR, checkerboard.measure(gallery(blurred, real_NCHW=drawn)))


def maps(peak: float) -> FeatureMaps:
    rest = np.full((2, 64), 1.3)
    rest[1, :32] = peak
    return FeatureMaps(rest, ("blocks.0", "blocks.1"), np.ones((16, 16)))


def test_droplets_name_the_layer() -> None:
    measured = droplets.measure(gallery(maps=maps(20.0)))
    assert measured is not None and "blocks.1" in measured.detail and fails(droplets.DETECTOR, measured)
    assert not warns(droplets.DETECTOR, droplets.measure(gallery(maps=maps(1.4))))
    assert droplets.measure(gallery()) is None


def test_spots_that_no_real_image_has() -> None:
    spotted = pictures(seed=1)
    spotted[:, :, 3:7, 3:7] = 255
    assert fails(spots.DETECTOR, spots.measure(gallery(spotted)))
    assert not warns(spots.DETECTOR, spots.measure(gallery()))


def test_blank_and_saturated_pictures() -> None:
    black = np.zeros_like(pictures())
    assert fails(blank_images.DETECTOR, blank_images.measure(gallery(black)))
    assert fails(saturated_images.DETECTOR, saturated_images.measure(gallery(black)))
    loud = ((pictures(seed=1).astype(float) - 60) * 20).clip(0, 255).astype(np.uint8)
    assert fails(saturated_images.DETECTOR, saturated_images.measure(gallery(loud)))
    assert not fails(blank_images.DETECTOR, blank_images.measure(gallery(loud)))
    assert not fails(blank_images.DETECTOR, blank_images.measure(gallery(black, real_NCHW=black))), "so is the data"


def hued(degrees: np.ndarray) -> np.ndarray:
    """Pictures of one hue each."""
    angle = np.deg2rad(degrees)[:, None]
    colour = 0.5 + 0.3 * np.cos(angle - np.deg2rad([[0, 120, 240]]))
    return (np.ones((len(degrees), 3, 8, 8)) * colour[:, :, None, None] * 255).astype(np.uint8)


def test_hue_variance_is_circular() -> None:
    around = hued(np.linspace(0, 360, 64, endpoint=False))
    assert hue_collapse.hue_variance(around) == pytest.approx(1, abs=0.01)
    assert hue_collapse.hue_variance(hued(np.full(16, 40.0))) == pytest.approx(0, abs=1e-6)
    across_red = hue_collapse.hue_variance(hued(np.array([350.0, 10.0] * 8)))
    assert across_red == pytest.approx(1 - np.cos(np.deg2rad(10)), abs=0.002)
    assert hue_collapse.hue_variance(np.full((8, 3, 4, 4), 90, np.uint8)) is None
    measured = hue_collapse.measure(gallery(hued(np.full(64, 40.0)), real_NCHW=around))
    assert fails(hue_collapse.DETECTOR, measured)
    grey = hue_collapse.measure(gallery(np.full((8, 3, 8, 8), 90, np.uint8), real_NCHW=around))
    assert grey is not None and grey.value == 0 and "grey" in grey.detail
    assert hue_collapse.measure(gallery(pictures(channels=1), real_NCHW=pictures(channels=1))) is None


def scores(**changes) -> Scores:
    rows = [
        {"metric": "recall", "features": "pixels", "value": 0.001},
        {"metric": "recall", "features": "random_conv", "value": 0.4},
        {"metric": "recall", "features": "random_conv", "value": 0.0, "label": "untrained"},
        {"metric": "modes_covered", "features": "mode_templates", "value": 12.0},
    ]
    return replace(Scores(10_000, 20_000, rows), **changes)


def test_lost_recall_compares_the_best_feature_space_with_the_best_so_far() -> None:
    assert lost_recall.best(scores()) == 0.4
    assert not warns(lost_recall.DETECTOR, lost_recall.measure(scores(best_recall=0.5)))
    only = [{"metric": "recall", "features": "pixels", "value": 0.001}]
    assert fails(lost_recall.DETECTOR, lost_recall.measure(scores(rows=only, best_recall=0.5)))
    assert lost_recall.measure(scores(rows=only, best_recall=0.04)) is None, "there was none to lose"
    assert lost_recall.measure(scores(rows=[], best_recall=0.5)) is None


def test_lost_modes_compares_with_the_best_so_far() -> None:
    assert lost_modes.measure(scores()) is None
    assert fails(lost_modes.DETECTOR, lost_modes.measure(scores(most_modes=30.0)))
    assert not warns(lost_modes.DETECTOR, lost_modes.measure(scores(most_modes=13.0)))


def test_memorisation_is_being_nearer_than_real_images_are_to_one_another() -> None:
    real = np.linspace(1, 2, 101)
    copies = memorisation.measure(scores(nearest_fake_M=np.full(50, 0.1), nearest_real_N=real))
    honest = memorisation.measure(scores(nearest_fake_M=real + 0.0, nearest_real_N=real))
    assert fails(memorisation.DETECTOR, copies)
    assert honest is not None and honest.value == pytest.approx(0.1, abs=0.01)
    assert not warns(memorisation.DETECTOR, honest)
    assert memorisation.measure(scores(nearest_fake_M=real, nearest_real_N=np.zeros(9))) is None, (
        "the data repeats itself"
    )
    assert memorisation.measure(scores()) is None
