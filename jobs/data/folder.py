"""Images in a directory and its sub-directories."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np

from jobs.data.content import NamedFile
from jobs.data.decode import SUFFIXES, DecodeError
from jobs.data.labels import FILE_NAME, Labels, read_labels
from jobs.data.roots import Roots
from jobs.data.source import CHOSEN_AFTERWARDS, MAX_FILE_BYTES, Block, Items, Source, decode_block, printable, spread
from jobs.errors import DataError
from jobs.spec.data import ImageFolder


def folder_source(section: ImageFolder, roots: Roots) -> Source:
    """The folder of `section`; lists it, decodes nothing."""
    folder = roots.locate(section.path, "data.path")
    if not folder.is_dir():
        raise DataError(f"data.path: {section.path!r} is not a directory", hint="an archive is read with kind: zip")
    files = _files(folder, section.path, roots)
    settings = section.model_dump(exclude={"path", "mirror", *CHOSEN_AFTERWARDS})
    return Source(folder.name, settings, lambda: _open(section, files), files)


@contextmanager
def named_images(
    path: str, field: str, roots: Roots
) -> Iterator[tuple[list[NamedFile], dict[str, Callable[[], bytes]]]]:
    """The images of a directory by name, in order, each with how to read it; and the files they are."""
    folder = roots.locate(path, field)
    files = [(name, file) for name, file in _files(folder, path, roots) if name != FILE_NAME]
    yield files, {name: partial(_read, file) for name, file in files}


@contextmanager
def _open(section: ImageFolder, files: Sequence[NamedFile]) -> Iterator[Items]:
    every = {name: path for name, path in files if name != FILE_NAME}
    if not every:
        raise DataError(f"data.path: {section.path!r} holds no images", hint=f"images end in {_suffixes()}")
    all_names = list(every)
    names = [all_names[index] for index in spread(len(all_names), section.max_images)]
    labels_N, classes = _labels(names, dict(files).get(FILE_NAME)) if section.labels else (None, ())

    def decode(start: int, stop: int) -> Block:
        return decode_block(
            names[start:stop], lambda name: _read(every[name]), section.resolution, section.channels, section.fit
        )

    yield Items(len(names), decode, labels_N, class_names=classes)


def _files(folder: Path, shown: str, roots: Roots) -> list[NamedFile]:
    """Every image and the dataset.json below `folder`, by name; links are followed within the allowed directories."""
    found: list[NamedFile] = []
    seen = {folder}
    todo = [(PurePosixPath(), folder)]
    try:
        while todo:
            prefix, directory = todo.pop()
            with os.scandir(directory) as entries:
                for entry in entries:
                    if entry.name.startswith(".") or entry.name == "__MACOSX":
                        continue
                    name, path = prefix / entry.name, Path(entry.path)
                    if entry.is_symlink():
                        path = path.resolve()
                        roots.check(path, f"data.path: {printable(str(name))!r} in {shown!r} is a link that")
                    if path.is_dir() and path not in seen:
                        seen.add(path)
                        todo.append((name, path))
                    elif path.is_file() and (path.suffix.lower() in SUFFIXES or str(name) == FILE_NAME):
                        found.append((str(name), path))
    except OSError as error:
        raise DataError(f"data.path: {shown!r} cannot be listed: {error.strerror}") from None
    return sorted(found)


def _labels(names: Sequence[str], dataset_json: Path | None) -> Labels:
    if dataset_json is not None:
        try:
            return read_labels(_read(dataset_json), names)
        except DecodeError as error:
            raise DataError(f"data.labels: {FILE_NAME} {error}") from None
    folders = [PurePosixPath(name).parts[0] if "/" in name else "" for name in names]
    if "" in folders:
        raise DataError(
            f"data.labels: {printable(names[folders.index('')])!r} is in no sub-folder, so it has no class",
            hint=f"put each class into its own sub-folder, or add a {FILE_NAME}, or set data.labels to false",
        )
    classes, labels_N = np.unique(folders, return_inverse=True)
    return labels_N.astype(np.int64), tuple(printable(str(name)) for name in classes)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise DecodeError(f"cannot be read: {error.strerror}") from None
    if len(data) > MAX_FILE_BYTES:
        raise DecodeError(f"larger than {MAX_FILE_BYTES >> 20} MiB")
    return data


def _suffixes() -> str:
    return ", ".join(sorted(SUFFIXES))
