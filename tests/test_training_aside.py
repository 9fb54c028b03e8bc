"""Writing beside training: in order, bounded, and no error is lost."""

import threading

import pytest
import torch

from jobs.errors import StoreError
from jobs.training import state
from jobs.training.aside import MOST_WAITING, Aside
from jobs.training.state import Progress
from tests.toy_recipes import Toy


def test_writes_in_order_and_leaving_waits_for_all():
    written = []
    with Aside() as aside:
        for number in range(7):
            aside.do(lambda number=number: written.append(number))
    assert written == list(range(7))


def test_no_more_than_a_few_wait_at_a_time():
    gate, begun = threading.Event(), []
    with Aside() as aside:

        def slow() -> None:
            begun.append("slow")
            gate.wait(10)

        for _ in range(MOST_WAITING):
            aside.do(slow)
        caller = threading.Thread(target=aside.do, args=(lambda: begun.append("last"),))
        caller.start()
        caller.join(0.2)
        assert caller.is_alive(), "the caller waits, so that copies of weights do not fill memory"
        gate.set()
        caller.join(10)
    assert begun[-1] == "last"


def fail() -> None:
    raise StoreError("the disk is full")


def test_an_error_is_raised_when_leaving():
    with pytest.raises(StoreError, match="full"), Aside() as aside:
        aside.do(fail)


def test_the_error_of_the_training_is_the_one_that_is_told():
    with pytest.raises(ValueError, match="mine"), Aside() as aside:
        aside.do(fail)
        raise ValueError("mine")


def test_a_snapshot_does_not_see_what_training_does_next(tmp_path):
    recipe, progress = Toy(), Progress(64, diagnosis={"memory": {"best": 1.0}})
    before = {name: tensor.clone() for name, tensor in recipe.G.state_dict().items()}
    taken = state.snapshot(progress, recipe, {})
    progress.images, progress.diagnosis["memory"]["best"] = 128, 2.0
    with torch.no_grad():
        for parameter in recipe.G.parameters():
            parameter.add_(1.0)
    saved = state.save(tmp_path, taken, keep=2)
    content = state.load_verified(saved.path)
    assert content["progress"]["images"] == 64 and content["progress"]["diagnosis"] == {"memory": {"best": 1.0}}
    assert all(torch.equal(content["parts"]["G"][name], tensor) for name, tensor in before.items())
