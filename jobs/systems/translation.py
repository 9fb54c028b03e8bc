"""Image translation: distance to the known translation, holes by layer and over time, and what else goes wrong."""

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from jobs.data import PairDataset
from jobs.diagnosis import lost_detail, table
from jobs.diagnosis.inputs import Steps
from jobs.diagnosis.inside import peaks, smuggled
from jobs.diagnosis.translations import Translations, columns, count_blobs, overlay
from jobs.evaluation import reconstruction
from jobs.evaluation.intervals import bootstrap_mean
from jobs.evaluation.rows import MetricRow
from jobs.networks.layer_list import LayerNetwork
from jobs.recipes.translation import Translation
from jobs.report import pictures
from jobs.report.model import Picture
from jobs.systems.system import Surroundings, System, Watched
from jobs.training.seeds import derived_seed, generator

MOST_LOOKED_AT = 64
"""Pictures that detectors read."""
SHOWN_ROWS = 4
NOISE = 0.02
"""Of the range of pixels, on a translation before the way back."""
HOLES, OVER_TIME = "holes", "holes-over-time.png"
MOST_MOMENTS = 12
HEADING_PIXELS = 14


class TranslationSystem(System):
    """What a translation adds."""

    drawn_from = "inputs, each before its translation"

    def __init__(self, around: Surroundings) -> None:
        super().__init__(around)
        assert isinstance(around.recipe, Translation) and isinstance(around.dataset, PairDataset)
        self.recipe, self.pairs = around.recipe, around.dataset

    def headline(self) -> tuple[str, str] | None:
        """Where the translation is known, the distance to it."""
        return None if self.pairs.truth_NCHW is None else ("psnr", "all channels")

    def data_details(self) -> dict[str, Any]:
        """Both domains."""
        return self.pairs.details

    def shown(self, count: int, seed: int) -> Tensor:
        """Inputs and their translations, by turns."""
        source = self._signed(self.pairs.conditions(-(-count // 2), seed))
        both = torch.stack([source, self.recipe.translate(source).cpu()], dim=1)
        return both.flatten(0, 1)[:count]

    def rows(self, images: int, label: str) -> Iterable[MetricRow | dict[str, Any]]:
        """Distances to the known translation; detail, holes and peaks in any case."""
        count = min(self.around.job.evaluation.samples, len(self.pairs.asked_NCHW))
        seen = self._look(images, count, derived_seed("rows", self.around.job.evaluation.seed), deeply=False)
        hole_N = count_blobs(seen.hole_NHW).astype(np.float64)
        values = {"detail": lost_detail.detail(seen), "holes": hole_N, "hole_area": seen.hole_NHW.mean((1, 2))}
        if seen.truth_NCHW is not None:
            made, truth = torch.from_numpy(seen.made_NCHW), torch.from_numpy(seen.truth_NCHW)
            values |= {
                "psnr": reconstruction.psnr(made, truth).numpy(),
                "ssim": reconstruction.ssim(made, truth).numpy(),
                "l1": reconstruction.l1(made, truth).numpy(),
            }
            if made.shape[1] == 4:
                values["alpha_error"] = (made[:, 3] - truth[:, 3]).abs().mean((1, 2)).numpy()
        if seen.worst_layer is not None:
            values["feature_peak"] = seen.worst_layer.peak_N
        return [self._row(name, value_N.astype(np.float64), images, label) for name, value_N in values.items()]

    def _row(self, metric: str, value_N: np.ndarray, images: int, label: str) -> MetricRow:
        """A mean over pictures; of peaks what a quarter of the pictures exceed."""
        seed = self.around.job.evaluation.seed
        peak = metric == "feature_peak"
        low, high = (None, None) if peak else bootstrap_mean(value_N, seed)
        return MetricRow(
            metric=metric,
            features="all channels",
            value=float(np.quantile(value_N, 0.75) if peak else value_N.mean()),
            images=images,
            samples=len(value_N),
            interval_low=low,
            interval_high=high,
            interval_kind=None if peak else "95 %, bootstrap over images",
            seed=seed,
            note="in a quarter of the pictures, at the layer where it is most" if peak else None,
            label=label,
        )

    def watched(self, images: int, steps: Steps) -> Iterable[Watched]:
        """A look at the inputs of every check; a strip for the picture over time is kept."""
        count = min(self.around.job.diagnosis.samples, MOST_LOOKED_AT, len(self.pairs.asked_NCHW))
        seen = self._look(images, count, derived_seed("diagnosis", self.around.job.seed), deeply=True)
        self._keep_strip(seen)
        return [(table.OF_TRANSLATIONS, seen)]

    def pictures(self, images: int) -> tuple[Picture, ...]:
        """Layer by layer at the end, and the first input's strip over time."""
        seen = self._look(images, SHOWN_ROWS, derived_seed("diagnosis", self.around.job.seed), deeply=False)
        path = f"{HOLES}-by-layer.png"
        pictures.write_png(self.around.out / path, _headed(_sheet(overlay(seen, SHOWN_ROWS), seen), columns(seen)))
        names = "; ".join(f"{place}: {name}" for place, name in enumerate(columns(seen), 1))
        legend = "Hot pixels are orange, spikes red, holes framed red."
        found = [Picture(path=path, caption=f"Layer by layer, at the end. {legend} Columns: {names}.")]
        if moments := self._write_over_time(columns(seen)):
            said = ", ".join(f"{moment:,}" for moment in moments)
            found.append(Picture(path=OVER_TIME, caption=f"The same input over time, after {said} images. {legend}"))
        return tuple(found)

    def _look(self, images: int, count: int, seed: int, *, deeply: bool) -> Translations:
        """Translates `count` inputs. `deeply`: also what needs further passes."""
        source = self._signed(self.pairs.conditions(count, seed))
        truth = self.pairs.truth(count, seed)

        def translate() -> Tensor:
            return self.recipe.translate(source)

        network = self.recipe.G_ema["AB"]
        assert isinstance(network, LayerNetwork)
        made, layers = peaks(network, translate)
        further: dict[str, Any] = {}
        if deeply and layers:
            worst = max(layers, key=lambda layer: layer.stands_out())
            further["smuggled"] = smuggled(network, worst, translate, made)
        if deeply and "BA" in self.recipe.G_ema:
            further |= self._cycle(source, made, seed)
        return Translations(
            images=images,
            source_NCHW=_unit(source),
            made_NCHW=_unit(made),
            truth_NCHW=None if truth is None else truth.astype(np.float32) / np.float32(255),
            real_NCHW=self._real,
            layers=layers,
            **further,
        )

    def _cycle(self, source: Tensor, made: Tensor, seed: int) -> dict[str, float]:
        """Errors of the way back, as shares of the range of pixels."""
        noise = torch.randn(made.shape, generator=generator(torch.device("cpu"), "cycle", seed)).to(made.device)
        noisy = (made + 2 * NOISE * noise).clamp(-1, 1)
        errors = [
            float((self.recipe.translate(there, "BA").cpu() - source).abs().mean()) / 2 for there in (made, noisy)
        ]
        return {
            "cycle_error": errors[0],
            "noisy_cycle_error": errors[1],
            "noise_error": float((noisy - made).abs().mean()) / 2,
        }

    @cached_property
    def _real(self) -> np.ndarray:
        """Real images of B, the same at every check."""
        every = self.pairs.images_NCHW
        places = np.linspace(0, len(every) - 1, min(MOST_LOOKED_AT, len(every))).astype(np.int64)
        return np.asarray(every[places]).astype(np.float32) / np.float32(255)

    def _signed(self, image_NCHW: Tensor) -> Tensor:
        return image_NCHW.float() / 127.5 - 1

    def _keep_strip(self, seen: Translations) -> None:
        """The first input's row as a file of its own: what is shown over time outlives a kill."""
        folder = self.around.out / HOLES
        strip = _sheet(overlay(seen, 1), seen)
        pictures.write_png(folder / f"{seen.images:09d}.png", strip)

    def _write_over_time(self, names: tuple[str, ...]) -> list[int]:
        """Strips under one another; the moments that are shown."""
        files = sorted((self.around.out / HOLES).glob("[0-9]" * 9 + ".png"))
        if not files:
            return []
        chosen = [files[i] for i in sorted(set(np.linspace(0, len(files) - 1, MOST_MOMENTS).astype(int).tolist()))]
        strips = []
        for file in chosen:
            with Image.open(file) as opened:
                strips.append(opened.convert("RGBA"))
        gap = 2
        sheet = Image.new("RGBA", (max(s.width for s in strips), sum(s.height + gap for s in strips) - gap))
        top = 0
        for strip in strips:
            sheet.paste(strip, (0, top))
            top += strip.height + gap
        pictures.write_png(self.around.out / OVER_TIME, _headed(sheet, names))
        return [int(Path(file).stem) for file in chosen]


def _unit(image_NCHW: Tensor) -> np.ndarray:
    """[-1, 1] -> [0, 1] on the host."""
    return ((image_NCHW.float().cpu() + 1) / 2).clamp(0, 1).numpy()


def _sheet(tiles: np.ndarray, seen: Translations) -> Image.Image:
    return pictures.grid(tiles, len(columns(seen)), gap=2)


def _headed(sheet: Image.Image, names: tuple[str, ...]) -> Image.Image:
    """`sheet` with the number of each column above it; the caption says what they are."""
    headed = Image.new("RGBA", (sheet.width, sheet.height + HEADING_PIXELS), "white")
    headed.paste(sheet, (0, HEADING_PIXELS))
    draw = ImageDraw.Draw(headed)
    for index in range(len(names)):
        draw.text(((index + 0.5) * sheet.width / len(names), 1), str(index + 1), fill="black", anchor="ma")
    return headed
