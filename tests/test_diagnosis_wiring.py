"""The wiring check names what is wrong, and leaves alone what is right."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Adam

from jobs.diagnosis.layers import bounded_by
from jobs.diagnosis.wiring import SETTLED_STEPS, Miswired, Settled, check_wiring
from jobs.errors import Diverged
from jobs.training.probe import Logits
from tests.toy_recipes import BATCH, Batch, Dis, Gen, Toy


def wrong(recipe_class: type[Toy]) -> str:
    """The message of the check on a recipe that is wired wrongly."""
    with pytest.raises(Miswired) as caught:
        check_wiring(recipe_class, BATCH, len(BATCH.image_NCHW))
    assert caught.value.exit_code == Diverged.exit_code == 67
    assert caught.value.finding.verdict == "failure"
    return caught.value.message


def test_a_recipe_that_is_wired_rightly_passes() -> None:
    finding = check_wiring(Toy, BATCH, len(BATCH.image_NCHW))
    assert (finding.verdict, finding.detector) == ("healthy", "wiring")
    assert "8 tensors" in finding.message


def test_the_check_leaves_the_default_random_numbers_where_they_were() -> None:
    torch.manual_seed(3)
    expected = torch.rand(5)
    torch.manual_seed(3)
    check_wiring(Toy, BATCH, len(BATCH.image_NCHW))
    assert torch.equal(torch.rand(5), expected)


class ListGen(Gen):
    """Its to-RGB layers are in a plain list, where no `parameters()` finds them."""

    def __init__(self) -> None:
        super().__init__()
        self.to_rgb = [nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)]

    def forward(self, z: Tensor) -> Tensor:
        return self.to_rgb[1](super().forward(z))


def test_layers_in_a_plain_list_are_found_and_named() -> None:
    class Wrong(Toy):
        def make_optimizers(self) -> None:
            self.G = ListGen()
            super().make_optimizers()

    message = wrong(Wrong)
    assert "G.to_rgb[1].weight: a loss reaches it, but it is in no optimizer" in message
    assert "G.to_rgb[0].weight: wants a gradient, but no loss reaches it" in message


def test_a_registered_layer_left_out_of_the_optimizer() -> None:
    class Wrong(Toy):
        def make_optimizers(self) -> None:
            self.G_optimizer = Adam(self.G.dense.parameters(), lr=0.01)
            self.D_optimizer = Adam(self.D.parameters(), lr=0.01)

    assert "G.body.weight: a loss reaches it, but it is in no optimizer" in wrong(Wrong)


def test_a_tensor_in_two_optimizers() -> None:
    class Wrong(Toy):
        def make_optimizers(self) -> None:
            self.G_optimizer = Adam([*self.G.parameters(), self.D.head.bias], lr=0.01)
            self.D_optimizer = Adam(self.D.parameters(), lr=0.01)

    assert "D.head.bias: is in 2 optimizers (G, D)" in wrong(Wrong)


def test_a_layer_made_at_the_first_call_is_in_no_optimizer() -> None:
    class Lazy(Dis):
        def forward(self, x: Tensor) -> Tensor:
            if not hasattr(self, "late"):
                self.late = nn.Linear(1, 1)
            return self.late(super().forward(x))

    class Wrong(Toy):
        def make_optimizers(self) -> None:
            self.D = Lazy()
            super().make_optimizers()

    assert "D.late.weight: a loss reaches it, but it is in no optimizer" in wrong(Wrong)


def test_gradients_of_the_discriminator_computed_in_the_generators_step_and_thrown_away() -> None:
    class Wrong(Toy):
        def freeze(self, network: nn.Module) -> None:
            pass

        def learn_to_judge(self, batch: Batch) -> Tensor:
            self.D_optimizer.zero_grad()
            return super().learn_to_judge(batch)

    assert "D.body.weight: its gradient was computed and thrown away" in wrong(Wrong)


def test_gradients_wiped_before_the_step() -> None:
    class Wrong(Toy):
        def learn_to_judge(self, batch: Batch) -> Tensor:
            reconstruction = self.fakes(batch).square().mean()
            reconstruction.backward()
            loss = super().learn_to_judge(batch)
            self.G_optimizer.zero_grad()
            return loss

    assert "G.dense.weight: its gradient was computed" in wrong(Wrong)


def test_the_discriminator_moved_by_the_generators_loss() -> None:
    class Wrong(Toy):
        def freeze(self, network: nn.Module) -> None:
            pass

    assert "D.body.weight: optimizer D moves it by a gradient of a loss that another optimizer" in wrong(Wrong)


def test_a_gradient_that_is_added_to_one_already_used() -> None:
    class Wrong(Toy):
        def learn_to_judge(self, batch: Batch) -> Tensor:
            for _ in range(2):
                d = self.judgement_loss(Logits(self.D(batch.image_NCHW), self.D(self.fakes(batch).detach())))
                d.backward()
                self.D_optimizer.step()
            self.D_optimizer.zero_grad()
            return d.detach()

    assert "D.head.weight: a new gradient is added to one that was already used" in wrong(Wrong)


def test_an_encoder_and_a_generator_may_share_a_loss() -> None:
    class Joint(Toy):
        def make_optimizers(self) -> None:
            self.G_optimizer = Adam(self.G.body.parameters(), lr=0.01)
            self.E_optimizer = Adam(self.G.dense.parameters(), lr=0.01)
            self.D_optimizer = Adam(self.D.parameters(), lr=0.01)

        @property
        def optimizers(self):
            return {"G": self.G_optimizer, "E": self.E_optimizer, "D": self.D_optimizer}

        def step(self, batch: Batch, images: int) -> dict[str, Tensor]:
            self.freeze(self.D)
            g = F.softplus(-self.D(self.fakes(batch))).mean()
            g.backward()
            for optimizer in (self.G_optimizer, self.E_optimizer):
                optimizer.step()
                optimizer.zero_grad()
            self.thaw(self.D)
            return {"loss.generator": g.detach(), "loss.discriminator": self.learn_to_judge(batch)}

    check_wiring(Joint, BATCH, len(BATCH.image_NCHW))


def test_equal_targets_for_real_and_generated_images() -> None:
    class Wrong(Toy):
        def judgement_loss(self, logits: Logits) -> Tensor:
            return F.softplus(-logits.real_N).mean() + F.softplus(-logits.fake_M).mean()

    assert "targets" in wrong(Wrong)


def test_a_discriminator_that_cannot_learn() -> None:
    class Wrong(Toy):
        def make_optimizers(self) -> None:
            super().make_optimizers()
            self.D_optimizer = Adam(self.D.parameters(), lr=0.0)

    assert "the discriminator does not learn" in wrong(Wrong)


def test_a_head_with_a_bounded_range() -> None:
    class Bounded(Dis):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).sigmoid().reshape(-1, 1) * 2

    class Wrong(Toy):
        def make_optimizers(self) -> None:
            self.D = Bounded()
            super().make_optimizers()

    assert "logits end in Sigmoid" in wrong(Wrong)


@pytest.mark.parametrize("bound", ["tanh", "sigmoid", "relu", "clamp"])
def test_every_kind_of_bound_is_seen_through_reshaping(bound: str) -> None:
    x = torch.randn(4, 3, requires_grad=True)
    y = {"tanh": torch.tanh, "sigmoid": torch.sigmoid, "relu": torch.relu, "clamp": lambda x: x.clamp(0, 1)}[bound](x)
    assert bounded_by(y.view(2, 6)[:, None].mean(2) / 3)
    assert bounded_by((y @ torch.randn(3, 1)).flatten()) is None


def test_a_normaliser_without_epsilon_is_named_and_not_what_is_around_it() -> None:
    class Norm(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x / x.square().mean(1, keepdim=True).sqrt()

    class Wrong(Toy):
        def make_optimizers(self) -> None:
            self.D.body = nn.Sequential(self.D.body, Norm())
            super().make_optimizers()

    message = wrong(Wrong)
    assert "D.body.1: a constant input gives results or gradients that are not finite" in message
    assert "D.body:" not in message and "D:" not in message


@pytest.mark.parametrize("norm", [nn.InstanceNorm2d(8), nn.BatchNorm2d(8), nn.GroupNorm(2, 8)])
def test_normalisers_with_epsilon_pass(norm: nn.Module) -> None:
    class Normed(Toy):
        def make_optimizers(self) -> None:
            self.D.body = nn.Sequential(self.D.body, norm)
            super().make_optimizers()

    check_wiring(Normed, BATCH, len(BATCH.image_NCHW))


def test_a_dilation_that_does_nothing() -> None:
    class Wrong(Toy):
        def make_optimizers(self) -> None:
            self.G.body = nn.Sequential(nn.Conv2d(3, 3, 1, dilation=5), nn.Conv2d(3, 3, 3, dilation=2, padding=2))
            super().make_optimizers()

    message = wrong(Wrong)
    assert "G.body.0: a dilation of (5, 5)" in message and "G.body.1" not in message


class Even(nn.Conv2d):
    """2x2, padded right and below only."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.pad(x, (0, 1, 0, 1)))


