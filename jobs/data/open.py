"""From any recipe's data section to what it learns from."""

from pathlib import Path
from typing import assert_never

from jobs.data.clips import open_cartoon, open_clip_folder
from jobs.data.dataset import Dataset
from jobs.data.domains import open_domains
from jobs.data.heightmaps import heightmaps_source
from jobs.data.load import Progress, load_source, open_dataset
from jobs.data.pairs import split
from jobs.data.roots import Roots
from jobs.data.shards import open_shards
from jobs.data.sketch_open import open_sketches
from jobs.spec.clips import ClipFolder, TalkingCartoon
from jobs.spec.data import IdxFiles, ImageFolder, ImageZip, ModeGrid, PlantedAttributes
from jobs.spec.job import DataSection
from jobs.spec.pairs import Domains, HeightMaps, Shards, channel_count
from jobs.spec.sketch_data import DoodlerStrokes, PartStacks, QuickDraw, ToyBirds


def open_data(
    section: DataSection, *, cache_dir: Path, roots: Roots, paired: bool = False, progress: Progress | None = None
) -> Dataset:
    """Everything that `section` names, decoded once and mapped from `cache_dir` from then on.

    `paired`: batches of two domains show counterparts. Raises SpecError where a path leads out of `roots`, DataError
    where it is missing, empty, damaged, or where more than 1 % of its images are.
    """
    match section:
        case ImageFolder() | ImageZip() | IdxFiles() | ModeGrid() | PlantedAttributes():
            return open_dataset(section, cache_dir=cache_dir, roots=roots, progress=progress)
        case TalkingCartoon():
            return open_cartoon(section, cache_dir=cache_dir, progress=progress)
        case ClipFolder():
            return open_clip_folder(section, cache_dir=cache_dir, roots=roots, progress=progress)
        case HeightMaps():
            channels, side = channel_count(section), section.resolution
            both = load_source(
                heightmaps_source(section), (2 * channels, side, side), cache_dir=cache_dir, progress=progress
            )
            return split(both, channels, section.test_images, side=side, paired=paired)
        case Domains():
            return open_domains(section, cache_dir=cache_dir, roots=roots, paired=paired, progress=progress)
        case Shards():
            return open_shards(section, paired=paired, cache_dir=cache_dir, roots=roots, progress=progress)
        case ToyBirds() | DoodlerStrokes() | QuickDraw() | PartStacks():
            return open_sketches(section, cache_dir=cache_dir, roots=roots, progress=progress)
        case _:
            assert_never(section)
