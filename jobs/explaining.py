"""What changes the classifier's mind, from a checkpoint of a StylEx and any images."""

import json
from pathlib import Path

import numpy as np
import torch

from jobs.data import ImageDataset, Roots, open_data
from jobs.data.load import open_dataset
from jobs.errors import DataError, SpecError
from jobs.evaluation.attfind import Progress
from jobs.recipes.stylex import StylEx
from jobs.report.explained import write_page
from jobs.report.model import Explanation
from jobs.sampling import load_recipe, metadata_of
from jobs.spec import Job
from jobs.spec.data import ImageFolder, ImageZip
from jobs.spec.stylex import StylEx as Section
from jobs.systems import explaining


def explain(
    checkpoint: Path, images: Path | None, out: Path, *, cache_dir: Path, progress: Progress | None = None
) -> tuple[Path, Explanation]:
    """Searches the style coordinates that change the classifier's mind on `images`, a folder or a zip.

    Without `images`, on those of the checkpoint's own data. Writes explanation.html, .json and .png into `out`; returns
    the page and what it says. The discriminator is not in a checkpoint's generator, so its filters are not used.
    Raises SpecError for another recipe, DataError for images that cannot be read.
    """
    job, recipe = load_recipe(checkpoint)
    if not isinstance(recipe, StylEx) or not isinstance(job.recipe, Section):
        raise SpecError(f"CHECKPOINT: {job.recipe.kind} explains no classifier", hint="explain needs a kind: stylex")
    unfiltered = {"drop_least_real": 0.0, "most_score_change": None}
    section = job.recipe.attfind.model_copy(update=unfiltered)
    dataset = _opened(job, images, cache_dir)
    real = _chosen(dataset, section.images).to(recipe.device) if job.recipe.encodes else None
    names = _class_names(checkpoint, len(recipe.known.class_counts))
    data = job.recipe.data if images is None else None
    found = explaining.search(recipe, real, section, names, data, progress)
    out.mkdir(parents=True, exist_ok=True)
    explanation = explaining.write(found, out)
    (out / "explanation.json").write_text(explanation.model_dump_json(indent=2), encoding="utf-8")
    return write_page(out, job.name, explanation), explanation


def _opened(job: Job, images: Path | None, cache_dir: Path) -> ImageDataset:
    """The images that are asked about, as large and as coloured as those of the training."""
    data = job.recipe.data
    if images is None:
        dataset = open_data(data, cache_dir=cache_dir / "data", roots=Roots(Path()))
        assert isinstance(dataset, ImageDataset), "a StylEx learns still images"
        return dataset
    if not images.exists():
        raise DataError(f"IMAGES: there is nothing at {str(images)!r}")
    like = {"resolution": data.resolution, "channels": data.channels, "fit": getattr(data, "fit", "crop")}
    kind = ImageZip if images.suffix.lower() == ".zip" else ImageFolder
    section = kind.model_validate({"path": str(images.resolve()), **like})
    return open_dataset(section, cache_dir=cache_dir / "data", roots=Roots(Path()))


def _chosen(dataset: ImageDataset, count: int) -> torch.Tensor:
    """At most `count` images from all over the set, in [-1, 1]."""
    place_N = np.unique(np.linspace(0, len(dataset.images_NCHW) - 1, count).astype(np.int64))
    return torch.from_numpy(np.ascontiguousarray(dataset.images_NCHW[place_N])).float() / 127.5 - 1


def _class_names(checkpoint: Path, classes: int) -> tuple[str, ...]:
    """As the checkpoint says; else their numbers."""
    names = json.loads(metadata_of(checkpoint).get("class_names", "[]"))
    return tuple(str(name) for name in names) if len(names) == classes else tuple(map(str, range(classes)))
