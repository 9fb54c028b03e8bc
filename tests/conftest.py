"""What every test shares."""

import os

# One thread a process, in the processes that tests start too: several of them share the machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the machine that runs the tests reaches them."""
    for name in list(os.environ):
        if name.startswith("GANKILN_"):
            monkeypatch.delenv(name)
