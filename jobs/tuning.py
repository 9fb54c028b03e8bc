"""The faster of two ways to compute the same modulated convolution, measured on a device once.

Weights for each image, or one convolution for all between two scalings: which wins depends on maps, sides, images at a
time, precision and device. Both are the same function up to rounding, so what was chosen stays with the run.

    tuned = measure(recipe, 8, cache_dir, say)      {"G.synthesis.blocks.1.conv0.injection": True, ...}
    apply(recipe, tuned)
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from jobs.files import replacing
from jobs.networks.injection import Modulation
from jobs.networks.styled import StyledConv
from jobs.training.device import device_name
from jobs.training.recipe import Recipe
from jobs.training.team import Team

CACHE = "convolutions.json"
ROUNDS = 5
"""Of each way, alternating; the fastest counts, as whatever else a machine does only ever adds."""


class Call(NamedTuple):
    """What a layer was called with."""

    x: Tensor
    weight_OIKK: Tensor
    w_NKD: Tensor
    keywords: dict[str, Any]

    def key(self) -> str:
        """Two calls of one key take the same time."""
        shapes = f"{tuple(self.x.shape)} {tuple(self.weight_OIKK.shape)} up={self.keywords['up']}"
        last = self.x.is_contiguous(memory_format=torch.channels_last)
        where = f"{device_name(self.x.device)}, torch {torch.__version__}"
        return f"{shapes} {self.x.dtype} {'channels last' if last else 'channels first'} on {where}"


def measure(recipe: Recipe, images: int, cache_dir: Path, say: Callable[[str], None]) -> dict[str, bool]:
    """Whether each layer that leaves it open is faster with weights for each image, `images` at a time; by its path.

    `say` gets a sentence where there are such layers.
    """
    layers = dict(_open_layers(recipe.networks))
    if not layers:
        return {}
    known = _read(cache_dir / CACHE)
    calls = _calls(recipe, images)
    for layer, call in zip(layers.values(), calls, strict=True):
        if call.key() not in known:
            known[call.key()] = list(_seconds(layer, call))
    _write(cache_dir / CACHE, known)
    taken = [known[call.key()] for call in calls]
    tuned = {path: each < shared for path, (shared, each) in zip(layers, taken, strict=True)}
    now, before = sum(map(min, taken)), sum(shared for shared, _ in taken)
    say(
        f"injection.fused: auto: {sum(tuned.values())} of {len(tuned)} styled layers are faster with weights for each "
        f"image; {1000 * now:.1f} ms forward and back instead of {1000 * before:.1f} ms, {images} images at a time"
    )
    return tuned


def apply(recipe: Recipe, tuned: Mapping[str, bool]) -> None:
    """From now on as `tuned` says."""
    for path, layer in _open_layers(recipe.networks):
        layer.fused = tuned[path]


def agree(recipe: Recipe, team: Team) -> None:
    """Every process of a team computes each of these layers as the leading one does."""
    layers = [layer for _, layer in _open_layers(recipe.networks)]
    if layers:
        ways = team.led(torch.tensor([layer.fused for layer in layers])).tolist()
        for layer, fused in zip(layers, ways, strict=True):
            layer.fused = fused


def _open_layers(networks: Mapping[str, nn.Module]) -> Iterator[tuple[str, Modulation]]:
    """The layers whose spec leaves it open; those that show an image are cheap, and never fused by themselves."""
    for name, network in networks.items():
        for path, module in network.named_modules():
            if isinstance(module, StyledConv):
                injection = module.injection
                if isinstance(injection, Modulation) and injection.section.fused == "auto":
                    yield f"{name}.{path}.injection", injection


def _calls(recipe: Recipe, images: int) -> list[Call]:
    """With what each of these layers is called, in their order, for `images` images of the averaged generator."""
    seen: dict[nn.Module, Call] = {}

    def note(layer: nn.Module, args: tuple[Tensor, Tensor, Tensor], keywords: dict[str, Any]) -> None:
        x, weight_OIKK, w_NKD = (part.detach() for part in args)
        seen[layer] = Call(x, weight_OIKK, w_NKD, keywords)

    layers = [layer for _, layer in _open_layers({"average": recipe.generator_ema})]
    with ExitStack() as stack:
        for layer in layers:
            stack.callback(layer.register_forward_pre_hook(note, with_kwargs=True).remove)
        recipe.sample(images, 0)
    return [seen[layer] for layer in layers]


def _seconds(layer: Modulation, call: Call) -> tuple[float, float]:
    """Forward and back, with one convolution for all images and with weights for each."""
    fastest = {False: float("inf"), True: float("inf")}
    before = layer.fused
    for each in (False, True) * (ROUNDS + 1):  # the first round warms up
        layer.fused = each
        fastest[each] = min(fastest[each], _once(layer, call))
    layer.fused = before
    return fastest[False], fastest[True]


def _once(layer: Modulation, call: Call) -> float:
    given = [part.clone(memory_format=torch.preserve_format).requires_grad_(True) for part in call[:3]]
    _wait(call.x.device)
    started = time.perf_counter()
    made = layer(*given, **call.keywords).scaled(1.0, given[0].new_zeros(()))
    torch.autograd.grad(made.sum(), given)
    _wait(call.x.device)
    return time.perf_counter() - started


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _read(path: Path) -> dict[str, list[float]]:
    """What was measured before; nothing where that cannot be read."""
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        return {key: [float(shared), float(each)] for key, (shared, each) in known.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _write(path: Path, known: Mapping[str, list[float]]) -> None:
    with replacing(path) as aside:
        aside.write_text(json.dumps(known, indent=1), encoding="utf-8")
