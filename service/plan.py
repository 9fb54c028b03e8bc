"""What `gankiln check` prints: the plan of a job, before anything is spent on it."""

import json
from dataclasses import asdict
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

from jobs.evaluation.weights import missing_weights
from jobs.spec import Derived, Loaded, outlook, warnings
from jobs.spec.size import size
from service import settings


def plan(loaded: Loaded) -> dict[str, Any]:
    """The plan as plain values."""
    job = loaded.job
    training = job.training
    assert training.batch is not None and training.micro_batch is not None, "a resolved spec"
    weight = size(job)
    iterations = -(-training.images // training.batch)
    return {
        "name": job.name,
        "recipe": job.recipe.kind,
        "seed": job.seed,
        "images": training.images,
        "iterations": iterations,
        "batch": training.batch,
        "devices": training.devices,
        "accumulation": training.accumulation,
        "parameters": weight.parameters,
        "memory_bytes": weight.memory_bytes,
        "layers": {network.name: [asdict(layer) for layer in network.layers] for network in weight.networks},
        "remarks": list(weight.remarks),
        "outlook": list(outlook(job)),
        "derived": [{"path": d.path, "value": d.value, "formula": d.formula} for d in loaded.derived],
        "warnings": [*warnings(job), *missing_weights(job.evaluation, settings.load().weights)],
        "resolved": job.model_dump(mode="json"),
    }


def print_plan(loaded: Loaded, *, as_json: bool) -> None:
    """Prints the plan: tables for people, JSON for programs."""
    facts = plan(loaded)
    if as_json:
        print(json.dumps(facts, indent=2))  # noqa: T201  the output of the command
        return
    console = Console(highlight=False)
    batches = f"{facts['iterations']:,} iterations of {facts['batch']}"
    if facts["devices"] > 1:
        batches += f" shared by {facts['devices']} devices"
    if facts["accumulation"] > 1:
        batches += f", each in {facts['accumulation']} micro-batches"
    console.print(f"[bold]{facts['name']}[/bold]: {facts['recipe']}, {facts['images']:,} images ({batches})")
    each = " a device" if facts["devices"] > 1 else ""
    parameters = ", ".join(f"{name} {count:,}" for name, count in facts["parameters"].items())
    console.print(f"parameters: {parameters}; estimated memory: {facts['memory_bytes'] / 1e9:.2f} GB{each}")
    for remark in (*facts["remarks"], *facts["outlook"]):
        console.print(remark, soft_wrap=True)
    for name, layers in facts["layers"].items():
        _print_layers(console, name, layers)
    _print_derived(console, loaded.derived)
    for sentence in facts["warnings"]:
        console.print(f"[yellow]warning:[/yellow] {sentence}", soft_wrap=True)
    console.print("\n[bold]resolved spec[/bold]")
    console.print(yaml.safe_dump(facts["resolved"], sort_keys=False), markup=False, soft_wrap=True)


def _print_layers(console: Console, name: str, layers: list[dict[str, Any]]) -> None:
    """What every layer of a network puts out, and what it weighs; the widest in memory is marked."""
    most = max(layer["kept"] for layer in layers)
    table = Table(box=None, pad_edge=False, title=f"{name}: for one image, in float32", title_justify="left")
    table.add_column("layer")
    for column in ("output", "parameters", "activations"):
        table.add_column(column, justify="right")
    for layer in layers:
        marked = " (most)" if layer["kept"] == most else ""
        table.add_row(
            f"{layer['number']} {layer['text']}",
            f"{layer['channels']} x {layer['side']} x {layer['side']}",
            f"{layer['parameters']:,}",
            f"{4 * layer['kept'] / 1e6:,.2f} MB{marked}",
        )
    console.print(table)


def _print_derived(console: Console, derived: tuple[Derived, ...]) -> None:
    if not derived:
        return
    table = Table(box=None, pad_edge=False, title="derived: values that the spec leaves open", title_justify="left")
    for column in ("key", "value", "from"):
        table.add_column(column, overflow="fold")
    for value in derived:
        table.add_row(
            value.path, f"{value.value:,}" if isinstance(value.value, int) else str(value.value), value.formula
        )
    console.print(table)
