"""What an injection adds to a styled layer, in closed form."""

from typing import assert_never

from jobs.spec.injection import AdaConv, AdaIN, Injection, StyleMatrix, group_channels, vectors
from jobs.spec.layers import Layers


def injection_layers(injection: Injection, style: int, convolution: tuple[int, int, int], size: int) -> Layers:
    """Learned numbers, and numbers kept an image, beside a learned `convolution` (inputs, outputs, kernel)."""
    inputs, outputs, kernel = convolution
    match injection:
        case AdaIN():
            parameters = _dense(style, inputs) + int(injection.gain == "learned")
            may_fuse = injection.fused is not False  # auto: at most
            return Layers(parameters, outputs * inputs * kernel**2 if may_fuse else 0)
        case StyleMatrix():
            taps = injection.kernel**2
            basis = vectors(injection) * inputs if injection.layout == "lowrank" else 0
            parameters = _dense(style, inputs * taps) + int(injection.gain == "learned") + basis
            return Layers(parameters, inputs**2 * taps + _baked(injection, convolution))
        case AdaConv():
            channels = group_channels(injection, inputs, size)
            taps, values = injection.kernel**2, inputs * channels
            parameters = _dense(style, injection.descriptor * taps)
            parameters += injection.descriptor * values * taps + values
            parameters += _dense(injection.descriptor, values) + _dense(injection.descriptor, inputs)
            return Layers(parameters, values * (taps + 1) + _baked(injection, convolution))
        case _:
            assert_never(injection)


def _baked(injection: StyleMatrix | AdaConv, convolution: tuple[int, int, int]) -> int:
    """Weights for each sample: made where they are baked, and where their norms are needed."""
    inputs, outputs, kernel = convolution
    made = injection.baked or injection.demod_on in ("conv", "both")
    return outputs * inputs * (kernel + injection.kernel - 1) ** 2 if made else 0


def _dense(inputs: int, outputs: int) -> int:
    return inputs * outputs + outputs
