"""DINOv2's vision transformer as a feature extractor (Oquab et al. 2023): the class token, 1024 features for ViT-L/14.

The feature space of FD-DINOv2 (Stein et al. 2023). Its weights are in no package: the operator brings them, and states
their sha256 beside them, since their publisher does not.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIDE = 224
HEAD_WIDTH = 64
EPSILON = 1e-6
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Block(nn.Module):
    """Attention and a two-layer perceptron, normalised before, scaled after, and added (Dosovitskiy et al. 2021)."""

    def __init__(self, state: Mapping[str, Tensor], name: str) -> None:
        super().__init__()
        parts = ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")
        for part in parts:
            for kind in ("weight", "bias"):
                self.register_buffer(f"{part.replace('.', '_')}_{kind}", state[f"{name}.{part}.{kind}"])
        self.register_buffer("scale1", state[f"{name}.ls1.gamma"])
        self.register_buffer("scale2", state[f"{name}.ls2.gamma"])

    def forward(self, x_NTD: Tensor) -> Tensor:
        x_NTD = x_NTD + self.get_buffer("scale1") * self._attend(self._normalise(x_NTD, "norm1"))
        hidden = F.gelu(self._linear(self._normalise(x_NTD, "norm2"), "mlp_fc1"))
        return x_NTD + self.get_buffer("scale2") * self._linear(hidden, "mlp_fc2")

    def _attend(self, x_NTD: Tensor) -> Tensor:
        images, tokens, width = x_NTD.shape
        shape = (images, tokens, 3, width // HEAD_WIDTH, HEAD_WIDTH)
        query, key, value = self._linear(x_NTD, "attn_qkv").view(shape).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(query, key, value)
        return self._linear(attended.transpose(1, 2).reshape(images, tokens, width), "attn_proj")

    def _linear(self, x: Tensor, part: str) -> Tensor:
        return F.linear(x, self.get_buffer(f"{part}_weight"), self.get_buffer(f"{part}_bias"))

    def _normalise(self, x: Tensor, part: str) -> Tensor:
        weight, bias = self.get_buffer(f"{part}_weight"), self.get_buffer(f"{part}_bias")
        return F.layer_norm(x, weight.shape, weight, bias, EPSILON)


class DinoV2(nn.Module):
    """[N, 3, 224, 224] in [0, 1] -> the normalised class token, [N, D]; sizes as in the state dictionary."""

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(MEAN)[:, None, None])
        self.register_buffer("deviation", torch.tensor(DEVIATION)[:, None, None])
        for name in ("cls_token", "patch_embed.proj.weight", "patch_embed.proj.bias", "norm.weight", "norm.bias"):
            self.register_buffer(name.replace(".", "_"), state[name])
        self.patch = state["patch_embed.proj.weight"].shape[-1]
        self.register_buffer("positions", _resized(state["pos_embed"], SIDE // self.patch))
        depth = len({name.split(".")[1] for name in state if name.startswith("blocks.")})
        self.blocks = nn.Sequential(*(Block(state, f"blocks.{index}") for index in range(depth)))

    def forward(self, image_NCHW: Tensor) -> Tensor:
        scaled_NCHW = (image_NCHW - self.get_buffer("mean")) / self.get_buffer("deviation")
        weight, bias = self.get_buffer("patch_embed_proj_weight"), self.get_buffer("patch_embed_proj_bias")
        patches_NTD = F.conv2d(scaled_NCHW, weight, bias, stride=self.patch).flatten(2).transpose(1, 2)
        token = self.get_buffer("cls_token").expand(len(image_NCHW), -1, -1)
        tokens_NTD = self.blocks(torch.cat([token, patches_NTD], dim=1) + self.get_buffer("positions"))
        weight, bias = self.get_buffer("norm_weight"), self.get_buffer("norm_bias")
        return F.layer_norm(tokens_NTD[:, 0], weight.shape, weight, bias, EPSILON)


def _resized(positions_1TD: Tensor, side: int) -> Tensor:
    """Position embeddings for `side`² patches from those of training, with the published 0.1 in the scale."""
    trained = round((positions_1TD.shape[1] - 1) ** 0.5)
    if trained == side:
        return positions_1TD
    grid_1DHW = positions_1TD[:, 1:].reshape(1, trained, trained, -1).permute(0, 3, 1, 2)
    resized_1DHW = F.interpolate(grid_1DHW, scale_factor=(side + 0.1) / trained, mode="bicubic")
    return torch.cat([positions_1TD[:, :1], resized_1DHW.flatten(2).transpose(1, 2)], dim=1)
