"""Shards: every image once an epoch, any position read alone, strangers' tar files, memory that does not grow."""

import io
import tarfile
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jobs.data import Roots, batches, open_data
from jobs.data.shard_index import scan_shards
from jobs.data.shards import ShardSet
from jobs.errors import DataError, SpecError
from jobs.spec.pairs import Shards
from tests.test_run import QUICK, final_state, same
from tests.tiny import EVERY, loaded, run_tiny

COUNT = {"a": 70, "b": 45}
SECTION = Shards(a="a", b="b", resolution=16, window=8)
TINY = next(path for path in EVERY if path.stem == "translation")


def picture(domain: str, index: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (16, 16), (index, 200 if domain == "b" else 0, 7)).save(file, "PNG")
    return file.getvalue()


def write_tar(path: Path, members: dict[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("shards")
    for domain, count in COUNT.items():
        for start in range(0, count, 20):
            members = {f"{i:04d}.png": picture(domain, i) for i in range(start, min(start + 20, count))}
            write_tar(folder / domain / f"{start:05d}.tar", {"about.txt": b"no image", **members})
    return folder


@pytest.fixture
def dataset(folder, tmp_path):
    return open_data(SECTION, cache_dir=tmp_path, roots=Roots(folder))


def numbers(images) -> list[int]:
    return images[:, 0, 0, 0].tolist()


def stream(dataset, images: int, batch: int = 5, seed: int = 3):
    source = batches(dataset, batch=batch, seed=seed, images=images, mirror=False)
    try:
        yield from source
    finally:
        source.close()


def test_every_image_is_shown_once_an_epoch_and_domains_keep_apart(dataset):
    assert (len(dataset), dataset.details["shards"]) == (70, "4 and 3")
    seen = list(islice(stream(dataset, 0), 14))
    a = [number for batch in seen for number in numbers(batch.a_NCHW)]
    assert sorted(a) == list(range(70)) and a != sorted(a)
    b = [number for batch in seen for number in numbers(batch.b_NCHW)][:45]
    assert sorted(b) == list(range(45))
    assert all((batch.a_NCHW[:, 1] == 0).all() and (batch.b_NCHW[:, 1] == 200).all() for batch in seen)
    again = [number for batch in islice(stream(dataset, 70), 14) for number in numbers(batch.a_NCHW)]
    assert sorted(again) == list(range(70)) and again != a, "another order in the next epoch"


@pytest.mark.parametrize("images", [5, 35, 65, 140, 700])
def test_a_stream_goes_on_at_any_image(dataset, images):
    """Exactly as an unbroken one: from position n on, whatever was read before."""
    whole = list(islice(stream(dataset, 0), images // 5 + 2))[images // 5 :]
    resumed = list(islice(stream(dataset, images), 2))
    for one, other in zip(whole, resumed, strict=True):
        assert all((x == y).all() for x, y in zip(one, other, strict=True))


def test_neighbours_stay_near_one_another(dataset):
    """Within a window the images come from neighbouring places, so that a disk reads ahead."""
    shards: ShardSet = dataset.sets[0]
    order = shards.order(3, np.arange(70, dtype=np.int64), 0, 8)
    window = order[:8]
    assert len({int(np.searchsorted(shards.first_S, index, side="right")) for index in window}) <= 2


def test_runs_over_shards_resume_exactly(folder, tmp_path):
    data = {"kind": "shards", "a": str(folder / "a"), "b": str(folder / "b"), "resolution": 32, "channels": "rgba"}
    job = loaded(TINY, **QUICK, **{"recipe.data": data, "training.images": 64, "diagnosis.enabled": False})
    run_tiny(job, tmp_path / "whole", tmp_path)
    stops = iter(range(2))
    with pytest.raises(Exception, match="stopped at 32"):
        run_tiny(job, tmp_path / "broken", tmp_path, should_stop=lambda: next(stops, None) is None)
    run_tiny(job, tmp_path / "broken", tmp_path)
    assert same(final_state(tmp_path / "whole"), final_state(tmp_path / "broken"))


def write_domains(folder: Path, count: int, damaged: dict[int, bytes], per_shard: int) -> None:
    """Both domains; `damaged` stands in place of images of A."""
    for domain in "ab":
        replaced = damaged if domain == "a" else {}
        for first in range(0, count, per_shard):
            members = {
                f"{i:04d}.png": replaced.get(i, picture(domain, i % 250)) for i in range(first, first + per_shard)
            }
            write_tar(folder / domain / f"{first:05d}.tar", members)


def test_damaged_images_are_replaced_by_neighbours_and_named(tmp_path):
    write_domains(tmp_path, 300, {7: b"damaged", 250: picture("a", 1)[:40]}, per_shard=100)
    dataset = open_data(SECTION, cache_dir=tmp_path / "cache", roots=Roots(tmp_path))
    assert [skipped.name for skipped in dataset.skipped] == ["00000.tar: image 7", "00200.tar: image 50"]
    seen = [number for batch in islice(stream(dataset, 0), 60) for number in numbers(batch.a_NCHW)]
    assert len(seen) == 300 and seen.count(8) == 3, "8 stands for itself, for 258 and for 7"
    told = dataset.details["damaged images, replaced by others"]
    assert told.startswith("2 since the last start") and "a/00000.tar at byte" in told


def test_more_than_one_percent_of_damaged_images_end_the_job(tmp_path):
    write_domains(tmp_path, 300, dict.fromkeys((7, 8, 9, 250), b"damaged"), per_shard=100)
    with pytest.raises(DataError, match="more than 1 % of the 300 images") as raised:
        open_data(SECTION, cache_dir=tmp_path / "cache", roots=Roots(tmp_path))
    assert raised.value.exit_code == 65


def test_images_that_are_damaged_where_nobody_looked_end_the_job_when_they_are_shown(tmp_path):
    """They were good when they were looked at; the same error as if they had not been."""
    write_domains(tmp_path, 300, {}, per_shard=100)
    dataset = open_data(SECTION, cache_dir=tmp_path / "cache", roots=Roots(tmp_path))
    for path in (tmp_path / "a").iterdir():
        path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(DataError, match="more than 1 % of the 300 images"):
        list(islice(stream(dataset, 0), 10))


@pytest.mark.parametrize("keep_bytes", [0, 300, 2000, 3 * 1024, -1024])
def test_a_shard_that_is_cut_short_is_skipped_and_named(tmp_path, keep_bytes):
    """Wherever it is cut: in a header, in an image, or before its end."""
    write_domains(tmp_path, 404, {}, per_shard=4)
    path = tmp_path / "a" / "00040.tar"
    whole = path.read_bytes().rstrip(b"\0") + bytes(1024)
    path.write_bytes(whole[:keep_bytes])
    dataset = open_data(SECTION, cache_dir=tmp_path / "cache", roots=Roots(tmp_path))
    (skipped,) = dataset.skipped
    assert skipped.name == "data.a: 00040.tar" and "cut short" in skipped.reason
    assert len(dataset.sets[0]) == 400 and "00040.tar" not in dataset.sets[0].shards
    (tmp_path / "a" / "00080.tar").write_bytes(b"")
    with pytest.raises(
        DataError, match=r"more than 1 % of the 101 shards cannot be used \(data\.a: 00040\.tar: "
    ) as raised:
        open_data(SECTION, cache_dir=tmp_path / "cache", roots=Roots(tmp_path))
    assert raised.value.exit_code == 65


def test_noise_within_a_shard_is_damage_and_no_earlier_end(tmp_path):
    """tarfile takes a strange header for the end of the file."""
    write_domains(tmp_path, 404, {}, per_shard=4)
    path = tmp_path / "a" / "00040.tar"
    content = bytearray(path.read_bytes())
    content[1024:1536] = b"x" * 512  # the header of the second image
    path.write_bytes(content)
    dataset = open_data(SECTION, cache_dir=tmp_path / "cache", roots=Roots(tmp_path))
    assert [skipped.name for skipped in dataset.skipped] == ["data.a: 00040.tar"]


def test_strangers_tar_files(tmp_path):
    outside = tmp_path / "secret.png"
    outside.write_bytes(picture("a", 1))
    path = tmp_path / "a" / "0.tar"
    write_tar(path, {f"{i}.png": picture("a", i) for i in range(3)})
    with tarfile.open(path, "a") as archive:
        link = tarfile.TarInfo("link.png")
        link.type, link.linkname = tarfile.SYMTYPE, str(outside)
        archive.addfile(link)
    assert images_of("a", tmp_path) == 3
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "0.tar").symlink_to(path)
    with pytest.raises(SpecError, match="is a link that"):
        scan_shards("b", "data.b", tmp_path / "cache", Roots(tmp_path, (tmp_path / "b",)))
    with pytest.raises(DataError, match=r"no directory with \*.tar files"):
        images_of("cache", tmp_path)


def test_a_changed_shard_is_indexed_anew(tmp_path):
    write_tar(tmp_path / "a" / "0.tar", {f"{i}.png": picture("a", i) for i in range(3)})
    assert images_of("a", tmp_path) == 3
    write_tar(tmp_path / "a" / "0.tar", {f"{i}.png": picture("a", i) for i in range(5)})
    assert images_of("a", tmp_path) == 5


def images_of(path: str, folder: Path) -> int:
    (scan,) = scan_shards(path, "data.a", folder / "cache", Roots(folder))
    return sum(len(index.place_N2) for index in scan.found.values())


PAIRS = Shards(a="pairs", paired=True, resolution=16, window=8)


@pytest.fixture
def pairs(tmp_path) -> Path:
    """KEY.a.png beside KEY.b.png, in any order, and what is neither."""
    for first in range(0, 60, 20):
        members = {f"{i:04d}.{domain}.png": picture(domain, i) for domain in "ba" for i in range(first, first + 20)}
        write_tar(tmp_path / "pairs" / f"{first:05d}.tar", {"0000.png": picture("a", 255), "x.json": b"{}", **members})
    return tmp_path


@pytest.mark.parametrize("paired", [True, False])
def test_pairs_lie_in_one_shard(pairs, paired):
    """Together where the recipe wants pairs, and each domain in its own order where it does not."""
    dataset = open_data(PAIRS, cache_dir=pairs / "cache", roots=Roots(pairs), paired=paired)
    seen = [(numbers(batch.a_NCHW), numbers(batch.b_NCHW)) for batch in islice(stream(dataset, 0), 12)]
    a, b = ([number for batch in seen for number in batch[domain]] for domain in (0, 1))
    assert sorted(a) == sorted(b) == list(range(60)) and (a == b) is paired
    assert dataset.truth(9, 0)[:, 0].tolist() == dataset.conditions(9, 0)[:, 0].tolist()
    assert (dataset.truth(9, 0)[:, 1] == 200).all()


def test_an_image_without_its_counterpart_is_refused_with_its_shard(pairs):
    write_tar(pairs / "pairs" / "00040.tar", {"1.a.png": picture("a", 1), "2.b.png": picture("b", 2)})
    with pytest.raises(DataError, match=r"data\.paired: in the shard '00040\.tar'"):
        open_data(PAIRS, cache_dir=pairs / "cache", roots=Roots(pairs), paired=True)


def test_of_pairs_a_damaged_image_or_shard_takes_its_counterpart_with_it(tmp_path):
    write_domains(tmp_path, 404, {200: b"damaged"}, per_shard=4)
    (tmp_path / "b" / "00040.tar").write_bytes(b"")
    section = Shards(a="a", b="b", paired=True, resolution=16, window=8)
    dataset = open_data(section, cache_dir=tmp_path / "cache", roots=Roots(tmp_path), paired=True)
    assert [one.name for one in dataset.skipped] == ["data.b: 00040.tar", "00200.tar: image 0"]
    assert len(dataset) == 400
    for batch in islice(stream(dataset, 0), 80):
        assert numbers(batch.a_NCHW) == numbers(batch.b_NCHW)
    assert (dataset.truth(300, 0)[:, 0] == dataset.conditions(300, 0)[:, 0].numpy()).all()


def test_a_run_over_pairs_in_shards(pairs, tmp_path):
    data = {"kind": "shards", "a": str(pairs / "pairs"), "paired": True, "resolution": 32, "channels": "rgba"}
    job = loaded(TINY, **QUICK, **{
        "recipe.data": data, "recipe.paired": True, "training.images": 32, "diagnosis.enabled": False,
    })  # fmt: skip
    run_tiny(job, tmp_path / "run", tmp_path)


def test_one_directory_without_pairs_is_refused():
    with pytest.raises(ValueError, match="without b the shards of a hold pairs"):
        Shards(a="pairs", resolution=16)
