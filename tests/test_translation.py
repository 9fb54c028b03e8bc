"""The translation recipe: what it asks of its networks, its pool, its clock; two domains of data; files translated."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from jobs import recipes
from jobs.data import Roots, Shown, make_pairs, open_data
from jobs.data.heightmaps import LIGHT, draw_pair
from jobs.errors import DataError, SpecError
from jobs.losses.reconstruction import premultiplied
from jobs.recipes.translation import ImagePool
from jobs.sampling import load_recipe
from jobs.spec import decay
from jobs.spec.pairs import Domains, HeightMaps
from jobs.training.recipe import Known
from service.cli import app
from tests.test_run import QUICK
from tests.tiny import EVERY, loaded, run_tiny

TINY = next(path for path in EVERY if path.stem == "translation")
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


def built(cache: Path, **changes):
    job = loaded(TINY, **changes).job
    paired = job.recipe.paired
    dataset = open_data(job.recipe.data, cache_dir=cache / "data", roots=Roots(Path()), paired=paired)
    return recipes.build(job, Known((), dataset.conditions), "fp32", CPU), dataset


def batch_of(dataset, count: int = 16, start: int = 0):
    at = np.arange(start, start + count, dtype=np.int64)
    return dataset.gather(Shown(1, at, at % len(dataset), np.zeros(count, np.bool_)))


# The recipe


LOSSES = ("none", "gan", "lsgan", "hinge", "wgan", "wgan-gp", "dragan")


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("paired", [False, True])
def test_every_loss_moves_every_network(cache, loss, paired):
    recipe, dataset = built(cache, **{"recipe.loss.adversarial": loss, "recipe.paired": paired})
    before = {name: [p.clone() for p in network.parameters()] for name, network in recipe.networks.items()}
    torch.manual_seed(0)
    scalars = recipe.step(batch_of(dataset), 0)
    assert all(bool(value.isfinite()) for value in scalars.values())
    for name, network in recipe.networks.items():
        assert any(not torch.equal(one, other) for one, other in zip(before[name], network.parameters(), strict=True))
    expected = {"G_AB"} if paired else {"G_AB", "G_BA"}
    judged = set() if loss == "none" else {"D_B"} if paired else {"D_A", "D_B"}
    assert set(recipe.networks) == expected | judged == expected | {f"D_{name[-1]}" for name in recipe.judges}
    if loss == "wgan":
        assert max(float(p.detach().abs().max()) for p in recipe.D.parameters()) <= 0.01 + 1e-9
    assert ("loss.penalty_B" in scalars) == (loss in ("wgan-gp", "dragan"))


@torch.no_grad()
def test_the_terms_and_their_weights_are_those_of_cyclegan(cache):
    recipe, dataset = built(cache, **{"training.micro_batch": 16})
    real = recipe._signed(batch_of(dataset))
    fakes = {way: recipe.G[way](real[way[0]]) for way in ["AB", "BA"]}
    terms = recipe._terms(real, fakes)
    assert {name: weight for name, (_, weight) in terms.items()} == {
        "loss.generator_AB": 1, "loss.generator_BA": 1, "loss.cycle_A": 10, "loss.cycle_B": 10,
        "loss.identity_A": 5, "loss.identity_B": 5,
    }  # fmt: skip
    logit = recipe.D["AB"](fakes["AB"])
    assert float(terms["loss.generator_AB"][0]) == pytest.approx(float(((logit + 0.5) - 1).square().mean()))
    assert float(terms["loss.cycle_A"][0]) == pytest.approx(
        float((recipe.G["BA"](fakes["AB"]) - real["A"]).abs().mean())
    )
    assert float(terms["loss.identity_B"][0]) == pytest.approx(
        float((recipe.G["AB"](real["B"]) - real["B"]).abs().mean())
    )


def test_a_paired_discriminator_sees_the_input(cache):
    recipe, dataset = built(cache, **{"recipe.paired": True})
    real = recipe._signed(batch_of(dataset, 4))
    one, other = (recipe._judge("AB", source, real["B"]) for source in (real["A"], -real["A"]))
    assert not torch.allclose(one, other)
    pair = dataset.gather(Shown(1, np.arange(3), np.array([5, 9, 2]), np.zeros(3, np.bool_)))
    for a, b, index in zip(pair.a_NCHW, pair.b_NCHW, (5, 9, 2), strict=True):
        assert np.array_equal(np.concatenate([a, b]), draw_pair(0, index, 32))


def test_generators_wait_while_critics_learn(cache):
    recipe, dataset = built(cache, **{"recipe.critic_steps": 3})
    moved = []
    for iteration in range(4):
        before = [p.clone() for p in recipe.G.parameters()]
        torch.manual_seed(iteration)
        recipe.step(batch_of(dataset), iteration * 16)
        moved.append(any(not torch.equal(one, other) for one, other in zip(before, recipe.G.parameters(), strict=True)))
    assert moved == [True, False, False, True]


def test_what_is_not_seen_is_not_judged():
    image = torch.rand(2, 4, 8, 8) * 2 - 1
    image[:, 3, :4] = -1  # transparent
    repainted = image.clone()
    repainted[:, :3, :4] = 0.7
    assert torch.equal(premultiplied(image), premultiplied(repainted))
    assert torch.equal(premultiplied(image)[:, :3, 4:][image[:, 3:, 4:].expand(-1, 3, -1, -1) == 1], torch.tensor([]))
    with pytest.raises(SpecError, match=r"alpha: premultiplied needs data.channels rgba"):
        data = {"kind": "domains", "a": "a", "b": "b", "resolution": 32, "channels": "rgb"}
        loaded(TINY, **{"recipe.alpha": "premultiplied", "recipe.data": data})


def test_the_pool_shows_older_images_half_of_the_time_whatever_the_batch():
    torch.manual_seed(0)
    pool = ImagePool(50, (1, 1, 1), CPU)
    shown = torch.cat([pool.exchange(torch.full((1, 1, 1, 1), float(n))) for n in range(1000)]).flatten()
    assert torch.equal(shown[:50], torch.arange(50.0)), "while it fills"
    fresh = float((shown[50:] == torch.arange(50.0, 1000.0)).float().mean())
    assert 0.45 < fresh < 0.55
    copy = ImagePool(50, (1, 1, 1), CPU)
    copy.load_state_dict(pool.state_dict())
    assert copy.filled == 50 and torch.equal(copy.images, pool.images)


def test_the_learning_rate_does_what_is_written(cache):
    linear = decay.Linear(start_images=100, end_images=200)
    assert [decay.factor(linear, images) for images in (0, 100, 150, 200, 300)] == [1, 1, 0.5, 0, 0]
    assert decay.factor(decay.LowerBy(share=0.02, every_images=10), 20) == pytest.approx(0.98**2)
    assert decay.factor(decay.MultiplyBy(factor=0.02, every_images=10), 20) == pytest.approx(0.0004)
    recipe, dataset = built(cache, **{"recipe.optimizer.discriminator_factor": 0.5})
    recipe.step(batch_of(dataset), 192)
    assert recipe.optimizers["G"].param_groups[0]["lr"] == pytest.approx(1e-4)
    assert recipe.optimizers["D"].param_groups[0]["lr"] == pytest.approx(5e-5)
    assert "falls evenly to 0 at 256" in recipe.effective(192)["learning_rate.decay"]


def test_presets_are_the_published_networks():
    job = loaded(TINY, **{"recipe.generator": {}, "recipe.discriminator": {}, "recipe.data.resolution": 256}).job
    kinds = [layer.kind for layer in job.recipe.generator.layers]
    assert kinds == ["conv", "down", "residual", "transposed", "final"] and job.recipe.generator.layers[2].count == 9
    from jobs.spec.size import size

    published = {name: count / 1e6 for name, count in size(job).parameters.items()}
    # 11.378 M and 2.765 M with three colours and no learned scale; one more channel, scales and offsets come on top.
    assert published["G_AB"] == pytest.approx(11.39, abs=0.02) and published["D_B"] == pytest.approx(2.77, abs=0.01)
    spap = loaded(TINY, **{"recipe.preset": "spap", "recipe.generator": {}, "recipe.data.resolution": 64}).job.recipe
    assert [layer.kind for layer in spap.generator.layers] == [
        "resize",
        "conv",
        "down",
        "spap",
        "up",
        "reconv",
        "final",
    ]
    assert spap.loss.identity == 0


# The data


def test_height_maps_are_lit_as_their_normals_say():
    """A follows from B: light = ambient + Lambert; where it is cut out, B is flat and A black."""
    for index in range(12):
        a, b = np.split(draw_pair(5, index, 64).astype(np.float64) / 255, 2)
        normal, inside = b[:3] * 2 - 1, a[3] > 0.5
        assert np.allclose(np.sqrt((normal**2).sum(0)), 1, atol=0.02)
        light = 0.35 + 0.65 * np.tensordot(LIGHT, normal, 1).clip(0)
        hue = a[:3] / np.maximum(light, 1e-6)
        if inside.any():
            assert hue[:, inside].max() <= 1.05
        assert np.all(a[:3, ~inside] == 0) and np.all(b[3, ~inside] == 0)
    assert not np.array_equal(draw_pair(5, 0, 64), draw_pair(6, 0, 64))


def test_unpaired_batches_have_an_order_of_their_own_for_each_domain(cache):
    _, dataset = built(cache)
    epoch = batch_of(dataset, 64)
    a_first, b_first = (images.numpy().reshape(64, -1) for images in epoch)
    a_all, b_all = (x.image_NCHW.reshape(64, -1) for x in (dataset.a, dataset.b))
    where = [int(np.flatnonzero((b_all == row).all(1))[0]) for row in b_first]
    assert sorted(where) == list(range(64)), "each image of B once an epoch"
    assert where != [int(np.flatnonzero((a_all == row).all(1))[0]) for row in a_first]
    again = batch_of(dataset, 8, start=24)
    assert torch.equal(again.b_NCHW, epoch.b_NCHW[24:32]), "a function of the position alone"
    assert len(dataset.asked_NCHW) == 16 and not np.array_equal(dataset.asked_NCHW[0], dataset.a.image_NCHW[0])


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("domains")
    for domain, suffix, shade in (("a", "jpg", 60), ("b", "png", 180)):
        (folder / domain / "in").mkdir(parents=True)
        for index in range(6):
            picture = Image.new("RGB", (40, 40), (shade, 20 * index, 10))
            picture.save(folder / domain / "in" / f"{index}.{suffix}")
    return folder


def domains(folder: Path, cache: Path, **changes):
    section = Domains(a="a", b="b", resolution=32, **changes)
    return open_data(section, cache_dir=cache, roots=Roots(folder), paired=section.paired)


def test_folders_and_zips_are_paired_by_name(folders, tmp_path):
    dataset = domains(folders, tmp_path, paired=True)
    assert len(dataset) == 6 and dataset.truth_NCHW is not None
    green = [images[:, 1].mean((1, 2)) for images in (dataset.asked_NCHW, dataset.truth_NCHW)]
    assert np.allclose(*green, atol=4)
    (folders / "b" / "in" / "9.png").write_bytes((folders / "b" / "in" / "0.png").read_bytes())
    with pytest.raises(DataError, match=r"data.b: 'in/9' has no counterpart in the other domain \(1 such images\)"):
        domains(folders, tmp_path / "again", paired=True)
    (folders / "b" / "in" / "9.png").unlink()
    a, b = make_pairs(HeightMaps(images=5, resolution=32), tmp_path)
    section = Domains(a=str(a), b=str(b), resolution=32, channels="rgba", paired=True)
    dataset = open_data(section, cache_dir=tmp_path, roots=Roots(Path()))
    assert np.array_equal(np.concatenate([dataset.asked_NCHW[3], dataset.truth_NCHW[3]]), draw_pair(0, 3, 32))


def test_domains_of_different_sizes_and_random_squares(folders, tmp_path):
    (folders / "a" / "in" / "more.png").write_bytes((folders / "b" / "in" / "0.png").read_bytes())
    dataset = domains(folders, tmp_path, crop_from=40, mirror=True)
    (folders / "a" / "in" / "more.png").unlink()
    assert (len(dataset.a.image_NCHW), len(dataset.b.image_NCHW), len(dataset)) == (7, 6, 7)
    assert dataset.truth_NCHW is None and dataset.images_NCHW.shape == (6, 3, 32, 32)
    at = np.arange(7, dtype=np.int64)
    corners = dataset._corners(Shown(1, at, at, np.zeros(7, np.bool_)), 0)
    assert corners.min() >= 0 and corners.max() <= 8 and len(np.unique(corners)) > 3
    with pytest.raises(DataError, match=r"data.b: there is nothing at 'c'"):
        open_data(Domains(a="a", b="c", resolution=32), cache_dir=tmp_path, roots=Roots(folders))


# Files


def test_a_checkpoint_translates_files(tmp_path, cache, folders):
    run_tiny(loaded(TINY, **QUICK, **{"training.images": 16, "diagnosis.enabled": False}), tmp_path / "run", cache)
    (folders / "a" / "in" / "broken.png").write_bytes(b"no image")
    done = CliRunner().invoke(
        app, ["translate", str(tmp_path / "run"), str(folders / "a"), "--out", str(tmp_path / "out")]
    )
    (folders / "a" / "in" / "broken.png").unlink()
    assert done.exit_code == 0, done.output
    assert "6 translations" in done.output and "in/broken.png" in done.output
    names = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.png"))
    assert names == [f"in/{index}.jpg.png" for index in range(6)]
    with Image.open(tmp_path / "out" / names[2]) as made:
        assert made.mode == "RGBA" and made.size == (32, 32)
        pixels = np.asarray(made).transpose(2, 0, 1)
    _, recipe = load_recipe(tmp_path / "run")
    with Image.open(folders / "a" / "in" / "2.jpg") as source:
        from jobs.data import decode

        image = decode((folders / "a" / "in" / "2.jpg").read_bytes(), 32, "rgba", "crop")
        assert source.size == (40, 40)
    expected = recipe.translate(torch.from_numpy(image[None]))[0].numpy()
    assert np.abs(pixels.astype(float) - (expected * 127.5 + 128).clip(0, 255)).max() <= 1
    back = CliRunner().invoke(
        app, ["translate", str(tmp_path / "run"), str(folders / "b"), "--out", str(tmp_path / "ba"), "--way", "BA"]
    )
    assert back.exit_code == 0 and len(list((tmp_path / "ba").rglob("*.png"))) == 6
    with pytest.raises(DataError, match="a translation draws from images"):
        recipe.sample(1, 0)


def test_check_prints_every_layer(tmp_path):
    done = CliRunner().invoke(app, ["check", str(TINY), "--json"])
    layers = json.loads(done.output)["layers"]
    assert [layer["text"] for layer in layers["generator"]][2] == "spap(2,k3)"
    assert layers["discriminator"][-1]["channels"] == 1 and layers["generator"][-1]["side"] == 32
