import json
from pathlib import Path

import numpy as np
import pytest
import torch
from efficientnet_lite_pytorch import EfficientNet

from jobs.evaluation import efficientnet_lite
from jobs.evaluation.features import Places, open_space
from jobs.evaluation.weights import locate

REFERENCE = Path(__file__).parent / "reference_metrics"
ANCHOR = "efficientnet_lite0 gap1280 (resize 224 bicubic AA, (x-127)/128)"


def test_equals_the_module_its_weights_were_made_for() -> None:
    original = EfficientNet.from_name("efficientnet-lite0").eval()
    original.load_state_dict(torch.load(locate("efficientnet_lite0", None)[1], weights_only=True))
    image_NCHW = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = original.extract_features(image_NCHW).mean((2, 3))
        folded = efficientnet_lite.load().eval()(image_NCHW)
    torch.testing.assert_close(folded, expected, rtol=1e-4, atol=1e-4)


def test_reference_images_give_the_recorded_features(tmp_path: Path) -> None:
    anchor = json.loads((REFERENCE / "reference_values.json").read_text())["pretrained_anchors"][ANCHOR]
    with np.load(REFERENCE / "images.npz") as file:
        images = np.stack([file[name] for name in ("ref", "noisy", "blur", "shift")])
    extractor = open_space("efficientnet_lite0", torch.device("cpu"), Places(tmp_path))
    features_ND = extractor(torch.from_numpy(images).permute(0, 3, 1, 2))
    assert features_ND.shape == (4, anchor["dim"])
    assert features_ND[0, :6].tolist() == pytest.approx(anchor["first6_of_ref"], abs=1e-4)
    assert features_ND.norm(dim=1).tolist() == pytest.approx(anchor["l2norm"], rel=1e-5)


def test_the_head_gives_the_original_logits(tmp_path: Path) -> None:
    original = EfficientNet.from_name("efficientnet-lite0").eval()
    original.load_state_dict(torch.load(locate("efficientnet_lite0", None)[1], weights_only=True))
    extractor = open_space("efficientnet_lite0", torch.device("cpu"), Places(tmp_path))
    assert extractor.head is not None
    image_NCHW = torch.randint(0, 256, (1, 3, 224, 224), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    with torch.inference_mode():
        expected = original((image_NCHW.float() - 127) / 128)
    torch.testing.assert_close(extractor.head(extractor(image_NCHW).double()).float(), expected, rtol=1e-3, atol=1e-3)
