"""From settings to a store and a queue, for every command that needs them."""

import secrets
from dataclasses import dataclass

from service import settings as environment
from service.queue import Queue
from service.settings import Settings, SettingsError
from service.store import DirectoryStore, Store, open_store


@dataclass(frozen=True)
class Connection:
    """A store and the queue on it."""

    settings: Settings
    store: Store
    queue: Queue


def connect(store_url: str | None) -> Connection:
    """The store of `--store` or GANKILN_STORE. Raises SettingsError where neither is given, StoreRefused."""
    settings = environment.load(store=store_url)
    store = open_store(required_store(settings))
    queue = Queue(
        store,
        worker_id=f"{settings.worker_name}-{secrets.token_hex(4)}",
        node=settings.node_name,
        settings=settings.queue_settings(polls_are_free=isinstance(store, DirectoryStore)),
    )
    return Connection(settings, store, queue)


def required_store(settings: Settings) -> str:
    """The address of the store. Raises SettingsError where there is none."""
    if not settings.store:
        raise SettingsError(
            "no store is given", hint="write --store DIR or --store s3://bucket/prefix, or set GANKILN_STORE"
        )
    return settings.store
