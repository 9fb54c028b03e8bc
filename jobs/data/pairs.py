"""Two domains of images, for translation: which image of A and which of B a batch shows, and what is known of pairs."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jobs.data.dataset import ImageDataset, ImagesU8, Shown, Skipped, pinned
from jobs.data.stream import CROP, OTHER_DOMAIN, OTHER_MIRROR, indices


class PairBatch(NamedTuple):
    """A share of one batch: as many images of A as of B. Counterparts of one another only in paired data."""

    a_NCHW: Tensor
    """uint8."""
    b_NCHW: Tensor
    """uint8."""


@dataclass(frozen=True, eq=False)
class Pictures:
    """Decoded images of one domain, possibly larger than what is shown of them."""

    image_NCHW: ImagesU8
    side: int
    """Of what is shown: the middle, or a random square."""

    @property
    def middle_NCHW(self) -> ImagesU8:  # noqa: N802
        """The middle squares; a view."""
        margin = (self.image_NCHW.shape[2] - self.side) // 2
        return self.image_NCHW[:, :, margin : margin + self.side, margin : margin + self.side]

    def gather(self, index_N: NDArray[np.int64], mirrored_N: NDArray[np.bool_], corner_N2: NDArray[np.int64]) -> Tensor:
        """The images at `index_N`, each cut out at its corner, copied."""
        image_NCHW = np.stack(
            [
                self.image_NCHW[index, :, top : top + self.side, left : left + self.side]
                for index, (top, left) in zip(index_N, corner_N2, strict=True)
            ]
        )
        if mirrored_N.any():
            image_NCHW[mirrored_N] = image_NCHW[mirrored_N, :, :, ::-1]
        return pinned(torch.from_numpy(image_NCHW))


@dataclass(frozen=True, eq=False)
class PairDataset:
    """Two domains. `images_NCHW` are the real images of B, which translations are compared with."""

    digest: str
    a: Pictures
    b: Pictures
    paired: bool
    """Whether a batch shows counterparts."""
    asked_NCHW: ImagesU8
    """Images of A to translate when the run is looked at: held out where the data has such."""
    truth_NCHW: ImagesU8 | None = None
    """Their translations, where they are known."""
    skipped: tuple[Skipped, ...] = ()
    mirror: bool = False

    @property
    def images_NCHW(self) -> ImagesU8:  # noqa: N802
        return self.b.middle_NCHW

    @property
    def labels_N(self) -> None:  # noqa: N802
        """Two domains have no classes."""

    @property
    def class_names(self) -> tuple[str, ...]:
        return ()

    def __len__(self) -> int:
        """An epoch shows every image of the larger domain once."""
        return max(len(self.a.image_NCHW), len(self.b.image_NCHW))

    def gather(self, seen: Shown) -> PairBatch:
        """Of A the images that `seen` names; of B their counterparts, or others in an order of B's own."""
        a_N, b_N = seen.index_N % len(self.a.image_NCHW), seen.index_N
        mirrored_N = seen.mirrored_N
        if not self.paired:
            b_N = indices(len(self.b.image_NCHW), seen.seed, seen.position_N, purpose=OTHER_DOMAIN)
            mirrored_N = coins(seen, OTHER_MIRROR) if self.mirror and seen.mirrored_N.any() else seen.mirrored_N
        corner_N2 = self._corners(seen, 0)
        return PairBatch(
            self.a.gather(a_N, seen.mirrored_N, corner_N2),
            self.b.gather(b_N, mirrored_N, corner_N2 if self.paired else self._corners(seen, 1)),
        )

    def _corners(self, seen: Shown, domain: int) -> NDArray[np.int64]:
        """Upper left corners of what is shown, drawn from (seed, position)."""
        room = self.a.image_NCHW.shape[2] - self.a.side
        if room == 0:
            return np.zeros((len(seen.position_N), 2), np.int64)
        draws = [np.random.PCG64([seen.seed, int(at), CROP, domain]).random_raw(2) for at in seen.position_N]
        return (np.stack(draws) % np.uint64(room + 1)).astype(np.int64)

    def conditions(self, count: int, seed: int) -> Tensor:
        """Images of A to translate, uint8 [count, C, S, S]."""
        return torch.from_numpy(self.asked_NCHW[self._asked(count, seed)])

    def truth(self, count: int, seed: int) -> ImagesU8 | None:
        """The translations of `conditions(count, seed)`, uint8; None where nobody knows them."""
        return None if self.truth_NCHW is None else np.asarray(self.truth_NCHW[self._asked(count, seed)])

    def _asked(self, count: int, seed: int) -> NDArray[np.int64]:
        """Different ones as long as there are enough."""
        return indices(len(self.asked_NCHW), seed & 0xFFFF_FFFF, np.arange(count, dtype=np.int64))

    @property
    def details(self) -> dict[str, Any]:
        """For the report."""
        known = "pairs are known" if self.truth_NCHW is not None else "no pairs are known"
        shown = "shown in pairs" if self.paired else "shown unpaired"
        return {
            "images of A": len(self.a.image_NCHW),
            "images of B": len(self.b.image_NCHW),
            "pairs": f"{known}, {shown}",
        }


def split(pairs: ImageDataset, channels: int, test_images: int, *, side: int, paired: bool) -> PairDataset:
    """Pairs on the channel axis, A before B, the last `test_images` of them held out (0: asked are all)."""
    both_NCHW = pairs.images_NCHW
    train = both_NCHW[: len(both_NCHW) - test_images]
    asked = both_NCHW[len(both_NCHW) - test_images :] if test_images else both_NCHW
    return PairDataset(
        digest=pairs.digest,
        a=Pictures(train[:, :channels], side),
        b=Pictures(train[:, channels:], side),
        paired=paired,
        asked_NCHW=Pictures(asked[:, :channels], side).middle_NCHW,
        truth_NCHW=Pictures(asked[:, channels:], side).middle_NCHW,
        skipped=pairs.skipped,
    )


def join(a: ImageDataset, b: ImageDataset, *, side: int, mirror: bool) -> PairDataset:
    """Two domains without known pairs."""
    return PairDataset(
        digest=f"{a.digest[:32]}{b.digest[:32]}",
        a=Pictures(a.images_NCHW, side),
        b=Pictures(b.images_NCHW, side),
        paired=False,
        asked_NCHW=Pictures(a.images_NCHW, side).middle_NCHW,
        skipped=(*a.skipped, *b.skipped),
        mirror=mirror,
    )


def coins(seen: Shown, purpose: int) -> NDArray[np.bool_]:
    """One fair coin a position."""
    return np.array(
        [np.random.PCG64([seen.seed, int(at), purpose]).random_raw() >> 63 == 1 for at in seen.position_N], np.bool_
    )
