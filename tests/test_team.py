"""Two processes train as one does: the same weights but for rounding, for every recipe; stopped, resumed by another
number; and whatever ends one of them ends the job with its reason."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml

from jobs.errors import DeviceError, SpecError
from jobs.events import read_events
from jobs.spec import load
from jobs.spec.resolve import micro_batches
from jobs.training import state
from jobs.training.shares import Shares
from tests.tiny import EVERY, TINY, loaded, run_tiny

QUICK = {
    "training.images": 192, "training.checkpoint_images": 96, "training.sample_images": 192,
    "evaluation.samples": 16, "evaluation.sanity": False, "evaluation.untrained": False,
    "evaluation.metrics": ["fd"], "evaluation.features": ["pixels"], "evaluation.intervals": False,
    "diagnosis.enabled": False, "diagnosis.wiring": False,
}  # fmt: skip
BY_NAME = {path.stem: path for path in EVERY}


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


def parts(out: Path) -> dict:
    """Everything that the newest checkpoint holds."""
    return state.load_verified(state.complete(out / "checkpoints")[-1].path)["parts"]


def flat(value, path: str = "") -> dict[str, torch.Tensor]:
    """Every tensor in nested `value`, by its path."""
    if isinstance(value, torch.Tensor):
        return {path: value.double()}
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    return {name: tensor for key, part in inner for name, tensor in flat(part, f"{path}/{key}").items()}


def furthest(one: Path, other: Path) -> tuple[float, str]:
    """The largest difference between two runs' last checkpoints, and where it is."""
    ours, theirs = flat(parts(one)), flat(parts(other))
    assert ours.keys() == theirs.keys()
    return max((float((ours[name] - theirs[name]).abs().max()), name) for name in ours if ours[name].numel())


@pytest.mark.parametrize("name", BY_NAME)
def test_two_processes_train_as_one_does(name, tmp_path, cache):
    for devices, out in ((1, "one"), (2, "two")):
        run_tiny(loaded(BY_NAME[name], **QUICK, **{"training.devices": devices}), tmp_path / out, cache)
    far, where = furthest(tmp_path / "one", tmp_path / "two")
    assert far < 1e-5, where
