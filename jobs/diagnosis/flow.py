"""Where gradients go during a step: from which loss to which tensor, and whether an optimizer ever used them.

The graph behind every `backward()` is read before it runs, so what a loss reaches is known, not guessed: tensors in
plain Python lists are found as well, which no `parameters()` names.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.overrides import TorchFunctionMode

from jobs.training.recipe import Recipe


def reached(loss: Tensor) -> list[Tensor]:
    """The leaf tensors whose gradient `loss.backward()` will compute."""
    leaves: dict[int, Tensor] = {}
    seen: set[Any] = set()
    stack = [loss.grad_fn]
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if isinstance(variable := getattr(node, "variable", None), Tensor):
            leaves[id(variable)] = variable
        stack += [following for following, _ in node.next_functions]
    return list(leaves.values())


class Flow(TorchFunctionMode):
    """Listens to one recipe's steps. `problems` says what went wrong, one sentence each."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.recipe = recipe
        self.problems: dict[str, None] = {}
        self.backwards = 0
        self.ever_reached: dict[int, Tensor] = {}
        """Kept alive, so that no other tensor takes the id."""
        self._again: set[int] = set()
        self._phase = 0
        self._stepped_since_backward = False
        self._fresh: dict[int, set[int]] = {}
        """By tensor: the phases whose gradients it holds, not yet used by an optimizer."""
        self._used: set[int] = set()
        """Tensors whose gradient an optimizer has used, and nobody has cleared yet."""
        self._handles: list[Any] = []

    def __enter__(self) -> "Flow":
        for name, optimizer in self.recipe.optimizers.items():
            self._handles.append(optimizer.register_step_pre_hook(self._step_hook(name)))
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        for handle in self._handles:
            handle.remove()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not Tensor.backward:
            return func(*args, **(kwargs or {}))
        leaves = reached(args[0])
        self._before_backward(leaves)
        result = func(*args, **(kwargs or {}))
        for leaf in leaves:
            if _holds_gradient(leaf):
                self._fresh.setdefault(id(leaf), set()).add(self._phase)
        return result

    def step_ended(self) -> None:
        """To be called after every step of the recipe."""
        self._sweep()
        for path in self._paths(self._fresh):
            self._problem(f"{path}: its gradient was computed, but the step ended before an optimizer used it")
        self._fresh = {}

    def _before_backward(self, leaves: list[Tensor]) -> None:
        self._sweep()
        self.backwards += 1
        if self._stepped_since_backward:
            self._phase, self._stepped_since_backward = self._phase + 1, False
        stale = [id(leaf) for leaf in leaves if id(leaf) in self._used and _holds_gradient(leaf)]
        for path in self._paths(stale):
            self._problem(f"{path}: a new gradient is added to one that was already used (zero_grad is missing)")
        self._again |= self.ever_reached.keys() & {id(leaf) for leaf in leaves}
        self.ever_reached |= {id(leaf): leaf for leaf in leaves}

    def _sweep(self) -> None:
        """Which gradients were cleared since the last look, and had nobody used them?"""
        gone = [key for key in self._fresh if not _holds_gradient(self.ever_reached[key])]
        for path in self._paths(gone):
            self._problem(f"{path}: its gradient was computed and thrown away before an optimizer used it")
        for key in gone:
            del self._fresh[key]
        self._used = {key for key in self._used if _holds_gradient(self.ever_reached[key])}

    def _step_hook(self, name: str) -> Callable[..., None]:
        def used(optimizer: Optimizer, *_: Any) -> None:
            owned = [id(tensor) for tensor in _owned(optimizer)]
            foreign = [key for key in owned if any(phase < self._phase for phase in self._fresh.get(key, ()))]
            for path in self._paths(foreign):
                self._problem(
                    f"{path}: optimizer {name} moves it by a gradient of a loss that another optimizer had stepped on"
                )
            for key in owned:
                if self._fresh.pop(key, None):
                    self._used.add(key)
            self._stepped_since_backward = True

        return used

    def _paths(self, keys: Any) -> list[str]:
        """Paths of the learnable ones among the tensors with these ids."""
        names = paths(self.recipe) if keys else {}
        return [names[key] for key in keys if key in names]

    def _problem(self, sentence: str) -> None:
        self.problems[sentence] = None

    def ownership(self) -> list[str]:
        """Is each learnable tensor that a loss reached in exactly one optimizer?"""
        names, owners = paths(self.recipe), owners_of(self.recipe)
        sentences = []
        for key, tensor in self.ever_reached.items():
            learnable = isinstance(tensor, nn.Parameter) or key in names or key in self._again
            count = len(owners.get(key, ()))
            path = names.get(key, f"a tensor {tuple(tensor.shape)} of no network")
            if learnable and count == 0:
                sentences.append(f"{path}: a loss reaches it, but it is in no optimizer, so it never learns")
            if count > 1:
                sentences.append(f"{path}: is in {count} optimizers ({', '.join(owners[key])}), which both move it")
        return sentences


def owners_of(recipe: Recipe) -> dict[int, list[str]]:
    """By id of a tensor: the optimizers that hold it."""
    owners: dict[int, list[str]] = {}
    for name, optimizer in recipe.optimizers.items():
        for tensor in _owned(optimizer):
            owners.setdefault(id(tensor), []).append(name)
    return owners


def paths(recipe: Recipe) -> dict[int, str]:
    """By id: the path of every learnable tensor of the recipe's networks, those in plain attributes too."""
    names: dict[int, str] = {}
    for network, module in recipe.networks.items():
        names |= {id(tensor): path for path, tensor in _tensors(module, network, set())}
        names |= {id(tensor): f"{network}.{path}" for path, tensor in module.named_parameters()}
    return names


def _tensors(value: Any, path: str, seen: set[int]) -> Iterator[tuple[str, Tensor]]:
    """Tensors that want a gradient below `value`: in modules and their attributes, lists, tuples, dictionaries."""
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, Tensor):
        if value.requires_grad and value.is_leaf:
            yield path, value
        return
    for inner_path, inner in _within(value, path):
        yield from _tensors(inner, inner_path, seen)


def _within(value: Any, path: str) -> list[tuple[str, Any]]:
    """What `value` holds, each with its path."""
    match value:
        case nn.Module():
            own = ("_parameters", "_modules", "_buffers")  # a module's own tables do not show in paths
            return [(path if name in own else f"{path}.{name}", inner) for name, inner in vars(value).items()]
        case Mapping():
            return [(f"{path}.{key}", inner) for key, inner in value.items()]
        case list() | tuple():
            return [(f"{path}[{index}]", inner) for index, inner in enumerate(value)]
        case _:
            return []


def _owned(optimizer: Optimizer) -> Iterator[Tensor]:
    for group in optimizer.param_groups:
        yield from group["params"]


@torch.no_grad()
def _holds_gradient(tensor: Tensor) -> bool:
    return tensor.grad is not None and bool((tensor.grad != 0).any())
