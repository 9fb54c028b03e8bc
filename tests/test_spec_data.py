"""What a data section may say, and what it answers to what it may not."""

import subprocess
import sys
from typing import Any, get_args

import pytest
from pydantic import TypeAdapter, ValidationError

from jobs.spec.data import SHIPPED_SETS, IdxFiles, ImageData, ImageFolder, ImageZip, ModeGrid, PlantedAttributes

DATA: TypeAdapter[Any] = TypeAdapter(ImageData)
KINDS = get_args(get_args(ImageData)[0])


@pytest.mark.parametrize(
    ("given", "section"),
    [
        ({"kind": "folder", "path": "cats", "resolution": 64}, ImageFolder(path="cats", resolution=64)),
        ({"kind": "zip", "path": f"shipped:{SHIPPED_SETS[0]}", "resolution": 32}, None),
        ({"kind": "idx", "images": "train-images.gz", "resolution": 32, "fit": "pad"}, None),
        ({"kind": "modegrid"}, ModeGrid()),
        ({"kind": "planted_attributes", "causal": ["hue", "eye"]}, PlantedAttributes(causal=("hue", "eye"))),
        ({"kind": "modegrid", "dropped_modes": [0, 575]}, ModeGrid(dropped_modes=(0, 575))),
    ],
)
def test_each_kind_parses(given: dict[str, Any], section: Any) -> None:
    parsed = DATA.validate_python(given)
    assert parsed.kind == given["kind"]
    assert section is None or parsed == section
    assert DATA.validate_python(parsed.model_dump(mode="json")) == parsed, "a resolved spec reads back as itself"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"kind": "folder", "path": "cats"}, "resolution"),
        ({"kind": "folder", "path": "cats", "resolution": 48}, "48 is not a power of two: use 32 or 64"),
        ({"kind": "folder", "path": "cats", "resolution": 1000}, "use 512 or 1024"),
        ({"kind": "folder", "path": "cats", "resolution": 2}, "greater than or equal to 4"),
        ({"kind": "folder", "path": "cats", "resolution": 2048}, "less than or equal to 1024"),
        ({"kind": "folder", "path": "cats.zip", "resolution": 32}, "write kind: zip"),
        ({"kind": "folder", "path": "", "resolution": 32}, "at least 1 character"),
        ({"kind": "folder", "path": "a\0b", "resolution": 32}, "printable"),
        ({"kind": "zip", "path": "https://host/cats.zip", "resolution": 32}, "not of the one kind"),
        ({"kind": "zip", "path": "shipped:../../etc", "resolution": 32}, "comes with gankiln; there is fashion"),
        ({"kind": "zip", "path": "a.zip", "resolution": 32, "channels": "gray"}, "'grey', 'rgb' or 'rgba'"),
        ({"kind": "zip", "path": "a.zip", "resolution": 32, "fit": "squeeze"}, "'crop', 'pad' or 'stretch'"),
        ({"kind": "zip", "path": "a.zip", "resolution": 32, "max_images": 0}, "greater than or equal to 1"),
        ({"kind": "zip", "path": "a.zip", "resolution": 32, "colour": 3}, "Extra inputs"),
        ({"kind": "idx", "images": "a", "resolution": 32, "labels": True}, "labels: true needs labels_file"),
        ({"kind": "idx", "images": "shipped:fashion-mnist-5000", "resolution": 32}, "write kind: zip"),
        ({"kind": "modegrid", "mirror": True}, "False"),
        ({"kind": "modegrid", "channels": "grey"}, "rgb"),
        ({"kind": "modegrid", "images": 100}, "100 images cannot show 576 modes"),
        ({"kind": "modegrid", "dropped_modes": [576]}, "the modes are 0 to 575"),
        ({"kind": "modegrid", "dropped_modes": 1.0}, "less than 1"),
        ({"kind": "modegrid", "shapes": 1, "hues": 1, "positions": 1, "dropped_modes": [0]}, "leaves none"),
        ({"kind": "modegrid", "scale_jitter": 0.5}, "less than or equal to 0.1"),
        ({"kind": "movies"}, "'folder', 'zip', 'idx', 'modegrid'"),
    ],
)
def test_a_mistake_is_answered(given: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError) as error:
        DATA.validate_python(given)
    assert says in str(error.value)


@pytest.mark.parametrize("section", KINDS)
def test_every_field_is_described(section: Any) -> None:
    silent = [name for name, field in section.model_fields.items() if name != "kind" and not field.description]
    assert not silent, "descriptions become the documentation"


@pytest.mark.parametrize("section", KINDS)
def test_what_every_kind_has(section: Any) -> None:
    assert {"kind", "resolution", "channels", "mirror", "labels"} <= section.model_fields.keys()


def test_dropped_modes_are_counted() -> None:
    assert ModeGrid(dropped_modes=0.25).dropped_count == 144
    assert ModeGrid(dropped_modes=(3, 3, 4)).dropped_count == 2
    assert ModeGrid(shapes=2, hues=3, positions=4).modes == 24


def test_idx_needs_no_labels_file_without_labels() -> None:
    assert IdxFiles(images="a", resolution=32).labels_file is None
    assert ImageZip(path="a", resolution=4).max_images is None


def test_a_spec_is_read_without_numpy_or_torch() -> None:
    code = "import sys, jobs.spec.data; print(sorted({'numpy', 'torch', 'PIL'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
