"""Sketches: is the part where it belongs, does it listen to the drawing, and what happened as resolution grew?"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from jobs.data.sketches import Conditions, SketchDataset
from jobs.diagnosis import table
from jobs.diagnosis.inputs import Steps
from jobs.diagnosis.sketching import Sketching
from jobs.evaluation import frechet, geometry
from jobs.evaluation.classifier import Labelled, Trained, open_classifier, prepare
from jobs.evaluation.geometry import F64
from jobs.events import read_events
from jobs.networks.growing import StyledNorm
from jobs.recipes.sketch import GREY, Sketch
from jobs.report import pictures
from jobs.report.model import Picture
from jobs.spec.sketch_data import ToyBirds
from jobs.systems.system import Surroundings, System, Watched
from jobs.training.seeds import derived_seed

SHUFFLED, REAL = "parts of other drawings", "real parts"
EVENTS = "events.jsonl"
WATCHED, VARIED = 64, 32
"""Drawings that detectors look at, and those that are continued again with other latents, and for other drawings."""
CLASSIFIED_DRAWINGS = 3000
"""Drawings whose parts the domain classifier is trained on, at most."""
LEAST_CHANGE, MOST_RATIO = 1e-6, 100.0
CHUNK = 256
MOST_SHOWN, CONTINUATIONS = 8, 5


class SketchSystem(System):
    """What a sketch adds."""

    recipe: Sketch
    dataset: SketchDataset
    drawn_from = "drawings so far"

    def __init__(self, around: Surroundings) -> None:
        super().__init__(around)
        assert isinstance(around.recipe, Sketch) and isinstance(around.dataset, SketchDataset)
        self.recipe, self.dataset = around.recipe, around.dataset
        self._classifier: Trained | None = None

    def headline(self) -> tuple[str, str] | None:
        """The exact truth where there is one, else how far parts are from real ones."""
        known = self.dataset.truth is not None and self.dataset.part in geometry.RATES
        return (geometry.RATES[self.dataset.part][0], "geometry") if known else ("fd", "part_classifier")

    def data_details(self) -> dict[str, Any]:
        return {
            "part": self.dataset.parts[self.dataset.part],
            "parts": len(self.dataset.parts),
            "drawings": len(self.dataset.stack_NPHW),
        }

    def rows(self, images: int, label: str) -> Iterable[dict[str, Any]]:
        """Conditional scores, beside those of real parts and of parts drawn for others; and the domain's distance."""
        count, seed = self.around.job.evaluation.samples, derived_seed("sketch", self.around.job.evaluation.seed)
        begun = self.dataset.conditions(count, seed)
        ink_NRR = self._continued(begun.given_NPHW, seed)
        real_NRR = self._real(begun)
        shared = {"images": images, "samples": count}
        for metric, score in self._scores(begun, ink_NRR, real_NRR).items():
            for value, said in zip(score, (label, SHUFFLED, REAL), strict=True):
                if said == label or not label:
                    yield {**shared, "metric": metric, "features": "geometry", "value": value, "label": said}
        spread = _difference(ink_NRR, self._continued(begun.given_NPHW, derived_seed("anew", seed)))
        note = "of ink at another place when latent and noise are drawn anew: 0 the same, 1 all of it"
        yield {
            **shared,
            "metric": "latent_diversity",
            "features": "geometry",
            "value": spread,
            "label": label,
            "note": note,
        }
        if len(self.dataset.parts) > 1:
            yield {**shared, **self._domain_distance(ink_NRR, real_NRR), "label": label}

    def _scores(self, begun: Conditions, ink_NRR: F64, real_NRR: F64) -> dict[str, tuple[float, float, float]]:
        """By metric: generated parts on their own drawings, on those of others, and real parts."""
        drawn_NRR, real_NRR = geometry.drawn(ink_NRR, real_NRR), geometry.drawn(real_NRR, real_NRR)
        kinds = (drawn_NRR, np.roll(drawn_NRR, 1, axis=0), real_NRR)
        given_NRR = begun.given_NPHW.numpy().max(1) / 255
        scores = {
            "attachment_distance": tuple(_mean(geometry.distance_to_drawing(kind, given_NRR)) for kind in kinds),
            "strokes": tuple(_mean(geometry.strokes(kind)) for kind in kinds),
            "ink_ratio": tuple(float(kind.sum() / max(real_NRR.sum(), 1e-9)) for kind in kinds),
            **self._truths(begun, kinds),
        }
        return {name: (a, b, c) for name, (a, b, c) in scores.items()}

    def _truths(self, begun: Conditions, kinds: tuple[F64, F64, F64]) -> dict[str, tuple[float, ...]]:
        """Where the geometry is known: the score of the part, over the drawings that have what it is asked of."""
        section, truth = self.around.job.recipe.data, self.dataset.truth
        if not isinstance(section, ToyBirds) or truth is None or self.dataset.part not in geometry.RATES:
            return {}
        name, needed, score = geometry.RATES[self.dataset.part]
        asked_N = np.flatnonzero(begun.given_NPHW[:, needed].flatten(1).any(1).numpy())
        if not len(asked_N):
            return {}
        known, half_line = truth[begun.drawing_N[asked_N]], section.line_width / 2
        values = tuple(_mean(score(kind[asked_N], known, half_line)) for kind in kinds)
        return {name: values, f"{name}_gap": (values[0] - values[1], 0.0, values[2] - values[1])}

    def _domain_distance(self, ink_NRR: F64, real_NRR: F64) -> dict[str, Any]:
        """Fréchet distance in the features of a classifier that tells the parts of these drawings from one another."""
        trained = self._opened_classifier()
        gaussians = [frechet.fit(self._features(trained, kind)) for kind in (ink_NRR, real_NRR)]
        note = f"a classifier of {trained.count} parts, right about {trained.accuracy:.0%} of parts it has not seen"
        return {
            "metric": "fd",
            "features": "part_classifier",
            "value": float(frechet.distance(*gaussians)),
            "real_samples": len(real_NRR),
            "note": note,
        }

    def _opened_classifier(self) -> Trained:
        if self._classifier is None:
            stack_NPRR = self.dataset.stack_NPHW[:CLASSIFIED_DRAWINGS]
            drawing_M, part_M = np.nonzero(self.dataset.rank_NP[:CLASSIFIED_DRAWINGS] >= 0)
            paper_M1RR = 255 - stack_NPRR[drawing_M, part_M][:, None]
            labelled = Labelled(paper_M1RR, part_M.astype(np.int64), f"parts of {self.dataset.digest}")
            self._classifier = open_classifier(labelled, self.around.cache_dir / "features", self.around.device)
        return self._classifier

    @torch.inference_mode()
    def _features(self, trained: Trained, ink_NRR: F64) -> Tensor:
        paper = torch.from_numpy(np.round(255 * (1 - ink_NRR)).astype(np.uint8)[:, None])
        chunks = (prepare(chunk.to(self.around.device)) for chunk in paper.split(CHUNK))
        return torch.cat([trained.network(chunk) for chunk in chunks])

    def watched(self, images: int, steps: Steps) -> Iterable[Watched]:
        """What the detectors of growing, conditional generators read."""
        seed = derived_seed("watched", self.around.job.seed)
        begun = self.dataset.conditions(WATCHED, seed)
        with _norms(self.recipe.generator_ema) as least:
            ink_NRR = self._continued(begun.given_NPHW, seed)
        layer = min(least, key=lambda name: least[name])
        growth, batch = self.recipe.timetable, self.recipe.batch
        moment = growth.at(max(images - 1, 0))
        grown = None if moment.level == growth.start_level else images - 1 - moment.since_images
        sketching = Sketching(
            steps=steps,
            step=images // batch,
            grown_step=None if grown is None else grown // batch,
            faded_step=None if grown is None else (grown + growth.fade_images) // batch,
            resolution=moment.resolution,
            condition_ratio=self._condition_ratio(begun, ink_NRR, seed),
            ink_ratio=float(ink_NRR.sum() / max(self._real(begun).sum(), 1e-9)),
            least_deviation=least[layer],
            layer=layer,
            shown_MCHW=pictures.from_signed(self.recipe.show(WATCHED, seed).cpu().numpy()),
        )
        yield table.OF_SKETCHING, sketching

    def _condition_ratio(self, begun: Conditions, ink_NRR: F64, seed: int) -> float:
        given, drawn = begun.given_NPHW[:VARIED], ink_NRR[:VARIED]
        by_drawing = np.abs(self._continued(given.roll(1, 0), seed) - drawn).mean()
        by_latent = np.abs(self._continued(given, derived_seed("anew", seed)) - drawn).mean()
        if max(by_drawing, by_latent) < LEAST_CHANGE:
            return 0.0
        return float(min(by_drawing / max(by_latent, LEAST_CHANGE), MOST_RATIO))

    def pictures(self, images: int) -> tuple[Picture, ...]:
        """How the same drawings were continued as the run went on, and other continuations of one drawing."""
        return tuple(picture for picture in (self._growth(), self._varied()) if picture is not None)

    def _growth(self) -> Picture | None:
        """The last sample grid of each resolution, side by side; None where there is but one."""
        grids: dict[int, tuple[int, Path]] = {}
        for event in read_events(self.around.out / EVENTS):
            if event["event"] == "samples":
                trained = self.recipe.timetable.at(max(event["images"] - 1, 0)).resolution
                grids[trained] = event["images"], self.around.out / event["path"]
        opened = [Image.open(path) for _, path in grids.values()]
        sheet = pictures.through_time(opened, MOST_SHOWN) if len(opened) > 1 else None
        if sheet is None:
            return None
        pictures.write_png(self.around.out / "growth.png", sheet)
        moments = ", ".join(f"{side}x{side} at {images:,} images" for side, (images, _) in grids.items())
        return Picture(path="growth.png", caption=f"The same drawings continued as each resolution ended: {moments}")

    def _varied(self) -> Picture:
        """A row a drawing: as it was continued by a person (or the set), then with other latents."""
        seed = derived_seed("varied", self.around.job.seed)
        begun = self.dataset.conditions(MOST_SHOWN, seed)
        given_NRR = begun.given_NPHW.numpy().max(1) / 255
        inks = [self._real(begun)]
        inks += [self._continued(begun.given_NPHW, derived_seed(seed, again)) for again in range(CONTINUATIONS)]
        shown = np.stack([np.maximum(ink_NRR, GREY * given_NRR) for ink_NRR in inks], axis=1)
        tiles = np.round(255 * (1 - shown)).astype(np.uint8).reshape(-1, 1, *shown.shape[2:])
        pictures.write_png(self.around.out / "continuations.png", pictures.grid(tiles, len(inks)))
        part = self.dataset.parts[self.dataset.part]
        return Picture(
            path="continuations.png", caption=f"A row a drawing: its own {part} first, then the generator's, five times"
        )

    def _continued(self, given_NPHW: Tensor, seed: int) -> F64:
        """Ink of the averaged generator's part for each drawing, [N, R, R]."""
        ink: F64 = self.recipe.continued(given_NPHW, seed)[:, 0].double().cpu().numpy()
        return ink

    def _real(self, begun: Conditions) -> F64:
        """Ink of the part that each of the drawings has, [N, R, R]."""
        return np.asarray(self.dataset.stack_NPHW[begun.drawing_N, self.dataset.part], np.float64) / 255


