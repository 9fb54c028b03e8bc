"""Classifiers: a small one, and two published ones whose weights may come from a file (names as torchvision has them).

Each gives features [N, D] and has a `head` that makes them logits; `activations` are its maps after every stage.
"""

from typing import assert_never

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jobs.spec.stylex import Classifier as ClassifierSection
from jobs.spec.stylex import ClassifierArchitecture
from jobs.spec.stylex_size import SMALL_CLASSIFIER

IMAGENET_MEAN, IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class SmallClassifier(nn.Module):
    """[N, 3, H, W] -> features [N, 128]: four convolutions, for images of up to 64 pixels."""

    CHANNELS = SMALL_CLASSIFIER

    def __init__(self, classes: int) -> None:
        super().__init__()
        stages: list[nn.Module] = []
        channels_in = 3
        for channels in self.CHANNELS:
            convolution = nn.Conv2d(channels_in, channels, 3, padding=1, bias=False)
            stages += [convolution, nn.BatchNorm2d(channels), nn.ReLU(), nn.MaxPool2d(2, ceil_mode=True)]
            channels_in = channels
        self.stages = nn.Sequential(*stages[:-1])
        self.head = nn.Linear(channels_in, classes)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        return self.stages(x_NCHW).mean((2, 3))

    def activations(self, x_NCHW: Tensor) -> list[Tensor]:
        """After every rectifier."""
        maps = []
        for layer in self.stages:
            x_NCHW = layer(x_NCHW)
            if isinstance(layer, nn.ReLU):
                maps.append(x_NCHW)
        return maps


class _BasicBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut (He et al. 2016, Figure 2)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        changes = stride != 1 or inputs != outputs
        shortcut = (nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        self.downsample = nn.Sequential(*shortcut) if changes else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet18(nn.Module):
    """[N, 3, H, W] -> features [N, 512] (He et al. 2016, Table 1)."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = nn.Sequential(_BasicBlock(64, 64, 1), _BasicBlock(64, 64, 1))
        self.layer2 = nn.Sequential(_BasicBlock(64, 128, 2), _BasicBlock(128, 128, 1))
        self.layer3 = nn.Sequential(_BasicBlock(128, 256, 2), _BasicBlock(256, 256, 1))
        self.layer4 = nn.Sequential(_BasicBlock(256, 512, 2), _BasicBlock(512, 512, 1))
        self.fc = nn.Linear(512, classes)

    @property
    def head(self) -> nn.Linear:
        return self.fc

    def forward(self, x_NCHW: Tensor) -> Tensor:
        return self.activations(x_NCHW)[-1].mean((2, 3))

    def activations(self, x_NCHW: Tensor) -> list[Tensor]:
        """After the stem and after every layer."""
        stem = F.relu(self.bn1(self.conv1(x_NCHW)))
        maps = [stem]
        x = F.max_pool2d(stem, 3, 2, 1)
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = layer(x)
            maps.append(x)
        return maps


class _ConvNormClip(nn.Sequential):
    """Convolution, batch norm, ReLU6."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        super().__init__(convolution, nn.BatchNorm2d(outputs), nn.ReLU6())


class _InvertedResidual(nn.Module):
    """Wide, depthwise, narrow (Sandler et al. 2018, Table 1)."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = inputs * expansion
        widening = [_ConvNormClip(inputs, wide, 1)] if expansion != 1 else []
        depthwise = _ConvNormClip(wide, wide, 3, stride, groups=wide)
        narrowing = (nn.Conv2d(wide, outputs, 1, bias=False), nn.BatchNorm2d(outputs))
        self.conv = nn.Sequential(*widening, depthwise, *narrowing)
        self.adds = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.adds else self.conv(x)


class MobileNetV2(nn.Module):
    """[N, 3, H, W] -> features [N, 1280] (Sandler et al. 2018, Table 2)."""

    ROWS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
    """(expansion, channels, blocks, stride of the first)"""

    def __init__(self, classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [_ConvNormClip(3, 32, 3, 2)]
        inputs = 32
        self.stage_ends = {0}
        for expansion, channels, blocks, stride in self.ROWS:
            for block in range(blocks):
                layers.append(_InvertedResidual(inputs, channels, stride if block == 0 else 1, expansion))
                inputs = channels
            self.stage_ends.add(len(layers) - 1)
        layers.append(_ConvNormClip(inputs, 1280, 1))
        self.stage_ends.add(len(layers) - 1)
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, classes))

    @property
    def head(self) -> nn.Module:
        return self.classifier

    def forward(self, x_NCHW: Tensor) -> Tensor:
        return self.features(x_NCHW).mean((2, 3))

    def activations(self, x_NCHW: Tensor) -> list[Tensor]:
        """At the end of every row."""
        maps = []
        for index, layer in enumerate(self.features):
            x_NCHW = layer(x_NCHW)
            if index in self.stage_ends:
                maps.append(x_NCHW)
        return maps


class ImageClassifier(nn.Module):
    """image [N, C, H, W] in [-1, 1] -> logits [N, classes]: the network of a section, and what it takes."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, section: ClassifierSection, classes: int) -> None:
        super().__init__()
        self.network = _network(section.architecture, classes)
        self.input_side = section.input_side
        imagenet = section.normalize == "imagenet"
        mean = torch.tensor(IMAGENET_MEAN if imagenet else (0.5,) * 3)
        deviation = torch.tensor(IMAGENET_DEVIATION if imagenet else (0.5,) * 3)
        self.register_buffer("mean", mean[:, None, None], persistent=False)
        self.register_buffer("deviation", deviation[:, None, None], persistent=False)

    def forward(self, image_NCHW: Tensor) -> Tensor:
        return self.network.head(self.network(self._prepared(image_NCHW)))

    def activations(self, image_NCHW: Tensor) -> list[Tensor]:
        """Maps after every stage."""
        return self.network.activations(self._prepared(image_NCHW))

    def _prepared(self, image_NCHW: Tensor) -> Tensor:
        """RGB, at the side that the network takes."""
        unit = (image_NCHW + 1) / 2
        if unit.shape[1] == 1:
            unit = unit.expand(-1, 3, -1, -1)
        elif unit.shape[1] == 4:  # over white, as rgb is read from files
            unit = unit[:, :3] * unit[:, 3:] + 1 - unit[:, 3:]
        if self.input_side is not None and unit.shape[-1] != self.input_side:
            unit = F.interpolate(unit, (self.input_side,) * 2, mode="bilinear", antialias=True, align_corners=False)
        return (unit - self.mean) / self.deviation


def _network(architecture: ClassifierArchitecture, classes: int) -> SmallClassifier | ResNet18 | MobileNetV2:
    match architecture:
        case "small":
            return SmallClassifier(classes)
        case "resnet18":
            return ResNet18(classes)
        case "mobilenet_v2":
            return MobileNetV2(classes)
        case _:
            assert_never(architecture)