def test_an_even_kernel_that_shifts() -> None:
    class Wrong(Toy):
        def make_optimizers(self) -> None:
            self.G.body = Even(3, 3, 2)
            super().make_optimizers()

    assert "G.body: its 2x2 kernel moves the picture by 0.50 pixels" in wrong(Wrong)


def test_a_centred_even_kernel_passes() -> None:
    class Centred(Toy):
        def make_optimizers(self) -> None:
            self.D.body = nn.Conv2d(3, 8, 4, stride=2, padding=1)
            super().make_optimizers()

    check_wiring(Centred, BATCH, len(BATCH.image_NCHW))


def test_after_ten_steps_every_tensor_has_moved() -> None:
    toy = Toy()
    settled = Settled(toy, len(BATCH.image_NCHW))
    for step in range(SETTLED_STEPS):
        toy.step(BATCH, 4 * step)
    settled.refuse_unmoved()


def test_a_tensor_that_never_moves_is_named() -> None:
    toy = Toy()
    toy.G.body.weight.register_hook(torch.zeros_like)
    settled = Settled(toy, len(BATCH.image_NCHW))
    for step in range(SETTLED_STEPS):
        toy.step(BATCH, 4 * step)
    with pytest.raises(Miswired, match=r"G\.body\.weight: has not moved in 10 steps"):
        settled.refuse_unmoved()


def test_what_starts_at_zero_gradient_may_begin_late() -> None:
    """A residual branch whose last layer is zero gives its first layer a gradient from the second step on only."""

    class Residual(Toy):
        def make_optimizers(self) -> None:
            last = nn.Conv2d(3, 3, 1)
            nn.init.zeros_(last.weight)
            self.G.body = nn.Sequential(nn.Conv2d(3, 3, 1), last)
            super().make_optimizers()

    toy = Residual()
    check_wiring(Residual, BATCH, len(BATCH.image_NCHW))
    settled = Settled(toy, len(BATCH.image_NCHW))
    for step in range(SETTLED_STEPS):
        toy.step(BATCH, 4 * step)
    settled.refuse_unmoved()
    assert not math.isclose(float(toy.G.body[0].weight.detach().abs().sum()), 0.0)