@contextmanager
def _norms(network: torch.nn.Module) -> Iterator[dict[str, float]]:
    """By layer: the smallest deviation of a map that an instance norm is given meanwhile, mean over pictures."""
    least: dict[str, float] = {}

    def hook(path: str) -> Any:
        def see(_module: Any, inputs: tuple[Tensor, Tensor], _output: Any) -> None:
            deviation = float(inputs[0].detach().std((2, 3), correction=0).mean(0).min())
            least[path] = min(deviation, least.get(path, deviation))

        return see

    norms = [(path, module) for path, module in network.named_modules() if isinstance(module, StyledNorm)]
    handles = [module.register_forward_hook(hook(path)) for path, module in norms]
    try:
        yield least
    finally:
        for handle in handles:
            handle.remove()


def _difference(one_NRR: F64, other_NRR: F64) -> float:
    """Share of the ink of two sets of pictures that they do not have in common."""
    ink = float((one_NRR + other_NRR).sum())
    return float(np.abs(one_NRR - other_NRR).sum()) / ink if ink else 0.0


def _mean(values_N: NDArray[Any]) -> float:
    """Over the pictures that have a value; 1, the width of the picture, where none has."""
    kept = values_N[np.isfinite(values_N)]
    return float(kept.mean()) if len(kept) else 1.0
