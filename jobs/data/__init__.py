"""From a data section to an endless, resumable stream of batches; one file a kind of data.

dataset = open_dataset(section, cache_dir=cache, roots=Roots(spec_file.parent))
for batch in batches(dataset, batch=32, seed=0, images=0, mirror=section.mirror): ...
"""

from jobs.data.dataset import ImageDataset, Skipped
from jobs.data.load import Progress, open_dataset
from jobs.data.make import make_zip
from jobs.data.modegrid import ModeCoverage, assign_modes, coverage_of, mode_coverage
from jobs.data.roots import Roots
from jobs.data.stream import ImageBatch, batches

__all__ = [
    "ImageBatch",
    "ImageDataset",
    "ModeCoverage",
    "Progress",
    "Roots",
    "Skipped",
    "assign_modes",
    "batches",
    "coverage_of",
    "make_zip",
    "mode_coverage",
    "open_dataset",
]
