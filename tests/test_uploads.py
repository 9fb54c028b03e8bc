"""What a run leaves comes into the store beside the run, through outages, and a checkpoint only as a whole."""

import hashlib
import io
import json
import time

import pytest

from service.queue import Checkpoint
from service.restore import restore
from service.spool import Spool
from service.store import MemoryStore, Unavailable
from service.telemetry import logs
from service.telemetry.gpu import NvidiaLibrary
from service.telemetry.observer import Observer
from service.uploads import ResumeFile, ResumeManifest, Uploads

JOB = "01lg8ptva279b8cbffc8a5b4"
PREFIX = f"jobs/{JOB}/attempts/00000002"


class Flaky(MemoryStore):
    """Down while `down`; `fail_on` names keys whose put fails once."""

    def __init__(self):
        super().__init__()
        self.down = False
        self.puts = []

    def put(self, key, data):
        if self.down:
            raise Unavailable("the store is down")
        self.puts.append(key)
        super().put(key, data)


@pytest.fixture
def store():
    return Flaky()


@pytest.fixture
def observer():
    log = logs.configure(format="json", redact=str, stream=io.StringIO())
    return Observer(log, gpus=NvidiaLibrary("none.so"))


@pytest.fixture
def uploads(store, observer, tmp_path):
    made = _uploads(store, observer, tmp_path)
    yield made
    made.close()


def _uploads(store, observer, tmp_path, prefix=PREFIX, interval_seconds=0.05):
    (tmp_path / "run").mkdir(exist_ok=True)
    return Uploads(
        store,
        job_id=JOB,
        attempt_prefix=prefix,
        run_dir=tmp_path / "run",
        log_file=tmp_path / "output.log",
        spool=Spool(tmp_path / "spool", 10_000),
        observer=observer,
        interval_seconds=interval_seconds,
    )


def _save(tmp_path, images, content=b"weights"):
    folder = tmp_path / "run/checkpoints" / f"{images:09d}"
    folder.mkdir(parents=True)
    (folder / "state.pt").write_bytes(content + str(images).encode())
    (folder / "MANIFEST.json").write_text("{}")
    (tmp_path / "run/samples").mkdir(exist_ok=True)
    (tmp_path / "run/samples" / f"{images:09d}.png").write_bytes(b"png")
    with (tmp_path / "run/events.jsonl").open("a") as file:
        file.write(json.dumps({"event": "checkpoint", "images": images}) + "\n")


