"""StyleGAN2: path lengths, what its styles decide, and the exactly known modes of ModeGrid."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from jobs.data import assign_modes, coverage_of, mode_coverage
from jobs.diagnosis import spectrum
from jobs.diagnosis.hue_collapse import hue_variance
from jobs.diagnosis.inputs import Gallery
from jobs.diagnosis.spectra import mean_power
from jobs.diagnosis.style_ignored import style_share
from jobs.evaluation.path_length import Latent
from jobs.recipes.stylegan2 import StyleGAN2
from jobs.report import pictures
from jobs.report.model import Modes
from jobs.spec.data import ModeGrid
from jobs.systems.system import Surroundings, System
from jobs.training.probe import Styled
from jobs.training.recipe import Recipe
from jobs.training.seeds import derived_seed

STYLES, NOISES = 16, 4
MOST_COMPARED = 10_000
"""Images of the data among which the nearest to a sample is looked for."""


def _flat(image_NCHW: NDArray[np.uint8]) -> torch.Tensor:
    """[N, C·H·W] in [0, 1]."""
    return torch.from_numpy(np.array(image_NCHW)).flatten(1).float() / 255


def latent_of(recipe: Recipe) -> Latent | None:
    """The inside of the averaged generator, always in float32; None of another recipe."""
    if not isinstance(recipe, StyleGAN2):
        return None
    return Latent(
        size=recipe.G.synthesis.vectors * recipe.section.generator.latent,
        device=recipe.device,
        to_w=recipe.to_w,
        synthesise=recipe.synthesise_exactly,
    )


class StyleGAN2System(System):
    """What a StyleGAN2 adds."""

    def __init__(self, around: Surroundings) -> None:
        super().__init__(around)
        self._modes: Modes | None = None

    def latent(self) -> Latent | None:
        return latent_of(self.around.recipe)

    def rows(self, images: int, label: str) -> Iterable[dict[str, Any]]:
        """How much of a picture the style decides; on a generated set of countable modes, how many samples cover."""
        return (*self._style_rows(images, label), *self._mode_rows(images, label), *self._class_rows(images, label))

    def _style_rows(self, images: int, label: str) -> Iterable[dict[str, Any]]:
        recipe, seed = self.around.recipe, derived_seed("style share", self.around.job.seed)
        if not isinstance(recipe, Styled):
            return []
        image_SKCHW = recipe.swap(STYLES, NOISES, seed).float()
        share = style_share(image_SKCHW.flatten(2).double().cpu().numpy())
        if share is None:
            return []
        said = {"metric": "style_share", "features": "pixels", "value": share, "images": images, "label": label}
        note = f"variance over {STYLES} styles, over it and that over {NOISES} noises"
        return [{**said, "samples": STYLES * NOISES, "note": note}]

    def _class_rows(self, images: int, label: str) -> Iterable[dict[str, Any]]:
        """Where the data has classes: how many the samples show, each by the class of its nearest image of the data."""
        dataset, count = self.around.dataset, self.around.job.evaluation.samples
        if dataset.labels_N is None or isinstance(self.around.job.recipe.data, ModeGrid):
            return []
        real_NP, class_N = _flat(dataset.images_NCHW[:MOST_COMPARED]), np.asarray(dataset.labels_N[:MOST_COMPARED])
        sample_NCHW = self.around.recipe.sample(count, derived_seed("classes", self.around.job.seed)).float().cpu()
        nearest_M = torch.cdist(_flat(pictures.from_signed(sample_NCHW.numpy())), real_NP).argmin(1).numpy()
        shown_L, there_L = (np.bincount(x, minlength=class_N.max() + 1) for x in (class_N[nearest_M], class_N))
        covered_L = (there_L > 0) & (shown_L / count >= there_L / len(class_N) / 10)
        note = f"of {np.sum(there_L > 0)} classes: those with at least a tenth of their share in the data"
        said = {"metric": "classes_covered", "features": "pixels", "value": float(covered_L.sum()), "images": images}
        return [{**said, "label": label, "samples": count, "note": note}]

    def _mode_rows(self, images: int, label: str) -> Iterable[dict[str, Any]]:
        job = self.around.job
        section = job.recipe.data
        if not isinstance(section, ModeGrid):
            return []
        count = job.evaluation.samples
        sample_NCHW = self.around.recipe.sample(count, derived_seed("modes", job.seed))
        modes = assign_modes(pictures.from_signed(sample_NCHW.float().cpu().numpy()), section)
        coverage = coverage_of(modes, section)
        self._modes = Modes(
            **{key: value for key, value in asdict(coverage).items() if key in Modes.model_fields},
            counts=tuple(np.bincount(modes[modes >= 0], minlength=section.modes).tolist()),
            axes=(section.shapes, section.hues, section.positions),
        )
        shared: dict[str, Any] = {
            "features": "mode_templates", "images": images, "samples": count, "label": label, "note":
            f"of {coverage.total} modes; as many images of the data itself would show {coverage.covered_expected:.1f}",
        }  # fmt: skip
        values: dict[str, float] = {"modes_covered": coverage.covered, "mode_precision": coverage.precision}
        if coverage.kl is not None:  # without one recognised sample there is no distribution to compare
            values |= {"mode_kl": coverage.kl, "mode_reverse_kl": coverage.reverse_kl}
        return [{"metric": name, "value": float(value), **shared} for name, value in values.items()]

    def quantities(self, gallery: Gallery) -> Mapping[str, float]:
        """How much styles decide, how colours and fine detail differ, which modes are there: curves over training."""
        fake_MCHW, real_NCHW = gallery.fake_MCHW, gallery.real_NCHW
        spectra = (mean_power(images, spectrum.VISIBLE_VARIANCE) for images in (fake_MCHW, real_NCHW))
        found: dict[str, float | None] = {
            "style_share": gallery.style_share,
            "spectrum_gap": spectrum.top_octave_gap(*spectra),
            **self._noise_strength(),
        }
        if fake_MCHW.shape[1] == 3:
            found |= {"hue_variance": hue_variance(fake_MCHW), "hue_variance.real": hue_variance(real_NCHW)}
        section = self.around.job.recipe.data
        if isinstance(section, ModeGrid):
            coverage = mode_coverage(fake_MCHW, section)
            found |= {"modes_covered": float(coverage.covered), "mode_precision": coverage.precision}
        return {name: value for name, value in found.items() if value is not None}

    def _noise_strength(self) -> dict[str, float]:
        """Mean over layers, of the averaged generator: where it grows while the style share falls, noise has won."""
        recipe = self.around.recipe
        inputs = recipe.G_ema.synthesis.noise_inputs() if isinstance(recipe, StyleGAN2) else []
        strengths = [float(noise.strength.abs() * noise.multiplier) for noise in inputs]
        return {"noise_strength": sum(strengths) / len(strengths)} if strengths else {}

    def modes(self) -> Modes | None:
        """Of the last evaluation."""
        return self._modes
