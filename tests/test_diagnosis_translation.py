"""Detectors of a translation against planted faults: every one is found, and clean translations have none."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import nn

from jobs import recipes
from jobs.data import Roots, open_data
from jobs.data.heightmaps import draw_pair
from jobs.diagnosis import (
    bands,
    few_colours,
    flat_alpha,
    holes,
    identity_network,
    lost_detail,
    peak_energy,
    shift,
    sticking_holes,
    table,
)
from jobs.diagnosis.detector import Detector
from jobs.diagnosis.inputs import Steps
from jobs.diagnosis.inside import peaks, readings, smuggled
from jobs.diagnosis.translations import LayerPeaks, Translations, blobs, columns, count_blobs, overlay
from jobs.networks.layer_list import LayerNetwork
from jobs.systems import Surroundings, system_of
from jobs.training.recipe import Known
from tests.test_layer_list import network
from tests.tiny import EVERY, loaded

SIDE, COUNT = 64, 24
TRANSLATION = next(path for path in EVERY if path.stem == "translation")
NAMES = {detector.name: detector for detector in table.OF_TRANSLATIONS}


def gaussian_layer(seed: int, channels: int = 16) -> LayerPeaks:
    features = np.random.default_rng(seed).standard_normal((COUNT, channels, SIDE, SIDE))
    return LayerPeaks(f"layer {seed} conv", np.sqrt((features**2).sum(1)).astype(np.float32))


@pytest.fixture(scope="module")
def clean() -> Translations:
    """Height maps as a good network translates them: nearly right everywhere."""
    pairs = np.stack([draw_pair(3, index, SIDE) for index in range(COUNT)]).astype(np.float32) / 255
    noise = np.random.default_rng(0).standard_normal((COUNT, 4, SIDE, SIDE)).astype(np.float32)
    made = (pairs[:, 4:] + 0.02 * gaussian_filter(noise, (0, 0, 1, 1))).clip(0, 1)
    return Translations(
        images=1000,
        source_NCHW=pairs[:, :4],
        made_NCHW=made,
        truth_NCHW=pairs[:, 4:],
        real_NCHW=pairs[::-1, 4:],
        layers=[gaussian_layer(1), gaussian_layer(2)],
        smuggled=0.01,
        cycle_error=0.02,
        noisy_cycle_error=0.024,
        noise_error=0.016,
    )


def value(detector: Detector[Translations], seen: Translations) -> float:
    measured = detector.measure(seen)
    assert measured is not None
    if measured.picture is not None:
        assert measured.picture().dtype == np.uint8
    return measured.value


def verdict(detector: Detector[Translations], seen: Translations) -> str:
    measured = value(detector, seen)

    def bad(limit) -> bool:
        return measured > limit.value if detector.bad == "above" else measured < limit.value

    if bad(detector.failure):
        return "failure"
    return "warning" if detector.warning is not None and bad(detector.warning) else "healthy"


@pytest.mark.parametrize("name", NAMES)
def test_a_clean_translation_is_healthy(clean, name):
    assert verdict(NAMES[name], clean) == "healthy"
    assert value(NAMES[name], replace(clean, truth_NCHW=None)) is not None  # and it can be asked without a truth


def spiked(layer: LayerPeaks, *, strength: float, wanders: bool) -> LayerPeaks:
    norm = layer.norm_NHW.copy()
    for index in range(COUNT):
        row, column = (index * 7 % 50, index * 13 % 50) if wanders else (20, 30)
        norm[index, row : row + 4, column : column + 4] *= strength
    return replace(layer, norm_NHW=norm)


@pytest.mark.parametrize("wanders", [False, True])
def test_planted_droplets_are_found_and_told_by_where_they_are(clean, wanders):
    seen = replace(clean, layers=[clean.layers[0], spiked(clean.layers[1], strength=8, wanders=wanders)])
    found = NAMES["feature_peaks"].measure(seen)
    assert found is not None and found.value > 15 and "layer 2 conv" in found.detail
    assert (verdict(sticking_holes.DETECTOR, seen) == "failure") == (not wanders)
    faint = replace(clean, layers=[spiked(clean.layers[0], strength=2.8, wanders=wanders)])
    assert verdict(NAMES["feature_peaks"], faint) == "warning", "a pre-hole"


def test_energy_in_few_pixels_is_found(clean):
    seen = replace(clean, layers=[spiked(clean.layers[0], strength=30, wanders=True)])
    assert verdict(peak_energy.DETECTOR, seen) == "failure"


@pytest.mark.parametrize("known", [True, False], ids=["against the truth", "against the input"])
def test_planted_holes_are_found_and_counted(clean, known):
    made = (clean.made_NCHW if known else clean.source_NCHW).copy()
    for index in range(COUNT):
        made[index, :, 10:15, 40:45] = 0 if not known else 1 - made[index, :, 10:15, 40:45].round()
        made[index, :, 50:54, 8:12] = 0 if not known else 1 - made[index, :, 50:54, 8:12].round()
    seen = replace(clean, made_NCHW=made, truth_NCHW=clean.truth_NCHW if known else None)
    count = value(holes.DETECTOR, seen)
    assert 1 < count < 3
    assert verdict(holes.DETECTOR, seen) == "failure"


def test_blobs_have_a_size():
    mask = np.zeros((1, 64, 64), bool)
    mask[0, :2, :2] = mask[0, 10:14, 10:14] = mask[0, 30:50, 30:50] = True  # 4, 16 and 400 pixels
    kept = blobs(mask)
    assert kept.sum() == 16 and count_blobs(kept).tolist() == [1]


@pytest.mark.parametrize(("down", "right"), [(0.5, 0.0), (0.0, 0.5), (1.0, 0.0), (0.0, -2.0), (0.5, 0.5)])
def test_planted_shifts_are_found_with_their_size(clean, down, right):
    made = clean.truth_NCHW
    for axis, by in ((2, down), (3, right)):
        whole, part = int(np.floor(by)), by - np.floor(by)
        moved = np.roll(made, whole, axis)
        made = (1 - part) * moved + part * np.roll(moved, 1, axis)
    seen = replace(clean, made_NCHW=made.astype(np.float32))
    assert verdict(shift.DETECTOR, seen) == "failure"
    found = shift.offset(*(shift.edges(x) for x in (seen.made_NCHW, clean.truth_NCHW)))
    assert found == pytest.approx((down, right), abs=0.2)


@pytest.mark.parametrize("axis", [2, 3])
@pytest.mark.parametrize("waves", [7, 16, 25])
def test_planted_bands_are_found(clean, axis, waves):
    phase = 2 * np.pi * waves * np.arange(SIDE) / SIDE
    band = 0.05 * np.sin(phase).reshape([-1 if a == axis else 1 for a in range(4)])
    seen = replace(clean, made_NCHW=(clean.made_NCHW + band).astype(np.float32).clip(0, 1))
    found = bands.DETECTOR.measure(seen)
    assert found.value > bands.DETECTOR.failure.value
    assert abs(int(found.detail.split()[0]) - waves) <= 1  # a window spreads a line over its neighbours


def test_a_network_that_does_nothing_is_found(clean):
    assert verdict(identity_network.DETECTOR, replace(clean, made_NCHW=clean.source_NCHW + 0.001)) == "failure"


def test_lost_detail_is_found(clean):
    blurred = gaussian_filter(clean.made_NCHW, (0, 0, 6, 6))
    assert verdict(lost_detail.DETECTOR, replace(clean, made_NCHW=blurred)) != "healthy"
    noise = np.random.default_rng(1).random(clean.made_NCHW.shape, dtype=np.float32)
    assert verdict(lost_detail.DETECTOR, replace(clean, made_NCHW=noise)) == "failure"


def test_alpha_without_differences_is_found(clean):
    made = clean.made_NCHW.copy()
    made[:, 3] = 0.5 + 0.2 * (made[:, 3] - 0.5)
    assert verdict(flat_alpha.DETECTOR, replace(clean, made_NCHW=made)) == "failure"
    assert flat_alpha.measure(replace(clean, made_NCHW=made[:, :3])) is None


def test_two_colours_are_found(clean):
    two = np.where(clean.made_NCHW.mean(1, keepdims=True) > 0.5, [[[[0.9]], [[0.2]], [[0.1]], [[1.0]]]], 0.1)
    assert verdict(few_colours.DETECTOR, replace(clean, made_NCHW=two.astype(np.float32))) == "failure"


# Inside a network


@pytest.mark.parametrize(("norm", "smuggles"), [("instance", True), ("demodulated", False)])
def test_what_a_spike_carries_past_a_normaliser_is_measured(norm, smuggles):
    """The same spike, planted before the normaliser: it matters far away only where statistics are actual ones."""
    torch.manual_seed(0)
    net = LayerNetwork(network("conv(d8,k3) -> conv(d8,k3) -> final(k3)", norm=norm), 4, SIDE)
    image = torch.rand(8, 4, SIDE, SIDE) * 2 - 1

    def plant(_module: nn.Module, _inputs: object, output: torch.Tensor) -> torch.Tensor:
        output = output.clone()
        output[:, :, 20:22, 30:32] = 60 * output.abs().mean()
        return output

    def translate() -> torch.Tensor:
        with torch.no_grad():
            return net(image)

    quiet, layers = peaks(net, translate)
    assert [layer.label for layer in layers] == ["layer 1 conv", "layer 2 conv"] == list(readings(net))
    least = smuggled(net, layers[1], translate, quiet)
    assert least is not None and least < 0.05, "a clean network smuggles nothing"
    net.layers[1].conv.register_forward_hook(plant)
    made, layers = peaks(net, translate)
    worst = max(layers, key=LayerPeaks.stands_out)
    assert worst.label == "layer 2 conv" and worst.stands_out() > 15
    change = smuggled(net, worst, translate, made)
    assert change is not None and (change > NAMES["smuggling"].failure.value) == smuggles


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    job = loaded(TRANSLATION).job
    dataset = open_data(job.recipe.data, cache_dir=cache, roots=Roots(Path()))
    recipe = recipes.build(job, Known((), dataset.conditions), "fp32", torch.device("cpu"))
    out = tmp_path_factory.mktemp("out")
    return system_of(Surroundings(job, dataset, recipe, out, torch.device("cpu"), cache))


def test_planted_cheating_of_the_cycle_is_found(system, monkeypatch, clean):
    """The input, a hundredth as strong, under a picture that does not depend on it; the way back reads it there."""
    picture = torch.linspace(-0.8, 0.8, 32).expand(4, 32, 32)

    def cheat(image: torch.Tensor, way: str = "AB") -> torch.Tensor:
        return picture + 0.01 * image if way == "AB" else ((image - picture) / 0.01).clamp(-1, 1)

    def honest(image: torch.Tensor, way: str = "AB") -> torch.Tensor:
        return 0.9 * image if way == "AB" else image / 0.9

    source = torch.rand(8, 4, 32, 32) * 2 - 1
    for translate, level in ((cheat, "failure"), (honest, "healthy")):
        monkeypatch.setattr(system.recipe, "translate", translate)
        errors = system._cycle(source, translate(source), 0)
        assert verdict(NAMES["hidden_cycle"], replace(clean, **errors)) == level


def test_the_system_shows_inputs_beside_results_and_marks_holes(system):
    shown = system.shown(6, 0)
    assert shown.shape == (6, 4, 32, 32)
    assert torch.equal(shown[0], system.pairs.conditions(1, 0)[0].float() / 127.5 - 1)
    ((detectors, seen),) = system.watched(64, Steps(64, 256, {}, {}))
    assert {detector.name for detector in detectors} == set(NAMES)
    assert seen.smuggled is not None and seen.cycle_error is not None
    assert columns(seen)[0] == "input" and columns(seen)[-2:] == ("result", "truth")
    assert overlay(seen, 2).shape == (2 * len(columns(seen)), 3, 32, 32)
    system.watched(128, Steps(128, 256, {}, {}))
    captions = [picture.caption for picture in system.pictures(128)]
    assert "after 64, 128 images" in captions[1] and "layer 3 spap" in captions[0]
    assert all((system.around.out / picture.path).is_file() for picture in system.pictures(128))


def test_rows_say_the_distance_to_the_known_translation(system):
    rows = {row.metric: row for row in system.rows(64, "")}
    assert {"psnr", "ssim", "l1", "alpha_error", "detail", "holes", "hole_area", "feature_peak"} <= rows.keys()
    assert system.headline() == ("psnr", "all channels") and rows["psnr"].features == "all channels"
