"""Fits a job into memory: smaller micro-batches of the same batch, then activations computed twice instead of kept.

A twin of the recipe takes real steps, at the beginning and at the end of the run's clock, while every tensor that
lives is counted, on any device; a step that grows beyond the limit is broken off at once. Nothing of it touches
the run. What was decided is kept with the progress, so a run that is resumed goes on with it, whatever is free by then.
"""

import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from jobs.errors import DoesNotFit
from jobs.training.recipe import Recipe
from jobs.training.recompute import recomputable, set_recompute
from jobs.training.seeds import derived_seed

LAZY = 48
"""Iterations: a multiple of the usual intervals of lazy penalties."""
DEVICE_SHARE = 0.9
"""Of a device's free memory: the rest is what allocators lose, and what kernels need beside tensors."""
CGROUP = Path("/sys/fs/cgroup")
ELSEWHERE = "weights, moments and backward passes"


@dataclass(frozen=True)
class Fitted:
    """How a job fits."""

    micro_batch: int
    recompute: bool
    peak_bytes: int
    """Most bytes of tensors that lived at once in a step."""
    sentences: tuple[str, ...] = ()
    """Every decision on the way, for people."""


class TooMuchError(Exception):
    """A step grew beyond the limit; `by_place` says what held how many bytes then."""

    def __init__(self, by_place: Counter[str]) -> None:
        super().__init__("more than the limit")
        self.by_place = by_place


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of all tensors on `device` that were made meanwhile and live; by the module that made them."""

    def __init__(self, device: torch.device, limit_bytes: int | None = None) -> None:
        super().__init__()
        self.device, self.limit_bytes = device, limit_bytes
        self.now = self.peak = 0
        self.by_place: Counter[str] = Counter()
        self.places = [ELSEWHERE]
        self._seen: dict[int, Any] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor) and leaf.device.type == self.device.type:
                self._see(leaf)
        return result

    def _see(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._seen:
            return
        size_bytes, place = storage.nbytes(), self.places[-1]
        self._seen[key] = weakref.finalize(storage, self._gone, key, size_bytes, place)
        self.now += size_bytes
        self.by_place[place] += size_bytes
        self.peak = max(self.peak, self.now)
        if self.limit_bytes is not None and self.now > self.limit_bytes:
            raise TooMuchError(Counter(self.by_place))

    def _gone(self, key: int, size_bytes: int, place: str) -> None:
        self._seen.pop(key, None)
        self.now -= size_bytes
        self.by_place[place] -= size_bytes

    def close(self) -> None:
        """What lives on is no longer watched."""
        for finalizer in self._seen.values():
            finalizer.detach()
        self._seen.clear()


def fit(
    build: Callable[[], Recipe],
    batch: Any,
    sizes: Sequence[int],
    limit_bytes: int,
    device: torch.device,
    *,
    moments: Sequence[int],
    advice: Callable[[], str],
) -> Fitted:
    """The first of `sizes` (micro-batches, the largest first), kept or recomputed, whose steps stay below the limit.

    `moments`: images shown before each step of the twin, see `moments_of`. Raises DoesNotFit that names what holds
    most; `advice` says what would fit, where nothing does.
    """
    sentences: list[str] = []
    most: Counter[str] = Counter()
    for recompute, size in product((False, True), sizes):
        tried = f"{size} images at a time" + (", activations recomputed" if recompute else "")
        found = measure(build, batch, size, recompute, limit_bytes, device, moments)
        if isinstance(found, int):
            if sentences:
                sentences.append(f"memory: {tried}: a step takes {_size(found)}; the gradients are the whole batch's")
            return Fitted(size, recompute, found, tuple(sentences))
        most = found
        sentences.append(f"memory: {tried}: more than {_size(limit_bytes)}, most of it in {_largest(most)}")
    raise DoesNotFit(
        f"training.max_memory_bytes: even {sizes[-1]} images at a time with recomputed activations take more than "
        f"{_size(limit_bytes)}; most of it is in {_largest(most)}",
        hint=advice(),
    )


def moments_of(images: int, batch: int) -> tuple[int, ...]:
    """When a run of `images` takes most: at first, again with its optimizers' moments, and fully grown at last.

    A second iteration may go another way than the first: a StylEx alternates. The last iteration may have no lazy
    penalty, so the last one that has them all is looked at, too.
    """
    last = max(images - batch, 0) // batch * batch
    return 0, 0, *sorted({min(batch, last), last // (LAZY * batch) * (LAZY * batch), last} - {0})


def measure(
    build: Callable[[], Recipe],
    batch: Any,
    micro_batch: int,
    recompute: bool,
    limit_bytes: int,
    device: torch.device,
    moments: Sequence[int] = (0, 0),
) -> int | Counter[str]:
    """Most bytes that live at once while a twin takes steps; who held what, where that is too much."""
    meter = LiveBytes(device, limit_bytes)
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(derived_seed("fitting"))
        try:
            with meter, ExitStack() as stack:
                recipe = build()
                apply(recipe, micro_batch, recompute=recompute)
                _watch_places(recipe, meter, stack)
                for images in moments:
                    recipe.step(batch, images)
        except TooMuchError as error:
            return error.by_place
        except (torch.OutOfMemoryError, MemoryError):
            return Counter(meter.by_place)
        finally:
            meter.close()
            if device.type == "cuda":
                torch.cuda.empty_cache()
    return meter.peak


def apply(recipe: Recipe, micro_batch: int, *, recompute: bool) -> None:
    """From now on `micro_batch` images at a time, and activations computed twice or kept."""
    vars(recipe)["micro_batch"] = micro_batch
    set_recompute(recomputable(recipe.networks), on=recompute)


def free_bytes(device: torch.device) -> int:
    """What a run may take: of a GPU what is free; else of the machine, or of the container that this is."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0] * DEVICE_SHARE)
    free = psutil.virtual_memory().available
    try:
        limit, used = (int((CGROUP / name).read_text()) for name in ("memory.max", "memory.current"))
    except (OSError, ValueError):  # no such container, or no limit: "max"
        return int(free * DEVICE_SHARE)
    return int(min(free, limit - used) * DEVICE_SHARE)


