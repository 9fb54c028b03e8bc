"""How large the networks of a talking face are, in closed form, without building them."""

import itertools
from collections.abc import Iterable

from jobs.spec.data import CHANNEL_COUNT
from jobs.spec.layers import Layers, Phase, Size, prime_factors
from jobs.spec.talking_face import ADVERSARIES, Norm, Region, TalkingFace

_DENSE_MAP = 128


def size(recipe: TalkingFace) -> Size:
    """Parameters by network, and what a step keeps."""
    G = generator_layers(recipe)
    judges = {name: judge_layers(recipe, name) for name in ADVERSARIES if recipe.enabled(name)}
    looks = [layers.activations_per_image for layers in judges.values()]
    image, frames = CHANNEL_COUNT[recipe.data.channels] * recipe.data.resolution**2, recipe.data.window_frames
    kept = G.activations_per_image + max(looks, default=0)  # one term after another
    phases = [Phase(G.parameters, kept, exact=_widest(recipe))]
    phases += [Phase(layers.parameters, _verdicts(recipe, name) * layers.activations_per_image)
               for name, layers in judges.items()]  # fmt: skip
    parameters = {"G": G.parameters} | {name: layers.parameters for name, layers in judges.items()}
    return Size(
        parameters,
        3 * sum(parameters.values()) + G.parameters,  # weights, two moments; G: the average
        tuple(phases),
        per_image=(2 * frames + 1) * image,  # real frames, generated ones, the still
        temporary=1,
        remarks=(f"an image is a window of {frames} frames",),
    )


def _verdicts(recipe: TalkingFace, name: str) -> int:
    """How often a discriminator looks at an example when it learns."""
    return 3 if name == "sync" and recipe.discriminators.sync.negatives == "both" else 2


def _kept(norm: Norm, active: str) -> int:
    """Maps of its own size that a convolution keeps: before a norm, before a leaky rectifier, and after either one."""
    return 1 + (norm != "none") + (active == "leaky")


def per_frame_widths(recipe: TalkingFace) -> tuple[int, ...]:
    """Channels at half the size, a quarter ... down to 4 x 4."""
    levels = recipe.data.resolution.bit_length() - 3
    shape = recipe.generator
    return tuple(min(shape.channels * 2**level, shape.channels_max) for level in range(levels))


def _widest(recipe: TalkingFace) -> int:
    """Numbers of the largest maps that a norm makes for a window: their gradient, in float32, while it goes back."""
    shape = recipe.generator
    if shape.norm == "none" or shape.architecture != "per_frame":
        return 0
    return recipe.data.window_frames * per_frame_widths(recipe)[0] * recipe.data.resolution**2


