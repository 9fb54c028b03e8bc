"""Large sets in tar files ("shards"): read where they lie, image by image, with bounded memory and no copy on disk.

Each tar is indexed once (jobs/data/shard_index.py); an image is then one read at a known place, so a run that goes on
at image n reads image n and nothing before it. The order of an epoch is drawn from (seed, epoch): shards in a random
order, images shuffled within windows of consecutive ones, so that a disk or a file server sees runs of neighbours. It
is a pure function of the position: nothing to save, nothing to restore.

Shards that a worker lends (jobs/data/lent.py) are brought while the job trains: those of a window when it begins, those
of the next one behind it. To index them is one pass over all, kept on the worker's disk for the next job.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from jobs.data.dataset import ImagesU8, Shown, Skipped, pinned
from jobs.data.decode import DecodeError, decode
from jobs.data.load import Progress, check_skipped, load_source
from jobs.data.pairs import PairBatch, PairDataset, coins, join, split
from jobs.data.roots import Roots
from jobs.data.shard_index import I64, LOOKED_AT, Scan, scan_shards
from jobs.data.shelves import LentShelf, Shelf
from jobs.data.source import Block, Items, Source, block_of, printable
from jobs.data.stream import OTHER_DOMAIN, OTHER_MIRROR
from jobs.errors import DataError
from jobs.files import replacing
from jobs.spec.pairs import Shards, channel_count

WORKERS = 4


@dataclass(frozen=True)
class ShardSet:
    """The images of one domain: in which file each begins, and how long it is."""

    shelf: Shelf
    shards: tuple[str, ...]
    """Those that can be used."""
    first_S: I64
    """By shard: the number of its first image; one more at the end."""
    place_N2: I64
    """By image: offset and size in its shard; mapped from a file, so that it never fills memory."""
    names: str
    """For messages: the directory as it was written."""

    def __len__(self) -> int:
        return int(self.first_S[-1])

    def read(self, index: int) -> bytes:
        """The bytes of one image file. Raises DecodeError."""
        offset, size_bytes = (int(value) for value in self.place_N2[index])
        try:
            with self.shelf.open(self._shard(index)) as file:
                return os.pread(file.fileno(), size_bytes, offset)
        except OSError as error:
            raise DecodeError(f"cannot be read: {error.strerror}") from None

    def name(self, index: int) -> str:
        """Of one image, for messages."""
        return f"{self.names}/{self._shard(index)} at byte {self.place_N2[index, 0]:,}"

    def order(self, seed: int, position_N: I64, purpose: int, window: int) -> I64:
        """Which image stands at each position of the endless stream of `seed`."""
        count = len(self)
        return np.array(
            [self._at(seed, int(at) // count, int(at) % count, purpose, window) for at in position_N], np.int64
        )

    def windows(self, seed: int, position: int, purpose: int, window: int) -> tuple[list[str], list[str]]:
        """The shards that the window at `position` reads, and those of the one after it."""
        epoch, place = divmod(position, len(self))
        block, last = place // window, (len(self) - 1) // window
        following = (epoch, block + 1) if block < last else (epoch + 1, 0)
        now, soon = (self._shards_of(seed, *at, purpose, window) for at in ((epoch, block), following))
        return now, soon

    def _shard(self, index: int) -> str:
        return self.shards[int(np.searchsorted(self.first_S, index, side="right")) - 1]

    def _shards_of(self, seed: int, epoch: int, block: int, purpose: int, window: int) -> list[str]:
        shards = _shuffled(len(self.shards), seed, epoch, purpose, 0)
        ends = np.cumsum(np.diff(self.first_S)[shards])
        turns = (block * window, min((block + 1) * window, len(self)) - 1)
        first, last = (int(np.searchsorted(ends, turn, side="right")) for turn in turns)
        return [self.shards[shard] for shard in shards[first : last + 1]]

    def _at(self, seed: int, epoch: int, place: int, purpose: int, window: int) -> int:
        block, within = divmod(place, window)
        length = min(window, len(self) - block * window)
        turn = block * window + int(_shuffled(length, seed, epoch, purpose, block + 1)[within])
        shards = _shuffled(len(self.shards), seed, epoch, purpose, 0)
        ends = np.cumsum(np.diff(self.first_S)[shards])
        chosen = int(np.searchsorted(ends, turn, side="right"))
        before = int(ends[chosen - 1]) if chosen else 0
        return int(self.first_S[shards[chosen]]) + turn - before


@dataclass(frozen=True, eq=False)
class ShardedPairs(PairDataset):
    """Two domains in shards. `a` and `b` hold only the images that are looked at; batches come from the shards."""

    sets: tuple[ShardSet, ShardSet] = ()  # type: ignore[assignment]  # a default, as the base class has some
    section: Shards = None  # type: ignore[assignment]
    damaged: dict[str, str] = field(default_factory=dict)
    """Images that were to be shown and could not be decoded, and why, since the run was started last."""

    def __len__(self) -> int:
        return max(len(shards) for shards in self.sets)

    def shown(self, seed: int, start: int, stop: int) -> Shown:
        """Positions alone: `gather` finds the images."""
        position_N = np.arange(start, stop, dtype=np.int64)
        nothing = np.zeros(stop - start, np.int64)
        return Shown(seed, position_N, nothing, np.zeros(stop - start, np.bool_))

    def gather(self, seen: Shown) -> PairBatch:
        """The images at the positions of `seen`: of counterparts, or each domain in an order of its own."""
        self._expect(seen)
        if self.paired:
            return PairBatch(*self._gathered(self.sets, 0, OTHER_MIRROR, seen))
        (a,) = self._gathered(self.sets[:1], 0, OTHER_MIRROR, seen)
        (b,) = self._gathered(self.sets[1:], OTHER_DOMAIN, OTHER_MIRROR + 100, seen)
        return PairBatch(a, b)

    def _expect(self, seen: Shown) -> None:
        """Tells each shelf what this window and the next one read; both domains may stand on one."""
        purposes = (0, 0 if self.paired else OTHER_DOMAIN)
        first, window = int(seen.position_N[0]), self.section.window
        plans = [
            (shards.shelf, *shards.windows(seen.seed, first, purpose, window))
            for shards, purpose in zip(self.sets, purposes, strict=True)
        ]
        for shelf in dict.fromkeys(shelf for shelf, _, _ in plans):
            here = [(now, soon) for other, now, soon in plans if other is shelf]
            shelf.expect(*(dict.fromkeys(name for names in part for name in names) for part in zip(*here, strict=True)))

    def _gathered(self, sets: Sequence[ShardSet], purpose: int, mirror: int, seen: Shown) -> list[Tensor]:
        """Images of the same places in all of `sets`, uint8 [N, C, S, S] each."""
        index_N = sets[0].order(seen.seed, seen.position_N, purpose, self.section.window)
        decoded = list(self._pool.map(lambda index: self._decode(sets, int(index)), index_N))
        stacks = [np.stack(domain) for domain in zip(*decoded, strict=True)]
        if self.section.mirror:
            flip_N = coins(seen, mirror)
            for image_NCHW in stacks:
                image_NCHW[flip_N] = image_NCHW[flip_N, :, :, ::-1]
        return [pinned(torch.from_numpy(image_NCHW)) for image_NCHW in stacks]

    def _decode(self, sets: Sequence[ShardSet], index: int) -> list[ImagesU8]:
        """The image of each set, or the next that can be decoded in all. Raises DataError where too many cannot."""
        while True:
            found = [image for shards in sets if (image := self._decoded(shards, index)) is not None]
            if len(found) == len(sets):
                return found
            index = (index + 1) % len(sets[0])

    def _decoded(self, shards: ShardSet, index: int) -> ImagesU8 | None:
        """An image; None where it is damaged. Raises DataError where more than 1 % of all are."""
        section = self.section
        try:
            return decode(shards.read(index), section.resolution, section.channels, section.fit)
        except DecodeError as error:
            self.damaged[shards.name(index)] = printable(str(error))
            check_skipped([Skipped(*one) for one in list(self.damaged.items())], len(shards))
            return None

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(WORKERS, "gankiln-shards")

    @property
    def details(self) -> dict[str, Any]:
        """For the report."""
        a, b = self.sets
        told: dict[str, Any] = {
            "images of A": len(a), "images of B": len(b), "shards": f"{len(a.shards)} and {len(b.shards)}",
            "looked at": f"{len(self.a.image_NCHW)} and {len(self.b.image_NCHW)} images, evenly spread",
        }  # fmt: skip
        if damaged := list(self.damaged.items()):
            examples = "; ".join(f"{name}: {reason}" for name, reason in damaged[:3])
            told["damaged images, replaced by others"] = f"{len(damaged)} since the last start ({examples})"
        return told


def open_shards(
    section: Shards, *, paired: bool, cache_dir: Path, roots: Roots, progress: Progress | None = None
) -> ShardedPairs:
    """Indexes the shards of both domains, and decodes what metrics look at. Raises DataError.

    `paired`: a batch shows counterparts. Pairs are looked at among the images that are trained on: none are held out.
    """
    memory = cache_dir / "shards"
    if section.b is None:
        a, b = scan_shards(section.a, "data.a", memory, roots, "ab")
    else:
        (a,) = scan_shards(section.a, "data.a", memory, roots)
        (b,) = scan_shards(section.b, "data.b", memory, roots)
    damaged = dict.fromkeys([*a.damaged, *b.damaged])
    unusable = frozenset[str]()
    if section.paired:
        _refuse_strangers(a, b)
        unusable = frozenset(name for scan in (a, b) for name, index in scan.found.items() if index.damage)
    sets = (_assembled(a, memory, unusable), _assembled(b, memory, unusable))
    _refuse_thrashing(sets, section.window, paired=paired)
    looked = _looked_at(section, ((a, sets[0].shards), (b, sets[1].shards)), cache_dir, progress)
    return ShardedPairs(
        digest=looked.digest,
        a=looked.a,
        b=looked.b,
        paired=paired,
        asked_NCHW=looked.asked_NCHW,
        truth_NCHW=looked.truth_NCHW,
        skipped=(*damaged, *looked.skipped),
        mirror=section.mirror,
        sets=sets,
        section=section,
    )


def _assembled(scan: Scan, memory: Path, unusable: frozenset[str]) -> ShardSet:
    """The images of all shards that can be used."""
    used = {name: index for name, index in scan.found.items() if len(index.place_N2) and name not in unusable}
    first_S = np.cumsum([0, *(len(index.place_N2) for index in used.values())]).astype(np.int64)
    if first_S[-1] < 2:
        which = f"images named KEY.{scan.tag}.png or the like" if scan.tag else "images"
        raise DataError(f"{scan.where}: the tar files of {scan.path!r} hold {first_S[-1]} {which}; 2 are the fewest")
    digest = hashlib.sha256(json.dumps([scan.memory.name, scan.tag, *used]).encode()).hexdigest()
    whole = memory / f"{digest}.npy"
    if not whole.exists():
        with replacing(whole) as aside:
            np.save(aside, np.concatenate([index.place_N2 for index in used.values()]))
    return ShardSet(scan.shelf, tuple(used), first_S, np.load(whole, mmap_mode="r"), scan.path)


def _refuse_strangers(a: Scan, b: Scan) -> None:
    """Pairs are told by the names of shards and of the images in them."""
    alone = a.found.keys() ^ b.found.keys()
    unlike = (
        name for name in a.found
        if name in b.found and a.found[name].digest != b.found[name].digest
        and not a.found[name].damage and not b.found[name].damage
    )  # fmt: skip
    if (name := min(alone, default=None) or next(unlike, None)) is not None:
        raise DataError(
            f"data.paired: in the shard {printable(name)!r} the images of both domains have not the same names",
            hint="each image of A has its counterpart in the shard of the same name; or set data.paired to false",
        )


def _refuse_thrashing(sets: Sequence[ShardSet], window: int, *, paired: bool) -> None:
    """Of lent shards, those of one window must fit on the disk together: its images come from all of them in turn."""
    windows = 2 if sets[0].shelf is sets[1].shelf and not paired else 1
    for where, shards in zip(("data.a", "data.b"), sets, strict=True):
        if not isinstance(shards.shelf, LentShelf):
            continue
        lent = shards.shelf.lent
        sizes = sorted((lent.files[name].size_bytes for name in shards.shards), reverse=True)
        most_bytes = windows * sum(sizes[: 2 + window // int(np.diff(shards.first_S).min())])
        if most_bytes > lent.limit_bytes:
            raise DataError(
                f"{where}: the {window:,} images of a window may lie in shards of {most_bytes:,} bytes, and "
                f"{lent.limit_bytes:,} may be on the disk",
                hint="lower data.window, make smaller shards, or let the worker keep more: GANKILN_STREAM_BYTES",
            )


def _looked_at(
    section: Shards, domains: Sequence[tuple[Scan, tuple[str, ...]]], cache_dir: Path, progress: Progress | None
) -> PairDataset:
    """Evenly spread images of both domains (a scan and the shards of it that are used), decoded into the cache."""
    channels, side = channel_count(section), section.resolution
    (a, names), (b, _) = domains
    if section.paired:
        source = _sample(section, [a, b], names)
        both = load_source(source, (2 * channels, side, side), cache_dir=cache_dir, progress=progress)
        return split(both, channels, 0, side=side, paired=True)
    one, other = (
        load_source(_sample(section, [scan], used), (channels, side, side), cache_dir=cache_dir, progress=progress)
        for scan, used in domains
    )
    return join(one, other, side=side, mirror=section.mirror)


def _sample(section: Shards, scans: Sequence[Scan], shards: Sequence[str]) -> Source:
    """What is looked at of one domain, or of both, counterparts joined on the channel axis."""
    chosen = [(name, within) for name in shards for within in scans[0].looked_at(name)]

    def decoded(scan: Scan, name: str, within: int) -> ImagesU8:
        return decode(scan.look(name, within), section.resolution, section.channels, section.fit)

    def part(start: int, stop: int) -> Block:
        here = chosen[start:stop]
        names = [f"{name}: image {within}" for name, within in here]
        return block_of(names, lambda at: np.concatenate([decoded(scan, *here[at]) for scan in scans]))

    @contextmanager
    def opened() -> Iterator[Items]:
        yield Items(len(chosen), part)

    settings = section.model_dump(exclude={"a", "b", "paired", "mirror", "window"})
    sets = [(scan.memory.name, scan.tag) for scan in scans]
    return Source("shards", settings | {"sets": sets, "shards": list(shards), "looked at": LOOKED_AT}, opened)


@lru_cache(maxsize=64)
def _shuffled(count: int, seed: int, epoch: int, purpose: int, block: int) -> I64:
    """A permutation drawn from its arguments."""
    draws = np.random.PCG64([seed, epoch, purpose, block]).random_raw(count)
    return np.argsort(draws, kind="stable")
