"""Where jobs live: a directory, a bucket, or memory, behind one small contract (base.py)."""

from pathlib import Path

from service.store.base import (
    BadKey,
    FullStore,
    KeyNotFound,
    RequestObserver,
    Stat,
    Store,
    StoreRefused,
    Unavailable,
    UnsafeStore,
    check_key,
    ignore_request,
    is_key,
)
from service.store.directory import DirectoryStore
from service.store.memory import MemoryStore

__all__ = [
    "BadKey",
    "DirectoryStore",
    "FullStore",
    "KeyNotFound",
    "MemoryStore",
    "RequestObserver",
    "Stat",
    "Store",
    "StoreRefused",
    "Unavailable",
    "UnsafeStore",
    "check_key",
    "is_key",
    "open_store",
]


def open_store(url: str, *, observer: RequestObserver = ignore_request) -> Store:
    """The store at a directory path or `s3://bucket/prefix`.

    Credentials, region and endpoint of S3 are the standard AWS variables (AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, ...).
    Raises StoreRefused with one sentence when the place is missing or forbidden, StoreError for an address that is
    neither. Whether the store keeps its promises is asked by `selftest.check_store`.
    """
    store: Store
    scheme, separator, rest = url.partition("://")
    if not separator or scheme == "file":
        store = DirectoryStore(Path(rest if separator else url).expanduser())
    elif scheme == "s3":
        from service.store.s3 import S3Store  # boto3 takes a third of a second to import; `gankiln --help` has none

        store = S3Store.at(url)
    else:
        raise StoreRefused(
            f"{url}: a store is a directory path or s3://bucket/prefix, not {scheme}://",
            hint="for GCS, R2, Ceph, SeaweedFS and other S3-compatible services set AWS_ENDPOINT_URL and use s3://",
        )
    store.observer = observer
    return store
