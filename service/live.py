"""What a job has left so far, running or ended: its events, sample grids and report, by their keys in the store."""

from contextlib import suppress
from pathlib import Path

from pydantic import ValidationError

from jobs.report.embed import spread
from service.queue import JobState, Queue, keys
from service.store import KeyNotFound, Store, check_key, is_key
from service.uploads import MANIFEST, ResumeManifest

SHOWN = ("report.json", "events.jsonl")
MOST_SAMPLES = 8
LARGEST_FILE_BYTES = 50_000_000


def files(store: Store, state: JobState) -> dict[str, str]:
    """Path in the run directory -> key. Of an ended job what it committed; of a running one the newest of each."""
    if state.files:
        return {file.path: _published(store, state, file.path) for file in state.files}
    found: dict[str, str] = {}
    prefix = keys.attempts(state.id)
    for stat in store.list(prefix):
        match stat.key.removeprefix(prefix).split("/"):
            case [_, "resume", _, name] if name == MANIFEST:
                found.update(_of_manifest(store, state, stat.key))
            case [_, "samples", name]:
                found[f"samples/{name}"] = stat.key
            case [_, name] if name in SHOWN:
                found[name] = stat.key
            case _:
                pass
    return found


def grids(found: dict[str, str]) -> dict[int, str]:
    """Images -> path of the sample grids among `found`, in order."""
    named = {path: path.removeprefix("samples/").removesuffix(".png") for path in found if path.startswith("samples/")}
    return {int(stem): path for path, stem in sorted(named.items()) if stem.isdecimal()}


def fetch(queue: Queue, job_id: str, folder: Path, samples: int = MOST_SAMPLES) -> bool:
    """Brings report, events and at most so many sample grids into `folder`; whether there was anything."""
    head = queue.log.head(job_id)
    if head is None:
        return False
    found = files(queue.store, head.state)
    wanted = [*SHOWN, *(spread([*grids(found).values()], samples) if samples else ())]
    brought = [_bring(queue.store, found[path], folder / check_key(path)) for path in wanted if path in found]
    return any(brought)


def _bring(store: Store, key: str, path: Path) -> bool:
    stat = store.stat(key)
    if stat is None or stat.size_bytes > LARGEST_FILE_BYTES:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    with suppress(KeyNotFound):
        store.download(key, path)
        return True
    return False


def _published(store: Store, state: JobState, path: str) -> str:
    """In results/; or in the attempt, before it was copied or after somebody deleted it there."""
    published = f"{keys.results(state)}/{path}"
    return published if path not in SHOWN or store.stat(published) else f"{state.attempt_prefix}/{path}"


def _of_manifest(store: Store, state: JobState, key: str) -> dict[str, str]:
    try:
        manifest = ResumeManifest.model_validate_json(store.get(key))
    except (KeyNotFound, ValidationError):
        return {}
    return {file.path: f"jobs/{state.id}/{file.key}" for file in manifest.files if is_key(file.path)}
