"""Projection: a generator's own pictures are found again, W+ at least as well as W, and what is written says so."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from jobs.errors import SpecError
from jobs.evaluation import perceptual
from jobs.evaluation.weights import KNOWN
from jobs.projection import Places, Search, project, search_w, signed
from jobs.report import pictures
from jobs.sampling import load_recipe
from tests.tiny import loaded, run_tiny

FEW = {"training.images": 32, "training.checkpoint_images": 32, "evaluation.sanity": False, "diagnosis.enabled": False,
       "recipe.generator.noise.strength_init": 0.3}  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run, and a folder of its generator's pictures without noise."""
    folder = tmp_path_factory.mktemp("projection")
    changes = {**FEW, "recipe.generator.injection": {"kind": "style_matrix", "k": 2}}
    run_tiny(loaded(**changes), folder / "run", folder / "cache")
    network = load_recipe(folder / "run")[1].generator_ema
    (folder / "images").mkdir()
    with torch.no_grad():
        w = network.to_every_layer(
            network.mapping(network.latents(3, torch.device("cpu"), torch.Generator().manual_seed(5)))
        )
        image_NCHW = pictures.from_signed(network.synthesis(w, noise_scale=0.0).numpy())
    for index, image in enumerate(image_NCHW):
        Image.fromarray(np.moveaxis(image, 0, -1)).save(folder / "images" / f"{index}.png")
    return folder


def picture(path):
    with Image.open(path) as opened:
        return np.asarray(opened.convert("RGB"))


def mean_square(one, other):
    return (one - other).square().mean(dim=(1, 2, 3))


@pytest.mark.parametrize("space", ["w", "w+"])
def test_pictures_of_the_generator_are_found_again(trained, tmp_path, space):
    seen = []
    places = Places(tmp_path, trained / "cache")
    search = Search(space=space, steps=80)
    errors = project(
        trained / "run", trained / "images", search, places, lambda done, total: seen.append((done, total))
    )
    begin = project(trained / "run", trained / "images", Search(space=space, steps=1, learning_rate=1e-6),
                    Places(tmp_path / "begin", trained / "cache"), lambda *_: None)  # fmt: skip
    assert all(row["pixels"] < 0.7 * start["pixels"] for row, start in zip(errors, begin, strict=True))
    assert seen[-1] == (240, 240) and seen == sorted(seen)
    said = json.loads((tmp_path / "projection.json").read_text())
    assert said["errors"] == errors and said["search"]["space"] == space
    network = load_recipe(trained / "run")[1].generator_ema
    w = load_file(tmp_path / "latents.safetensors")["w"]
    assert w.shape == (3, network.synthesis.styles * 2, 16)
    with torch.no_grad():
        again = pictures.from_signed(network.synthesis(w, noise_scale=0.0).numpy())
    written = picture(tmp_path / "reconstructions" / "00001.png")
    assert np.abs(np.moveaxis(again[1], 0, -1).astype(int) - written).max() <= 1  # but for rounding
    layers = w.unflatten(1, (network.synthesis.styles, 2))
    assert torch.equal(layers[:, 0], layers[:, 1]) == (space == "w")
    assert picture(tmp_path / "projection.png").shape[0] > 64  # a row of targets, a row of reconstructions


def test_an_image_is_found_as_well_among_others_as_alone(trained):
    network = load_recipe(trained / "run")[1].generator_ema
    target = signed(np.stack([np.moveaxis(picture(path), -1, 0) for path in
                              sorted((trained / "images").iterdir())]))  # fmt: skip
    errors = []
    for chosen in (target, target[1:2]):
        found = search_w(network, chosen, Search(steps=40), mean_square, lambda _: None)
        with torch.no_grad():
            errors.append(mean_square(network.synthesis(found, noise_scale=0.0), chosen))
    assert errors[0][1].item() == pytest.approx(errors[1][0].item(), rel=0.1)


@pytest.mark.skipif(
    not any(known.find([]) for known in KNOWN["alexnet"]), reason="make install brings AlexNet's weights"
)
def test_pictures_are_found_again_by_lpips(trained, tmp_path):
    """With the published weights; it falls in LPIPS, not only in pixels."""
    lpips = perceptual.load("alex", None, tmp_path / "weights")

    def read(folder):
        return signed(np.stack([np.moveaxis(picture(path), -1, 0) for path in sorted(folder.iterdir())]))

    distances = []
    for steps, rate in ((1, 1e-6), (40, 0.1)):
        out = tmp_path / str(steps)
        search = Search(loss="lpips", steps=steps, learning_rate=rate)
        project(trained / "run", trained / "images", search, Places(out, tmp_path / "cache"), lambda *_: None)
        with torch.no_grad():
            distances.append(lpips(read(out / "reconstructions"), read(trained / "images")).mean().item())
    assert distances[1] < 0.7 * distances[0]


def test_a_loss_without_weights_is_refused(trained, tmp_path, monkeypatch):
    monkeypatch.setattr("jobs.projection.missing_weights", lambda *_: ["evaluation.metrics: AlexNet is not here"])
    with pytest.raises(SpecError, match="AlexNet is not here"):
        project(trained / "run", trained / "images", Search(loss="lpips"), Places(tmp_path, tmp_path), lambda *_: None)
