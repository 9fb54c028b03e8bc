import hashlib
from pathlib import Path

import pytest
import torch
from torch import nn

from jobs.errors import InternalError
from jobs.evaluation.dinov2 import DEVIATION, MEAN, DinoV2
from jobs.evaluation.features import Places, open_space
from jobs.evaluation.weights import missing_weights
from jobs.spec.evaluation import Evaluation

WIDTH, DEPTH, PATCH = 128, 2, 14
FILE = "dinov2_vitl14_pretrain.pth"


def state(trained_side: int) -> dict[str, torch.Tensor]:
    """A small transformer with the names and shapes of the published files."""
    rng = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=rng) * 0.2

    tensors = {
        "cls_token": draw(1, 1, WIDTH),
        "mask_token": draw(1, WIDTH),
        "pos_embed": draw(1, trained_side**2 + 1, WIDTH),
        "patch_embed.proj.weight": draw(WIDTH, 3, PATCH, PATCH) * 0.1,
        "patch_embed.proj.bias": draw(WIDTH),
        "norm.weight": 1 + draw(WIDTH),
        "norm.bias": draw(WIDTH),
    }
    sizes = {"attn.qkv": (3 * WIDTH, WIDTH), "attn.proj": (WIDTH, WIDTH)}
    sizes |= {"mlp.fc1": (4 * WIDTH, WIDTH), "mlp.fc2": (WIDTH, 4 * WIDTH)}
    for block in range(DEPTH):
        for part, size in sizes.items():
            tensors[f"blocks.{block}.{part}.weight"], tensors[f"blocks.{block}.{part}.bias"] = (
                draw(*size),
                draw(size[0]),
            )
        for norm in ("norm1", "norm2"):
            tensors[f"blocks.{block}.{norm}.weight"] = 1 + draw(WIDTH)
            tensors[f"blocks.{block}.{norm}.bias"] = draw(WIDTH)
        for scale in ("ls1", "ls2"):
            tensors[f"blocks.{block}.{scale}.gamma"] = draw(WIDTH)
    return tensors


def torchs_own(tensors: dict[str, torch.Tensor], tokens: torch.Tensor) -> torch.Tensor:
    """The same blocks by torch's encoder layer, which knows no layer scale: it is folded into the linear layers."""
    for block in range(DEPTH):
        name = f"blocks.{block}"
        layer = nn.TransformerEncoderLayer(
            WIDTH, WIDTH // 64, 4 * WIDTH, 0.0, "gelu", 1e-6, batch_first=True, norm_first=True
        ).eval()
        one, two = tensors[f"{name}.ls1.gamma"], tensors[f"{name}.ls2.gamma"]
        layer.load_state_dict(
            {
                "self_attn.in_proj_weight": tensors[f"{name}.attn.qkv.weight"],
                "self_attn.in_proj_bias": tensors[f"{name}.attn.qkv.bias"],
                "self_attn.out_proj.weight": tensors[f"{name}.attn.proj.weight"] * one[:, None],
                "self_attn.out_proj.bias": tensors[f"{name}.attn.proj.bias"] * one,
                "linear1.weight": tensors[f"{name}.mlp.fc1.weight"],
                "linear1.bias": tensors[f"{name}.mlp.fc1.bias"],
                "linear2.weight": tensors[f"{name}.mlp.fc2.weight"] * two[:, None],
                "linear2.bias": tensors[f"{name}.mlp.fc2.bias"] * two,
                **{
                    f"{norm}.{part}": tensors[f"{name}.{norm}.{part}"]
                    for norm in ("norm1", "norm2")
                    for part in ("weight", "bias")
                },
            }
        )
        tokens = layer(tokens)
    return nn.functional.layer_norm(tokens[:, 0], (WIDTH,), tensors["norm.weight"], tensors["norm.bias"], 1e-6)


def test_equals_torchs_own_transformer() -> None:
    tensors = state(trained_side=16)
    image = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    scaled = (image - torch.tensor(MEAN)[:, None, None]) / torch.tensor(DEVIATION)[:, None, None]
    patches = scaled.unfold(2, PATCH, PATCH).unfold(3, PATCH, PATCH).permute(0, 2, 3, 1, 4, 5).reshape(2, 256, -1)
    embedded = patches @ tensors["patch_embed.proj.weight"].flatten(1).T + tensors["patch_embed.proj.bias"]
    tokens = torch.cat([tensors["cls_token"].expand(2, -1, -1), embedded], dim=1) + tensors["pos_embed"]
    with torch.inference_mode():
        expected = torchs_own(tensors, tokens)
        torch.testing.assert_close(DinoV2(tensors)(image), expected, rtol=1e-4, atol=1e-4)


def test_positions_of_another_training_size_are_resized() -> None:
    tensors = state(trained_side=37)
    constant = {**tensors, "pos_embed": torch.ones_like(tensors["pos_embed"])}
    assert DinoV2(tensors).positions.shape == (1, 257, WIDTH)
    torch.testing.assert_close(DinoV2(constant).positions, torch.ones(1, 257, WIDTH))


def test_the_operator_brings_the_file_and_states_its_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    section = Evaluation(features=("dinov2",))
    weights = tmp_path / "weights"
    weights.mkdir()
    places = Places(tmp_path / "cache", weights)
    (sentence,) = missing_weights(section, weights)
    assert FILE in sentence and "dl.fbaipublicfiles.com" in sentence

    torch.save(state(trained_side=37), weights / FILE)
    assert missing_weights(section, weights) == []
    with pytest.raises(InternalError, match=rf"{FILE}\.sha256"):
        open_space("dinov2", torch.device("cpu"), places)
    digest = hashlib.sha256((weights / FILE).read_bytes()).hexdigest()
    (weights / f"{FILE}.sha256").write_text(f"{digest}  {FILE}\n")
    extractor = open_space("dinov2", torch.device("cpu"), places)
    assert extractor(torch.zeros(2, 1, 20, 20, dtype=torch.uint8)).shape == (2, WIDTH)
    assert digest[:12] in (extractor.note or "")

    (weights / f"{FILE}.sha256").write_text("0" * 64)
    with pytest.raises(InternalError, match="not 000000000000"):
        open_space("dinov2", torch.device("cpu"), places)
