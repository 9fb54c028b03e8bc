"""A job gets what its spec names, from the first place that has it, and may read nothing else."""

import pytest

from jobs.data.roots import Roots
from jobs.errors import DataError, PermissionDenied, SpecError
from jobs.spec import load
from service.cache import Cache
from service.inputs import Inputs, missing_inputs
from service.store import DirectoryStore, MemoryStore, StoreRefused
from tests.worker_kit import spec_text


@pytest.fixture
def other():
    store = MemoryStore()
    store.put("sets/birds.zip", b"birds")
    return store


@pytest.fixture
def store(tmp_path):
    store = DirectoryStore(tmp_path / "store", durable=False)
    store.put("datasets/cats.zip", b"cats")
    return store


@pytest.fixture
def bring(store, other, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data/dogs.zip").write_bytes(b"dogs")
    cache = Cache(tmp_path / "inputs", limit_bytes=10_000, free_bytes=0)
    opened = []

    def open_store(url):
        opened.append(url)
        return other

    made = Inputs(store, cache, (tmp_path / "data",), open_store=open_store, stream_bytes=10_000)

    def run(path, kind="zip", folder="job"):
        job = load(spec_text(data=f"{{kind: {kind}, path: '{path}', resolution: 32}}"), "spec.yaml").job
        return made.bring(job, tmp_path / folder)

    run.opened = opened
    return run


def _read(brought, path):
    """As the job reads it: through the roots that it is given."""
    return Roots(brought.folder, tuple(brought.roots)).locate(path, "data.path").read_bytes()


def test_from_the_store_the_data_roots_and_an_address(bring, tmp_path):
    for path, content in (
        ("datasets/cats.zip", b"cats"),
        ("dogs.zip", b"dogs"),
        ("s3://bucket/sets/birds.zip", b"birds"),
    ):
        brought = bring(path, folder=content.decode())
        assert _read(brought, path) == content
        brought.release()
    assert bring.opened == ["s3://bucket"]
    absolute = bring(str(tmp_path / "data/dogs.zip"))
    assert _read(absolute, str(tmp_path / "data/dogs.zip")) == b"dogs"


def test_a_data_root_stands_before_the_store(bring, store):
    store.put("dogs.zip", b"other dogs")
    assert _read(bring("dogs.zip"), "dogs.zip") == b"dogs"


def test_what_is_nowhere_says_where_it_was_looked_for(bring, tmp_path):
    with pytest.raises(DataError, match=r"nothing at 'none.zip'") as caught:
        bring("none.zip")
    assert str(tmp_path / "store") in caught.value.message and str(tmp_path / "data") in caught.value.message


@pytest.mark.parametrize(
    "path", ["../secret.zip", "a/../../secret.zip", "s3://bucket/../x.zip", "s3://", "s3://bucket"]
)
def test_a_path_that_leads_out_is_refused(bring, path):
    with pytest.raises((SpecError, DataError)):
        bring(path)


def test_files_of_the_worker_cannot_be_read(bring, tmp_path, store):
    secret = tmp_path / "secret.zip"
    secret.write_bytes(b"secret")
    with pytest.raises(SpecError, match="outside the directories"):
        _read(bring(str(secret)), str(secret))
    (store.root / "trap.zip").symlink_to(secret)  # somebody who may write into the store
    with pytest.raises(SpecError, match="outside the directories"):
        _read(bring("trap.zip", folder="trap"), "trap.zip")


def test_a_bucket_that_forbids_it_is_no_error_of_the_queue_s_own_store(bring, other, monkeypatch):
    def refuse(key):
        raise StoreRefused("s3://bucket: no permission to get")

    monkeypatch.setattr(other, "stat", refuse)
    with pytest.raises(PermissionDenied, match=r"data\.path: s3://bucket/sets/birds\.zip: .*no permission") as caught:
        bring("s3://bucket/sets/birds.zip")
    assert not isinstance(caught.value, StoreRefused)


def test_shipped_sets_need_nothing(bring):
    brought = bring("shipped:fashion-mnist-5000")
    assert not list(brought.folder.iterdir())


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("datasets/cats.zip", None),
        ("datasets/none.zip", "is not in"),
        ("/data/x.zip", "GANKILN_DATA_ROOTS"),
        ("../x.zip", "leads outside"),
        ("s3://bucket/x.zip", None),
        ("shipped:fashion-mnist-5000", None),
    ],
)
def test_whoever_submits_is_told_what_a_worker_will_not_find(store, path, words):
    job = load(spec_text(data=f"{{kind: zip, path: '{path}', resolution: 32}}"), "spec.yaml").job
    notes = missing_inputs(store, job)
    assert (words in notes[0]) if words else notes == []
