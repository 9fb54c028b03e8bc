"""From a data section to an endless, resumable stream of batches; one file a kind of data.

dataset = open_data(section, cache_dir=cache, roots=Roots(spec_file.parent))
for batch in batches(dataset, batch=32, seed=0, images=0, mirror=section.mirror): ...
"""

from jobs.data.archive import named_images as archive_images
from jobs.data.balance import balanced_turns
from jobs.data.dataset import Dataset, ImageBatch, ImageDataset, Shown, Skipped
from jobs.data.decode import decode
from jobs.data.folder import named_images as folder_images
from jobs.data.load import Progress, open_dataset
from jobs.data.make import make_pairs, make_zip
from jobs.data.modegrid import ModeCoverage, assign_modes, coverage_of, mode_coverage
from jobs.data.open import open_data
from jobs.data.pairs import PairBatch, PairDataset
from jobs.data.planted import Readings, read_attributes
from jobs.data.roots import Roots
from jobs.data.stream import batches

__all__ = [
    "Dataset",
    "ImageBatch",
    "ImageDataset",
    "ModeCoverage",
    "PairBatch",
    "PairDataset",
    "Progress",
    "Readings",
    "Roots",
    "Shown",
    "Skipped",
    "archive_images",
    "assign_modes",
    "balanced_turns",
    "batches",
    "coverage_of",
    "decode",
    "folder_images",
    "make_pairs",
    "make_zip",
    "mode_coverage",
    "open_data",
    "open_dataset",
    "read_attributes",
]