def _until(condition, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert condition()


def _save_and_publish(uploads, tmp_path, images):
    _save(tmp_path, images)
    uploads.checkpoint_saved(images)
    _until(lambda: uploads.published and uploads.published.images == images)


def _keys(store):
    return [stat.key.removeprefix(PREFIX + "/") for stat in store.list(PREFIX + "/")]


def test_a_published_checkpoint_can_be_resumed_from_elsewhere(uploads, store, tmp_path):
    uploads.start({})
    _save_and_publish(uploads, tmp_path, 100)
    other = tmp_path / "elsewhere"
    images, stored = restore(store, JOB, uploads.published, other, epoch=3)
    assert images == 100
    assert set(stored) == {"checkpoints/000000100/state.pt", "checkpoints/000000100/MANIFEST.json",
                           "samples/000000100.png", "events.jsonl"}  # fmt: skip
    for path in stored:
        assert (other / path).read_bytes() == (tmp_path / "run" / path).read_bytes()


def test_the_manifest_is_written_last(uploads, store, tmp_path):
    uploads.start({})
    _save_and_publish(uploads, tmp_path, 100)
    manifest = store.puts.index(f"{PREFIX}/resume/000000100/MANIFEST.json")
    assert all("000000100" not in key or "log" in key for key in store.puts[manifest + 1 :])
    content = ResumeManifest.model_validate_json(store.get(f"{PREFIX}/resume/000000100/MANIFEST.json"))
    for file in content.files:
        assert hashlib.sha256(store.get(f"jobs/{JOB}/{file.key}")).hexdigest() == file.sha256


def test_nothing_is_uploaded_twice(uploads, store, tmp_path):
    uploads.start({})
    for images in (100, 200, 300):
        _save_and_publish(uploads, tmp_path, images)
    uploads.finish()
    samples = [key for key in store.puts if "/samples/" in key]
    assert len(samples) == len(set(samples)) == 3
    assert len([key for key in store.puts if key.endswith("state.pt")]) == 3


def test_through_an_outage_training_goes_on_and_the_newest_checkpoint_comes_home(uploads, store, tmp_path, observer):
    uploads.start({})
    _save_and_publish(uploads, tmp_path, 100)
    store.down = True
    for images in (200, 300, 400):
        started = time.monotonic()
        _save(tmp_path, images)
        uploads.checkpoint_saved(images)
        assert time.monotonic() - started < 0.5  # nobody waits for the store
    time.sleep(0.2)
    assert uploads.published.images == 100
    store.down = False
    _until(lambda: uploads.published.images == 400)
    assert "gankiln_upload_failures_total" in observer.recorder.render()[0].decode()
    assert not any(key.startswith("checkpoints/000000200") for key in _keys(store))


def test_the_log_arrives_in_pieces_and_whole(uploads, store, tmp_path):
    uploads.start({})
    with (tmp_path / "output.log").open("w") as file:
        for number in range(5):
            file.write(f"line {number}\n")
            file.flush()
            time.sleep(0.1)
    uploads.flush(time.monotonic() + 5)
    pieces = [store.get(f"{PREFIX}/{key}") for key in _keys(store) if key.startswith("log/")]
    assert b"".join(pieces) == b"".join(b"line %d\n" % number for number in range(5))
    assert len(pieces) > 1


def test_old_checkpoints_go_once_a_heartbeat_told_of_newer_ones_and_two_stay(uploads, store, tmp_path):
    store.put(f"jobs/{JOB}/attempts/00000001/resume/000000050/MANIFEST.json", b"old")
    store.put(f"jobs/{JOB}/attempts/00000001/samples/000000050.png", b"still used")
    store.put(f"jobs/{JOB}/attempts/00000003/resume/000000050/MANIFEST.json", b"of a successor")
    uploads.start({})
    for images in (100, 200, 300, 400):
        _save_and_publish(uploads, tmp_path, images)
    time.sleep(0.2)
    assert "resume/000000100/MANIFEST.json" in _keys(store)  # nothing was told yet
    uploads.told(uploads.published)
    _until(lambda: "resume/000000100/MANIFEST.json" not in _keys(store))
    _until(lambda: not any(key.startswith(("checkpoints/000000200", "resume/000000200")) for key in _keys(store)))
    kept = {key.split("/")[1] for key in _keys(store) if key.startswith("resume/")}
    assert kept == {"000000300", "000000400"}
    all_keys = {stat.key.removeprefix(f"jobs/{JOB}/attempts/") for stat in store.list(f"jobs/{JOB}/")}
    assert "00000001/resume/000000050/MANIFEST.json" not in all_keys
    assert {"00000001/samples/000000050.png", "00000003/resume/000000050/MANIFEST.json"} <= all_keys


def test_a_result_lies_below_the_attempt_that_commits_it(uploads, store, tmp_path, observer):
    uploads.start({})
    _save_and_publish(uploads, tmp_path, 100)
    base = uploads.published
    later = tmp_path / "later"
    later.mkdir()
    _, stored = restore(store, JOB, base, later / "run", epoch=3)
    successor = _uploads(store, observer, later, prefix=f"jobs/{JOB}/attempts/00000003")
    successor.start(stored)
    (later / "run/report.html").write_text("report")
    (later / "run/.lock").write_text("")
    (later / "run/half.tmp").write_text("")
    (later / "run/link").symlink_to("/etc/passwd")
    files = successor.finish()
    successor.close()
    assert {file.path for file in files} == {*stored, "report.html"}
    for file in files:
        content = store.get(f"jobs/{JOB}/attempts/00000003/{file.path}")
        assert hashlib.sha256(content).hexdigest() == file.sha256


def test_a_successor_publishes_what_its_predecessor_stored_without_storing_it_again(uploads, store, tmp_path, observer):
    uploads.start({})
    _save_and_publish(uploads, tmp_path, 100)
    later = tmp_path / "later"
    later.mkdir()
    _, stored = restore(store, JOB, uploads.published, later / "run", epoch=3)
    successor = _uploads(store, observer, later, prefix=f"jobs/{JOB}/attempts/00000003")
    store.puts.clear()
    successor.start(stored)
    _save(later, 200)
    successor.checkpoint_saved(200)
    _until(lambda: successor.published)
    successor.close()
    assert not any(key.endswith("samples/000000100.png") for key in store.puts)
    images, again = restore(store, JOB, successor.published, tmp_path / "third/run", epoch=4)
    assert images == 200 and "samples/000000100.png" in again


def test_a_base_that_is_gone_or_damaged_is_replaced_by_the_next_best(uploads, store, tmp_path):
    uploads.start({})
    for images in (100, 200):
        _save_and_publish(uploads, tmp_path, images)
    base = uploads.published
    state = f"{PREFIX}/checkpoints/000000200/state.pt"
    store.put(state, b"something else")
    assert restore(store, JOB, base, tmp_path / "a", epoch=3)[0] == 100
    store.delete(f"{PREFIX}/resume/000000200/MANIFEST.json")
    assert restore(store, JOB, base, tmp_path / "b", epoch=3)[0] == 100
    for images in (100, 200):
        store.delete(f"{PREFIX}/checkpoints/{images:09d}/state.pt")
    assert restore(store, JOB, base, tmp_path / "c", epoch=3) == (0, {})


def test_a_lost_sample_grid_costs_the_grid_and_not_the_run(uploads, store, tmp_path):
    uploads.start({})
    _save_and_publish(uploads, tmp_path, 100)
    store.delete(f"{PREFIX}/samples/000000100.png")
    images, stored = restore(store, JOB, uploads.published, tmp_path / "a", epoch=3)
    assert images == 100 and "samples/000000100.png" not in stored


def test_while_the_store_does_not_answer_nothing_is_known_about_a_base(tmp_path):
    class Down(MemoryStore):
        def get(self, key):
            raise Unavailable("down")

    base = Checkpoint(prefix="attempts/00000001/resume/000000100", images=100, manifest_sha256="0" * 64)
    with pytest.raises(Unavailable):
        restore(Down(), JOB, base, tmp_path, epoch=2)


@pytest.mark.parametrize("path", ["../../etc/cron.d/x", "/etc/passwd", "a/../../b", "a//b", "C:\\x", "a\0b"])
def test_a_manifest_cannot_write_outside_the_run_directory(store, tmp_path, path):
    with pytest.raises(ValueError):
        ResumeFile(path=path, key="attempts/1/x", size_bytes=0, sha256="0" * 64)
    forged = {"images": 5, "files": [{"path": path, "key": "spec.yaml", "size_bytes": 0, "sha256": "0" * 64}]}
    data = json.dumps(forged).encode()
    store.put(f"{PREFIX}/resume/000000005/MANIFEST.json", data)
    base = Checkpoint(
        prefix="attempts/00000002/resume/000000005", images=5, manifest_sha256=hashlib.sha256(data).hexdigest()
    )
    assert restore(store, JOB, base, tmp_path / "run", epoch=3) == (0, {})
    assert not (tmp_path / "run").exists() or not list((tmp_path / "run").rglob("*"))


def test_finish_tells_the_store_s_error_so_that_it_is_called_again(uploads, store, tmp_path):
    uploads.start({})
    _save(tmp_path, 100)
    store.down = True
    with pytest.raises(Unavailable):
        uploads.finish()
    store.down = False
    assert {file.path for file in uploads.finish()} >= {"checkpoints/000000100/state.pt", "events.jsonl"}