def unet_sides(resolution: int, levels: int) -> tuple[int, ...]:
    """Sides in pixels after each block of valid convolutions going down; empty where nothing would be left."""
    side, sides = resolution, []
    for level in range(levels):
        side = (side if level == 0 else side // 2) - 4
        sides.append(side)
    for _ in range(levels - 1):
        side = 2 * side - 4
        if side < 1:
            return ()
    return tuple(sides) if min(sides) >= 1 else ()


def region_height(resolution: int, region: Region) -> int:
    """Rows of the part of a frame that is looked at."""
    return resolution if region == "full" else resolution // 2


def generator_layers(recipe: TalkingFace) -> Layers:
    """The generator; activations are of a whole window."""
    shape, frames = recipe.generator, recipe.data.window_frames
    assert shape.norm is not None and shape.noise.kind is not None and shape.audio.gru_layers is not None, "resolved"
    voice = _encoder(recipe, shape.audio.code, shape.audio.channels, shape.norm)
    parameters = voice.parameters + _gru(shape.audio.code, shape.audio.code, shape.audio.gru_layers)
    parameters += _gru(shape.noise.size, shape.noise.size, 1) if shape.noise.kind == "gru" else 0
    felt = 0 if shape.noise.kind == "none" else shape.noise.size
    face = _per_frame(recipe, felt) if shape.architecture == "per_frame" else _unet(recipe, felt)
    return Layers(parameters + face.parameters, frames * voice.activations_per_image + face.activations_per_image)


def judge_layers(recipe: TalkingFace, name: str) -> Layers:
    """One of the discriminators; activations are of one look at an example."""
    image, side = CHANNEL_COUNT[recipe.data.channels], recipe.data.resolution
    judges = recipe.discriminators
    if name == "identity":
        section = judges.identity
        parameters, kept = _plain(
            2 * image, section.chs or (), (side, side), (section.norm, section.activation), last=True
        )
        if section.architecture == "patch":
            parameters, kept = _patch(
                2 * image, section.ndf, section.n_layers, side, (section.norm, section.activation)
            )
        return Layers(parameters, (section.frames or 1) * kept)
    if name == "sequence":
        return _sequence(recipe, image)
    sync = judges.sync
    assert sync.chs is not None and sync.frames is not None, "a resolved spec"
    rows = region_height(side, sync.region)
    parameters, kept = _plain(image * sync.frames, sync.chs, (rows, side), (sync.norm, sync.activation), last=False)
    parameters += _dense(_places(sync.chs, (rows, side)), sync.code) + _dense(sync.frames * sync.code, sync.code)
    ear = _encoder(recipe, sync.code, recipe.generator.audio.channels, "none")
    head = {"concat": _dense(2 * sync.code, sync.code) + _dense(sync.code, 1), "distance": _dense(sync.code, 1),
            "cosine": _dense(1, 1)}[sync.head]  # fmt: skip
    kept += sync.frames * ear.activations_per_image
    return Layers(parameters + ear.parameters + head, sync.snippets * kept)


def _per_frame(recipe: TalkingFace, felt: int) -> Layers:
    shape, image = recipe.generator, CHANNEL_COUNT[recipe.data.channels]
    assert shape.norm is not None, "a resolved spec"
    widths = per_frame_widths(recipe)
    style, frames = (shape.norm, shape.activation), recipe.data.window_frames
    parameters, kept = _plain(image, widths, (recipe.data.resolution,) * 2, style, last=False, first_norm=True)
    parameters += _dense(widths[-1] * 16, shape.identity_code)
    codes = shape.identity_code + shape.audio.code + felt
    parameters += codes * widths[-1] * 16 + widths[-1]
    side = 4
    for wide, narrow in zip(reversed(widths), (*reversed(widths[:-1]), widths[0]), strict=True):
        parameters += 2 * wide * wide * 9 + wide + _norm(shape.norm, wide)
        parameters += wide * narrow * 16 + narrow + _norm(shape.norm, narrow)
        kept += frames * _kept(*style) * (wide * side**2 + narrow * (2 * side) ** 2)
        side *= 2
    parameters += (widths[0] + image) * image * 9 + image
    kept += frames * (widths[0] + 2 * image) * side**2  # beside the still; the frame
    return Layers(parameters, kept)


def _unet(recipe: TalkingFace, felt: int) -> Layers:
    shape, image = recipe.generator, CHANNEL_COUNT[recipe.data.channels]
    assert shape.enc_chs and shape.dec_chs and shape.up_chs and shape.norm is not None, "a resolved spec"
    sides = unet_sides(recipe.data.resolution, len(shape.enc_chs))
    bottom = sides[-1]
    parameters = sum(
        _dense(code, _DENSE_MAP) + _dense(_DENSE_MAP, bottom**2) for code in (shape.audio.code, felt) if code
    )
    parameters += sum(_block(a, b, shape.norm) for a, b in _pairs((image, *shape.enc_chs)))
    parameters += sum(a * b * 4 + b for a, b in _pairs(shape.up_chs))
    parameters += sum(_block(a, b, shape.norm) for a, b in _pairs(shape.dec_chs)) + shape.dec_chs[-1] * image + image
    each, frames = 2 * _kept(shape.norm, shape.activation), recipe.data.window_frames
    kept = sum(each * width * side**2 for width, side in zip(shape.enc_chs, sides, strict=True))
    side = bottom
    for width in shape.dec_chs[1:]:
        side = 2 * side - 4
        kept += frames * each * width * (side + 2) ** 2
    return Layers(parameters, kept)


def _sequence(recipe: TalkingFace, image: int) -> Layers:
    section, side = recipe.discriminators.sequence, recipe.data.resolution
    assert section.chs is not None and section.frames is not None, "a resolved spec"
    rows = region_height(side, section.region)
    if section.architecture == "conv3d":
        parameters = sum(a * b * 48 + b for a, b in _pairs((image, *section.chs))) + section.chs[-1] + 1
        _, kept = _plain(image, section.chs, (rows, side), ("none", section.activation), last=False)
        return Layers(parameters, section.frames * kept)
    parameters, kept, seen = 0, 0, image * rows * side
    if section.architecture == "conv_gru":
        parameters, kept = _plain(image, section.chs, (rows, side), (section.norm, section.activation), last=False)
        seen = _places(section.chs, (rows, side))
    parameters += _gru(seen, section.h_size, section.num_layers)
    parameters += 0 if section.architecture == "gru" else _dense(section.h_size, 1)
    return Layers(parameters, section.frames * (kept + 6 * section.h_size))


def _encoder(recipe: TalkingFace, code: int, channels: int, norm: Norm) -> Layers:
    """An AudioEncoder; activations are of one frame's window."""
    each = _kept("batch" if norm == "batch" else "none", recipe.generator.activation)
    inputs, length = recipe.data.audio_shape
    batch = norm if norm == "batch" else "none"
    if inputs > 1:
        half = -(-length // 2)
        parameters = inputs * 4 * channels * 3 + 4 * channels + _norm(batch, 4 * channels)
        parameters += 4 * channels * 8 * channels * 3 + 8 * channels + _norm(batch, 8 * channels)
        return Layers(parameters + _dense(8 * channels * half, code), each * channels * (4 * length + 8 * half))
    rate = recipe.data.audio.rate
    length //= rate // 1000
    parameters, wide = channels * (rate // 200) + channels + _norm(batch, channels), channels
    kept = each * channels * length
    for stride in prime_factors(length):
        narrow, wide = wide, min(2 * wide, 8 * channels)
        length //= stride
        parameters += narrow * wide * 2 * stride + wide + _norm(batch, wide)
        kept += each * wide * length
    return Layers(parameters + _dense(wide, code), kept)


def _plain(
    inputs: int,
    chs: Iterable[int],
    side: tuple[int, int],
    style: tuple[Norm, str],
    *,
    last: bool,
    first_norm: bool = False,
) -> tuple[int, int]:
    """Parameters and activations of convolutions 4 x 4 of stride 2; `style`: norm and activation."""
    widths, (norm, active) = tuple(chs), style
    parameters, kept = 0, inputs * side[0] * side[1]  # what is looked at is put together first
    rows, columns = side
    for at, (before, after) in enumerate(_pairs((inputs, *widths))):
        bare = last and at == len(widths) - 1
        parameters += before * after * 16 + after
        normed: Norm = "none" if bare or (at == 0 and not first_norm) else norm
        parameters += _norm(normed, after)
        rows, columns = rows // 2, columns // 2
        kept += 0 if bare else _kept(normed, active) * after * rows * columns
    return parameters, kept


def _patch(inputs: int, ndf: int, layers: int, side: int, style: tuple[Norm, str]) -> tuple[int, int]:
    widths = [ndf * min(2**layer, 8) for layer in range(layers)]
    wide = ndf * min(2**layers, 8)
    parameters, kept = _plain(inputs, widths, (side, side), style, last=False)
    kept += _kept(*style) * wide * ((side >> layers) - 1) ** 2
    return parameters + widths[-1] * wide * 16 + wide + _norm(style[0], wide) + wide * 16 + 1, kept


def _places(chs: tuple[int, ...], side: tuple[int, int]) -> int:
    return (side[0] >> len(chs)) * (side[1] >> len(chs)) * chs[-1]


def _pairs(widths: tuple[int, ...]) -> list[tuple[int, int]]:
    return list(itertools.pairwise(widths))


def _block(inputs: int, outputs: int, norm: Norm) -> int:
    return inputs * outputs * 9 + outputs + outputs * outputs * 9 + outputs + 2 * _norm(norm, outputs)


def _dense(inputs: int, outputs: int) -> int:
    return inputs * outputs + outputs


def _gru(inputs: int, state: int, layers: int) -> int:
    return sum(3 * (state * (inputs if layer == 0 else state) + state * state + 2 * state) for layer in range(layers))


def _norm(norm: Norm, channels: int) -> int:
    return 2 * channels if norm == "batch" else 0
