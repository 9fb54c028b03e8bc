"""What a talking face leaves open, what contradicts itself in it, and what was regretted by people who wrote it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from jobs.spec.fill import Derived, fill
from jobs.spec.talking_face import ADVERSARIES, TERMS, Generator, Preset, TalkingFace
from jobs.spec.talking_face_size import unet_sides
from jobs.spec.yaml_tree import Path


@dataclass(frozen=True)
class _Defaults:
    """One row of the presets table."""

    weights: dict[str, float]
    learning_rates: dict[str, float]
    l1_region: str
    norm: str
    gru_layers: int
    noise: str
    identity_chs: tuple[int, ...]
    sequence: str
    sequence_frames: int | None
    """None: the whole window."""
    sync_frames: int
    negatives: str = "both"


_PRESETS: dict[Preset, _Defaults] = {
    # Vougioukas, Petridis and Pantic 2018: a code a frame, and three discriminators.
    "per_frame": _Defaults(
        weights={"l1": 600.0, "identity": 1.0, "sequence": 0.2, "sync": 0.8},
        learning_rates={"generator": 1e-4, "identity": 1e-4, "sequence": 1e-5, "sync": 1e-5},
        l1_region="lower",
        norm="batch",
        gru_layers=2,
        noise="gru",
        identity_chs=(16, 32, 64, 1),
        sequence="conv_gru",
        sequence_frames=None,
        sync_frames=5,
    ),
    # The notes' U-Net as of 21 March; with negatives of both kinds and bounded logits for nobody.
    "unpadded_unet": _Defaults(
        weights={"l1": 600.0, "identity": 1.0, "sequence": 0.6, "sync": 1.6},
        learning_rates={"generator": 1e-4, "identity": 1e-4, "sequence": 1e-4, "sync": 1e-4},
        l1_region="full",
        norm="none",
        gru_layers=0,
        noise="independent",
        identity_chs=(16, 32, 1),
        sequence="gru_head",
        sequence_frames=2,
        sync_frames=1,
    ),
}
BATCH = 4
_FRAMES_JUDGED = 3
_LEAST_LEFT = 0.01


def default_batch(recipe: TalkingFace) -> tuple[int, str]:
    """Windows an iteration where the spec does not say, and the formula."""
    return BATCH, f"{BATCH} windows of {recipe.data.window_frames} frames"


def resolve(recipe: TalkingFace, notes: list[Derived]) -> TalkingFace:
    """`recipe` with every open value filled."""
    row, formula = _PRESETS[recipe.preset], f"preset {recipe.preset}"
    rates = row.learning_rates
    weights = fill(recipe.weights, "recipe.weights", {k: (v, formula) for k, v in row.weights.items()}, notes)
    l1 = fill(recipe.l1, "recipe.l1", {"region": (row.l1_region, formula)}, notes)
    optimizer = fill(
        recipe.optimizer, "recipe.optimizer", {"learning_rate": (rates["generator"], formula)}, notes
    )  # fmt: skip
    update = {
        "generator": _generator(recipe, row, notes),
        "discriminators": _discriminators(recipe, row, notes),
        "weights": weights,
        "l1": l1,
        "optimizer": optimizer,
    }
    return recipe.model_copy(update=update)


def _generator(recipe: TalkingFace, row: _Defaults, notes: list[Derived]) -> Generator:
    preset, path = f"preset {recipe.preset}", "recipe.generator"
    shape = fill(recipe.generator, path, {"architecture": (recipe.preset, "preset"), "norm": (row.norm, preset)}, notes)
    audio = fill(shape.audio, f"{path}.audio", {"gru_layers": (row.gru_layers, preset)}, notes)
    noise = fill(shape.noise, f"{path}.noise", {"kind": (row.noise, preset)}, notes)
    shape = shape.model_copy(update={"audio": audio, "noise": noise})
    if shape.architecture == "per_frame":
        return shape
    down = shape.enc_chs or _halving(recipe.data.resolution)
    maps = 1 + (noise.kind != "none")
    up = (down[-1] + maps, *reversed(down[:-1]))
    joined = tuple(wide + beside for wide, beside in zip(up[1:], reversed(down[:-1]), strict=True))
    return fill(
        shape, path,
        {
            "enc_chs": (down, "64 doubling, while 4 pixels are left"),
            "up_chs": (up, "enc_chs[-1] + one map for sound, one for noise; then enc_chs reversed"),
            "dec_chs": ((*joined, down[0]), "up_chs[i + 1] + enc_chs[-2 - i]; then enc_chs[0]"),
        },
        notes,
    )  # fmt: skip


def _halving(resolution: int) -> tuple[int, ...]:
    """64, 128 ... for as many levels as leave at least 4 pixels at the bottom, five at most."""
    for levels in range(5, 2, -1):
        channels = tuple(64 * 2**level for level in range(levels))
        sides = unet_sides(resolution, levels)
        if sides and sides[-1] >= 4:
            return channels
    return (64, 128)


def _discriminators(recipe: TalkingFace, row: _Defaults, notes: list[Derived]) -> Any:
    judges, preset, path = recipe.discriminators, f"preset {recipe.preset}", "recipe.discriminators"
    rates = row.learning_rates
    own: dict[str, dict[str, tuple[Any, str]]] = {
        "identity": {
            "chs": (row.identity_chs, preset),
            "frames": (min(_FRAMES_JUDGED, recipe.data.window_frames), "3, or the whole window"),
        },
        "sequence": {
            "architecture": (row.sequence, preset),
            "frames": (
                min(row.sequence_frames or recipe.data.window_frames, recipe.data.window_frames),
                "the whole window" if row.sequence_frames is None else preset,
            ),
            "chs": ((16, 32, 64), preset),
        },
        "sync": {
            "frames": (row.sync_frames, preset),
            "negatives": ("misaligned" if judges.sync.expert_images else row.negatives, preset),
            "chs": ((16, 32, 64), preset),
        },
    }
    filled: dict[str, Any] = {
        name: fill(
            getattr(judges, name), f"{path}.{name}", {"learning_rate": (rates[name], preset), **own[name]}, notes
        )
        for name in ADVERSARIES
    }
    return judges.model_copy(update=filled)


def conflicts(recipe: TalkingFace) -> Iterator[tuple[Path, str]]:
    """What cannot work in a resolved recipe, with the path of the key to change below `recipe`."""
    window = recipe.data.window_frames
    judges = recipe.discriminators
    for name, asked in (("identity", judges.identity.frames), ("sequence", judges.sequence.frames),
                        ("sync", judges.sync.frames)):  # fmt: skip
        if asked is not None and asked > window:
            yield ("discriminators", name, "frames"), f"{asked} frames do not fit into a window of {window} frames"
    if recipe.generator.architecture == "unpadded_unet":
        yield from _unet_conflicts(recipe)
    for name in ADVERSARIES:
        chs = getattr(judges, name).chs
        side = recipe.data.resolution
        if chs is not None and len(chs) > _halvings(side):
            yield (
                ("discriminators", name, "chs"),
                f"{len(chs)} convolutions of stride 2 leave nothing of {side} pixels; at most {_halvings(side)} do",
            )
    if not any(recipe.active(term, 0) and getattr(recipe.weights, term) for term in TERMS):
        yield ("weights",), "no term counts at the start: the generator has nothing to learn from"
    if judges.identity.architecture == "patch" and (recipe.data.resolution >> judges.identity.n_layers) < 3:
        yield (
            ("discriminators", "identity", "n_layers"),
            f"leaves nothing of {recipe.data.resolution} pixels; write less",
        )


def _halvings(side: int) -> int:
    """A half of the frame is judged too: so many halvings leave two pixels of it."""
    return max(side.bit_length() - 2, 1)


def _unet_conflicts(recipe: TalkingFace) -> Iterator[tuple[Path, str]]:
    shape = recipe.generator
    assert shape.enc_chs is not None and shape.dec_chs is not None and shape.up_chs is not None, "a resolved spec"
    levels = len(shape.enc_chs)
    if not unet_sides(recipe.data.resolution, levels):
        yield (
            ("generator", "enc_chs"),
            f"{levels} levels of unpadded convolutions leave nothing of {recipe.data.resolution} pixels; write fewer",
        )
    if not len(shape.dec_chs) == len(shape.up_chs) == levels:
        yield ("generator", "up_chs"), f"enc_chs, dec_chs and up_chs must be equally long; enc_chs has {levels}"
        return
    bottom = shape.enc_chs[-1] + 1 + (shape.noise.kind != "none")
    if shape.up_chs[0] != bottom:
        yield (
            ("generator", "up_chs"),
            f"begins with {shape.up_chs[0]}, but enc_chs[-1] and the maps of sound and noise are {bottom}",
        )
    for at in range(levels - 1):
        joined = shape.up_chs[at + 1] + shape.enc_chs[-2 - at]
        if shape.dec_chs[at] != joined:
            yield (
                ("generator", "dec_chs", at),
                f"{shape.dec_chs[at]}, but up_chs[{at + 1}] + enc_chs[{levels - 2 - at}] are {joined}",
            )
    for at in range(1, levels - 1):
        if shape.up_chs[at] != shape.dec_chs[at]:
            yield (
                ("generator", "up_chs", at),
                f"{shape.up_chs[at]}, but the level before puts out dec_chs[{at}] = {shape.dec_chs[at]}",
            )


def alike(recipe: TalkingFace) -> bool:
    """Whether no example knows of the others of its batch."""
    judges = [getattr(recipe.discriminators, name) for name in ADVERSARIES if recipe.enabled(name)]
    return all(part.norm != "batch" for part in (recipe.generator, *judges))


def warnings(recipe: TalkingFace, images: int) -> Iterator[str]:
    """What is allowed, but was regretted by people who wrote it; `images` of the run."""
    judges = recipe.discriminators
    if judges.sync.enabled and judges.sync.negatives == "fake":
        yield (
            "recipe.discriminators.sync.negatives is fake: all real frames it sees are in time, so it can tell "
            "generated ones without listening, and lips may stand still; `both` shows it real ones out of time too"
        )
    if judges.sync.enabled and judges.sync.norm == "batch":
        yield "recipe.discriminators.sync.norm is batch: a batch of one kind tells the kind; its loss went to 1e-9"
    if judges.sequence.enabled and judges.sequence.architecture == "gru":
        yield (
            "recipe.discriminators.sequence.architecture is gru: its logits are a hidden state within (-1, 1), so its "
            "loss cannot fall below 0.313; gru_head can"
        )
    if recipe.generator.audio.activation == "leaky":
        yield "recipe.generator.audio.activation is leaky: it was tried and did not work in the audio encoder"
    if recipe.weights.l1 == 0:
        yield "recipe.weights.l1 is 0: images then turned black"
    yield from _decay_warnings(recipe, images)


def _decay_warnings(recipe: TalkingFace, images: int) -> Iterator[str]:
    decay = recipe.decay
    if decay is None:
        return
    if decay.multiplier is not None and decay.multiplier <= 0.5:
        yield (
            f"recipe.decay.multiplier is {decay.multiplier:g}: each step leaves {decay.multiplier:.0%} of the rate; a "
            f"decay of {decay.multiplier:.0%} is fraction: {decay.multiplier:g}"
        )
    if decay.left(images // 2) < _LEAST_LEFT:
        yield (
            f"recipe.decay leaves {decay.left(images // 2):.2g} of the learning rates at half of the run: little is "
            "learned after that"
        )


def outlook(recipe: TalkingFace, images: int) -> Iterator[str]:
    """What the run will do, in sentences: learning rates at its end, and when terms come and go."""
    judges = recipe.discriminators
    if recipe.decay is not None:
        rates = {"generator": recipe.optimizer.learning_rate} | {
            name: getattr(judges, name).learning_rate for name in ADVERSARIES if recipe.enabled(name)
        }
        left = recipe.decay.left(images)
        ends = ", ".join(f"{name} {rate:.3g} to {rate * left:.3g}" for name, rate in rates.items()
                         if name in recipe.decay.networks and rate is not None)  # fmt: skip
        yield f"learning rates fall to {left:.3g} of themselves by the end: {ends}"
    if expert := judges.sync.enabled and judges.sync.expert_images:
        yield f"the sync discriminator learns from real clips for {expert:,} images, is frozen, and counts from then on"
    for term, stage in recipe.stages.items():
        end = "the end" if stage.stop_images is None else f"{stage.stop_images:,}"
        yield f"the term {term} counts from {stage.start_images:,} to {end} images"
