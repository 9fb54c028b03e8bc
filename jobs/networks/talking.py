"""The networks of a talking face, as its section describes them."""

from typing import Literal

from torch import nn

from jobs.networks.face import FaceGenerator, PerFrame, UNetWidths, UnpaddedUNet
from jobs.networks.face_judges import IdentityJudge, PatchJudge, SequenceJudge, SequenceJudge3d, SyncJudge
from jobs.networks.plain import Norm
from jobs.networks.voice import AudioEncoder, Voice
from jobs.spec.data import CHANNEL_COUNT
from jobs.spec.talking_face import TalkingFace
from jobs.spec.talking_face_size import per_frame_widths, region_height, unet_sides


def generator_of(section: TalkingFace) -> FaceGenerator:
    """The generator."""
    shape = section.generator
    assert shape.norm is not None and shape.noise.kind is not None and shape.audio.gru_layers is not None, "resolved"
    voice = Voice(
        _encoder(section, shape.audio.code, shape.norm),
        code=shape.audio.code,
        gru_layers=shape.audio.gru_layers,
        channels=section.data.audio_shape[0],
        noise=0 if shape.noise.kind == "none" else shape.noise.size,
        smooth=shape.noise.kind == "gru",
    )
    return FaceGenerator(voice, _face(section, shape.norm, voice.noise))


def _face(section: TalkingFace, norm: Norm, felt: int) -> PerFrame | UnpaddedUNet:
    shape, image = section.generator, CHANNEL_COUNT[section.data.channels]
    if shape.architecture == "per_frame":
        return PerFrame(
            image, per_frame_widths(section), identity=shape.identity_code, heard=shape.audio.code, felt=felt,
            active=shape.activation, norm=norm,
        )  # fmt: skip
    assert shape.enc_chs and shape.dec_chs and shape.up_chs, "a resolved spec"
    bottom = unet_sides(section.data.resolution, len(shape.enc_chs))[-1]
    return UnpaddedUNet(
        image, UNetWidths(shape.enc_chs, shape.dec_chs, shape.up_chs), bottom=bottom, heard=shape.audio.code, felt=felt,
        active=shape.activation, norm=norm,
    )  # fmt: skip


def judge_of(section: TalkingFace, name: Literal["identity", "sequence", "sync"]) -> nn.Module:
    """One of the discriminators."""
    image, side = CHANNEL_COUNT[section.data.channels], section.data.resolution
    judges = section.discriminators
    match name:
        case "identity":
            own = judges.identity
            assert own.chs is not None, "a resolved spec"
            if own.architecture == "patch":
                return PatchJudge(image, own.ndf, own.n_layers, active=own.activation, norm=own.norm)
            return IdentityJudge(image, own.chs, active=own.activation, norm=own.norm)
        case "sequence":
            return _sequence(section, (image, region_height(side, judges.sequence.region), side))
        case "sync":
            sync = judges.sync
            assert sync.chs is not None and sync.frames is not None, "a resolved spec"
            ear = _encoder(section, sync.code, "none")
            return SyncJudge(
                (image, region_height(side, sync.region), side), sync.frames, sync.chs, ear, code=sync.code,
                head=sync.head, active=sync.activation, norm=sync.norm,
            )  # fmt: skip


def _sequence(section: TalkingFace, shape: tuple[int, int, int]) -> nn.Module:
    own = section.discriminators.sequence
    assert own.chs is not None and own.architecture is not None, "a resolved spec"
    if own.architecture == "conv3d":
        return SequenceJudge3d(shape[0], own.chs, active=own.activation)
    return SequenceJudge(
        own.architecture, shape, own.chs, h_size=own.h_size, layers=own.num_layers, active=own.activation, norm=own.norm
    )


def _encoder(section: TalkingFace, code: int, norm: Norm) -> AudioEncoder:
    audio = section.generator.audio
    return AudioEncoder(
        section.data.audio_shape, section.data.audio.rate, code=code, channels=audio.channels,
        active=audio.activation, norm=norm,
    )  # fmt: skip
