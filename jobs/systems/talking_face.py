"""Talking faces: does the mouth follow the sound, on clips that were never trained on; and films with sound."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from jobs.data.clips import Clip, ClipDataset
from jobs.diagnosis import table
from jobs.diagnosis.inputs import Steps
from jobs.diagnosis.speaking import Speaking
from jobs.evaluation import faces, lips, reconstruction, syncnet
from jobs.evaluation.cpbd import cpbd
from jobs.evaluation.intervals import bootstrap_mean
from jobs.evaluation.lips import Box, Film
from jobs.evaluation.rows import MetricRow
from jobs.recipes.talking_face import TalkingFace
from jobs.report import movies, pictures
from jobs.report.model import Picture
from jobs.systems.system import Surroundings, System, Watched
from jobs.training.seeds import derived_seed

WATCHED_CLIPS = 4
SHOWN_CLIPS, STRIP_FRAMES = 3, 12
MOST_DELAY_FRAMES = 5
REAL = "real frames"
"""Label of rows that measure the held-out clips themselves."""
LEAST_OPEN_PIXELS = 1.0
"""Landmarks of a mouth are looked for where it is so far open."""
_EYES, _LIPS = slice(4, 6), slice(0, 4)


@dataclass(frozen=True)
class _Made:
    """A held-out clip, and what the generator makes of its still and its sound."""

    clip: Clip
    film_TCHW: Film
    swapped_TCHW: Film
    """The same face with the sound of the next clip."""

    @property
    def real_TCHW(self) -> Film:  # noqa: N802
        return np.array(self.clip.frames_TCHW)


class TalkingFaceSystem(System):
    """What a talking face adds."""

    drawn_from = "stills and sounds, a window of consecutive frames each"

    def __init__(self, around: Surroundings) -> None:
        super().__init__(around)
        assert isinstance(around.recipe, TalkingFace) and isinstance(around.dataset, ClipDataset)
        self.recipe, self.clips = around.recipe, around.dataset
        side = self.clips.section.resolution
        self.mouth = Box.of(self.clips.section.mouth, side, side)

    def headline(self) -> tuple[str, str] | None:
        """Whether the mouth does what it should."""
        return "mouth_correlation", "held-out clips"

    def data_details(self) -> dict[str, Any]:
        """Clips, and how an example is made of them."""
        section = self.clips.section
        rate, fps = section.audio.rate, section.fps
        return {
            "clips": len(self.clips.clips),
            "held-out clips": len(self.clips.held_out),
            "frames": f"{sum(len(clip.frames_TCHW) for clip in self.clips.clips):,} at {fps} a second",
            "an image is": f"a window of {section.window_frames} frames",
            "sound": f"{rate:,} samples a second, {section.audio.feature} [{section.audio_shape[0]}, "
            f"{section.audio_shape[1]}] a frame",
        }

    def rows(self, images: int, label: str) -> Iterable[MetricRow | dict[str, Any]]:
        """Every measure of speech and likeness, on all held-out clips; of the clips themselves, too, but once."""
        made = self._make(len(self.clips.held_out))
        own = [self._row(name, values, images, label, len(made)) for name, values in self._measured(made).items()]
        if label:
            return own
        themselves = [_Made(one.clip, one.real_TCHW, one.real_TCHW) for one in made]
        real = self._measured(themselves)
        told = ("mouth_correlation", "cpbd", "lse_d", "lse_c", "sync_offset", "identity_distance", "blinks_per_second",
                "landmark_distance")  # fmt: skip
        return own + [self._row(name, real[name], images, REAL, len(made)) for name in told if name in real]

    def watched(self, images: int, steps: Steps) -> Iterable[Watched]:
        """A few held-out clips, the same at every check; and what the three discriminators said in each step."""
        made = self._make(WATCHED_CLIPS)
        errors = [faces.half_errors(one.film_TCHW, one.real_TCHW) for one in made]
        seen = Speaking(
            images=images,
            planned_images=self.around.job.training.images,
            motion_ratio=float(np.mean([self._motion(one) for one in made])),
            swap=float(np.mean([self._swap(one) for one in made])),
            correlation=float(np.mean([lips.correlation(self._opening(one), self._truth(one)) for one in made])),
            upper_error=float(np.mean([upper for upper, _ in errors])),
            lower_error=float(np.mean([lower for _, lower in errors])),
            halves_correlation=float(np.mean([faces.halves_correlation(one.film_TCHW) for one in made])),
            real_halves_correlation=float(np.mean([faces.halves_correlation(one.real_TCHW) for one in made])),
            extra_eyes=_extra_eyes(made),
            strip_NCHW=np.concatenate([_spread(made[0].real_TCHW), _spread(made[0].film_TCHW)]),
        )
        return [(table.OF_SPEAKING_STEPS, steps), (table.OF_SPEAKING, seen)]

    def pictures(self, images: int) -> tuple[Picture, ...]:
        """Held-out clips: real, generated and difference, as a strip of frames and as a film with sound."""
        found = []
        for number, one in enumerate(self._make(SHOWN_CLIPS)):
            apart = movies.difference(one.real_TCHW, one.film_TCHW)
            rows = np.concatenate([_spread(film) for film in (one.real_TCHW, one.film_TCHW, apart)])
            path = f"films/{number:02d}"
            pictures.write_png(self.around.out / f"{path}.png", pictures.grid(rows, STRIP_FRAMES))
            caption = f"{one.clip.name}: real, generated, and their difference (grey is none)"
            found.append(Picture(path=f"{path}.png", caption=f"{caption}; one frame in {_every(one.film_TCHW)}."))
            if movies.can_write():
                section = self.clips.section
                film = movies.side_by_side(one.real_TCHW, one.film_TCHW, apart)
                target = self.around.out / f"{path}.mp4"
                movies.write_mp4(target, film, section.fps, one.clip.waveform_S, section.audio.rate)
                found.append(Picture(path=f"{path}.mp4", caption=f"{caption}, with sound."))
        if not movies.can_write():
            last = found[-1]
            found[-1] = last.model_copy(update={"caption": f"{last.caption} {movies.ABSENT}: {movies.HINT}."})
        return tuple(found)

    def _make(self, count: int) -> list[_Made]:
        """Of the first `count` held-out clips; noise is the same at every look."""
        some = self.clips.held_out[:count]
        made = []
        for number, clip in enumerate(some):
            other = self.clips.held_out[(number + 1) % len(self.clips.held_out)]
            seed = derived_seed("film", self.around.job.seed, number)
            film, swapped = (
                pictures.from_signed(self.recipe.film(given, seed).float().cpu().numpy())
                for given in (self.clips.whole(clip), self.clips.whole(clip, sound_of=other))
            )
            made.append(_Made(clip, film, swapped))
        return made

    def _measured(self, made: list[_Made]) -> dict[str, list[float]]:
        """By metric: a value a clip."""
        openings = [(self._opening(one), self._truth(one)) for one in made]
        synced = [syncnet.measure(self._syncnet, one.clip, one.film_TCHW, self._hearing) for one in made]
        values: dict[str, list[float]] = {
            "mouth_correlation": [lips.correlation(seen, true) for seen, true in openings],
            "mouth_delay": [float(lips.delay_frames(seen, true, MOST_DELAY_FRAMES)) for seen, true in openings],
            "audio_swap": [self._swap(one) for one in made],
            "motion_ratio": [self._motion(one) for one in made],
            "lse_d": [sync.distance for sync in synced],
            "lse_c": [sync.confidence for sync in synced],
            "sync_offset": [float(sync.offset_frames) for sync in synced],
            "cpbd": [value for one in made if (value := _sharpness(one.film_TCHW)) is not None],
            "identity_distance": self._identity(made),
        }
        pairs = [(_unit(one.real_TCHW), _unit(one.film_TCHW)) for one in made]
        values["psnr"] = [float(reconstruction.psnr(real, film).mean()) for real, film in pairs]
        if min(pairs[0][0].shape[2:]) >= reconstruction.WINDOW:
            values["ssim"] = [float(reconstruction.ssim(real, film).mean()) for real, film in pairs]
        return {**values, **self._known(made)}

    def _known(self, made: list[_Made]) -> dict[str, list[float]]:
        """What needs the truth of drawn clips: landmarks of lips, and eyes to blink with."""
        values: dict[str, list[float]] = {}
        for one in made:
            truth = one.clip.truth
            if truth is None:
                continue
            opened_T = truth.opening_T >= LEAST_OPEN_PIXELS
            if opened_T.any():
                away_TK = np.linalg.norm(
                    lips.mouth_landmarks(one.film_TCHW, self.mouth) - truth.landmarks_TK2[:, _LIPS], axis=2
                )
                values.setdefault("landmark_distance", []).append(float(away_TK[opened_T].mean()))
            boxes = faces.eye_boxes(truth.landmarks_TK2[0, _EYES], one.film_TCHW.shape[-1])
            seconds = len(one.film_TCHW) / self.clips.section.fps
            values.setdefault("blinks_per_second", []).append(lips.blinks(one.film_TCHW, boxes) / seconds)
        return values

    def _row(self, metric: str, values: list[float], images: int, label: str, clips: int) -> MetricRow:
        seed = self.around.job.evaluation.seed
        low, high = bootstrap_mean(np.array(values), seed) if len(values) > 1 else (None, None)
        return MetricRow(
            metric=metric,
            features="syncnet_own" if metric in ("lse_d", "lse_c", "sync_offset") else "held-out clips",
            value=float(np.mean(values)),
            images=images,
            samples=clips,
            interval_low=low,
            interval_high=high,
            interval_kind="95 %, bootstrap over clips" if low is not None else None,
            seed=seed,
            label=label,
        )

    @cached_property
    def _syncnet(self) -> syncnet.SyncNet:
        """Trained on the clips to learn from, once for a set of data."""
        return syncnet.open_syncnet(
            self.clips.clips, self._hearing, self.clips.digest, self.around.cache_dir / "features", self.around.device
        )

    @property
    def _hearing(self) -> syncnet.Hearing:
        return syncnet.Hearing(self.clips.section.audio.rate, self.clips.section.fps)

    def _opening(self, one: _Made) -> NDArray[np.float64]:
        return lips.openings(one.film_TCHW, self.mouth)

    def _truth(self, one: _Made) -> NDArray[np.float64]:
        """The opening that is known, else the one measured on the real film."""
        truth = one.clip.truth
        return lips.openings(one.real_TCHW, self.mouth) if truth is None else truth.opening_T.astype(np.float64)

    def _motion(self, one: _Made) -> float:
        return lips.motion(one.film_TCHW, self.mouth) / max(lips.motion(one.real_TCHW, self.mouth), 1e-9)

    def _swap(self, one: _Made) -> float:
        frames = len(one.swapped_TCHW)
        return lips.swap_change(one.film_TCHW[:frames], one.swapped_TCHW, one.real_TCHW, self.mouth)

    def _identity(self, made: list[_Made]) -> list[float]:
        stills = [self.clips.whole(one.clip).still_NCHW.numpy() for one in made]
        still_SD = faces.embedded(np.concatenate(stills))
        return [
            faces.identity_distance(_spread(one.film_TCHW), still_SD[at], np.delete(still_SD, at, axis=0))
            for at, one in enumerate(made)
        ]


def _extra_eyes(made: list[_Made]) -> float | None:
    """Places that look like an eye, a frame, beyond those of real frames; None without known places."""
    extra = []
    for one in made:
        truth = one.clip.truth
        if truth is None:
            return None
        side = one.film_TCHW.shape[-1]
        at = int(truth.eyes_T.argmax())
        eye = faces.eye_patch(one.real_TCHW[at], truth.landmarks_TK2[at, 4], max(side // 16, 2), max(side // 11, 3))
        seen = [faces.eyes_seen(_spread(film), eye) for film in (one.film_TCHW, one.real_TCHW)]
        extra.append(seen[0] - seen[1])
    return float(np.mean(extra))


def _sharpness(film_TCHW: Film) -> float | None:
    values = [value for frame in lips.luma(_spread(film_TCHW)) if (value := cpbd(frame)) is not None]
    return float(np.mean(values)) if values else None


def _every(film_TCHW: Film) -> int:
    return max(1, len(film_TCHW) // STRIP_FRAMES)


def _spread(film_TCHW: Film) -> Film:
    return film_TCHW[:: _every(film_TCHW)][:STRIP_FRAMES]


def _unit(film_TCHW: Film) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(film_TCHW)).double() / 255
