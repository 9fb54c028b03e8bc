"""Two directories or zips of images, paired by name or not."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path, PurePosixPath

import numpy as np

from jobs.data import archive, folder
from jobs.data.content import NamedFile
from jobs.data.dataset import ImagesU8
from jobs.data.decode import decode
from jobs.data.load import Progress, load_source
from jobs.data.pairs import PairDataset, join, split
from jobs.data.roots import Roots
from jobs.data.source import Block, Items, Source, block_of, decode_block, printable, spread
from jobs.errors import DataError
from jobs.spec.pairs import Domains, channel_count

Readers = dict[str, Callable[[], bytes]]
FEWEST = 2


def open_domains(
    section: Domains, *, cache_dir: Path, roots: Roots, paired: bool, progress: Progress | None = None
) -> PairDataset:
    """The domains of `section`. With pairs, an image that cannot be decoded takes its counterpart with it.

    Raises DataError where an image of one domain has no counterpart in the other, though the section says paired.
    """
    channels, side = channel_count(section), section.crop_from or section.resolution
    if section.paired:
        source = _source(section, roots, "ab")
        both = load_source(source, (2 * channels, side, side), cache_dir=cache_dir, progress=progress)
        return split(both, channels, 0, side=section.resolution, paired=paired)
    a, b = (
        load_source(_source(section, roots, domain), (channels, side, side), cache_dir=cache_dir, progress=progress)
        for domain in "ab"
    )
    return join(a, b, side=section.resolution, mirror=section.mirror)


def _source(section: Domains, roots: Roots, domains: str) -> Source:
    """The images of one domain, or of both, joined by their names."""
    files: list[NamedFile] = []
    for domain in domains:
        with _named(section, domain, roots) as (found, _):
            files += [(f"{domain}/{name}", path) for name, path in found]
    settings = section.model_dump(exclude={"a", "b", "mirror", "paired"}) | {"domains": domains}
    return Source(f"domains-{domains}", settings, lambda: _open(section, roots, domains), files)


def _named(section: Domains, domain: str, roots: Roots) -> AbstractContextManager[tuple[list[NamedFile], Readers]]:
    path, field = getattr(section, domain), f"data.{domain}"
    kind = archive if path.lower().endswith(".zip") else folder
    return kind.named_images(path, field, roots)


@contextmanager
def _open(section: Domains, roots: Roots, domains: str) -> Iterator[Items]:
    with ExitStack() as stack:
        readers = [stack.enter_context(_named(section, domain, roots))[1] for domain in domains]
        for domain, of in zip(domains, readers, strict=True):
            if len(of) < FEWEST:
                raise DataError(f"data.{domain}: {getattr(section, domain)!r} holds {len(of)} images; 2 are the fewest")
        names = _pairs(*readers) if len(readers) == 2 else [(name,) for name in readers[0]]
        chosen = [names[index] for index in spread(len(names), section.max_images)]
        if len(readers) == 1:
            yield Items(len(chosen), lambda start, stop: _decode_single(section, readers[0], chosen[start:stop]))
        else:
            yield Items(len(chosen), lambda start, stop: _decode_pairs(section, readers, chosen[start:stop]))


def _pairs(a: Readers, b: Readers) -> list[tuple[str, ...]]:
    """Names of counterparts: equal but for the suffix."""
    stems_a, stems_b = ({str(PurePosixPath(name).with_suffix("")): name for name in names} for names in (a, b))
    alone = sorted(stems_a.keys() ^ stems_b.keys())
    if alone:
        where = "a" if alone[0] in stems_a else "b"
        raise DataError(
            f"data.{where}: {printable(alone[0])!r} has no counterpart in the other domain ({len(alone)} such images)",
            hint="paired domains have the same names but for the suffix; or set data.paired to false",
        )
    return [(stems_a[stem], stems_b[stem]) for stem in sorted(stems_a)]


def _decode_single(section: Domains, readers: Readers, names: list[tuple[str, ...]]) -> Block:
    side = section.crop_from or section.resolution
    return decode_block([name for (name,) in names], lambda name: readers[name](), side, section.channels, section.fit)


def _decode_pairs(section: Domains, readers: list[Readers], names: list[tuple[str, ...]]) -> Block:
    """A before B on the channel axis."""
    side = section.crop_from or section.resolution

    def both(at: int) -> ImagesU8:
        files = zip(readers, names[at], strict=True)
        return np.concatenate([decode(of[name](), side, section.channels, section.fit) for of, name in files])

    return block_of([" and ".join(pair) for pair in names], both)