def _watch_places(recipe: Recipe, meter: LiveBytes, stack: ExitStack) -> None:
    """Has `meter` know which block of which network is computing."""
    for network, root in recipe.networks.items():
        for path, module in _placed(root, network):

            def enter(_module: nn.Module, _args: Any, path: str = path) -> None:
                meter.places.append(path)

            def leave(_module: nn.Module, _args: Any, _output: Any) -> None:
                meter.places.pop()

            stack.enter_context(_removing(module.register_forward_pre_hook(enter)))
            stack.enter_context(_removing(module.register_forward_hook(leave, always_call=True)))


def _placed(root: nn.Module, network: str) -> Iterator[tuple[str, nn.Module]]:
    """Blocks with their places: `G_AB, layer 3 spap(5,k3)`, where the network labels its layers, else their paths."""
    labels = getattr(root, "labels", None)
    for path, module in root.named_modules():
        *parents, last = path.split(".")
        if parents and parents[-1] in ("layers", "blocks") and last.isdigit() and len(parents) <= 2:
            yield (
                (f"{network}, {labels[int(last)]}" if labels and parents == ["layers"] else f"{network}.{path}"),
                module,
            )


def _removing(handle: Any) -> ExitStack:
    stack = ExitStack()
    stack.callback(handle.remove)
    return stack


def _largest(by_place: Counter[str]) -> str:
    blocks = Counter({place: held for place, held in by_place.items() if place != ELSEWHERE and held > 0})
    place, held = (blocks or by_place or Counter({ELSEWHERE: 0})).most_common(1)[0]
    return f"{place} ({_size(held)})"


def _size(size_bytes: float) -> str:
    return f"{size_bytes / 1e9:.2f} GB" if size_bytes >= 1e9 else f"{size_bytes / 1e6:.1f} MB"
