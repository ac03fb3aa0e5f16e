"""A plain forward pass of the released TVSRN: the reference of speed/compare.py, and a check of the package's network.

Written from the description of the released code, as Swin code usually is: planes are rolled, windows are copied,
scores are computed as a whole, biased, masked and put through a softmax, with dropout of rate 0; all hidden features
of a perceptron exist at once, and memory comes from the default allocator. No layer is fused or split. The module
shares no code with `thinslice.models`, only the names of the weights.

Source: Yu et al., "RPLHR-CT Dataset and Transformer Baseline for Volumetric Super-Resolution from CT Scans", MICCAI
2022; blocks as in SwinIR, Liang et al., 2021.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import nn

DEPTH, FACTOR, FEATURES, HEADS, PATCH = 4, 5, 8, 8, 8
THIN = (DEPTH - 1) * FACTOR + 1


def window_partition(x: torch.Tensor, window: int) -> torch.Tensor:
    """(B, H, W, C) to (windows, window, window, C)."""
    batch, height, width, channels = x.shape
    x = x.view(batch, height // window, window, width // window, window, channels)
    return x.permute(0, 1, 3, 2, 4, 5).contiguous().view(-1, window, window, channels)


def window_reverse(windows: torch.Tensor, window: int, height: int, width: int) -> torch.Tensor:
    """The inverse of `window_partition`: to (B, H, W, C)."""
    batch = windows.shape[0] // (height * width // window**2)
    x = windows.view(batch, height // window, width // window, window, window, -1)
    return x.permute(0, 1, 3, 2, 4, 5).contiguous().view(batch, height, width, -1)


def attention_mask(height: int, width: int, window: int, shift: int) -> torch.Tensor:
    """-100 between positions that a cyclic shift brought together: (windows, window^2, window^2)."""
    regions = torch.zeros((1, height, width, 1))
    slices = (slice(0, -window), slice(-window, -shift), slice(-shift, None))
    for number, (rows, columns) in enumerate((r, c) for r in slices for c in slices):
        regions[:, rows, columns] = number
    flat = window_partition(regions, window).view(-1, window * window)
    return (flat.unsqueeze(1) != flat.unsqueeze(2)).float() * -100.0


class Attention(nn.Module):
    def __init__(self, channels: int, window: int) -> None:
        super().__init__()
        self.scale = (channels // HEADS) ** -0.5
        self.position_bias = nn.Parameter(torch.zeros((2 * window - 1) ** 2, HEADS))
        at = torch.stack(torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")).flatten(1)
        between = (at[:, :, None] - at[:, None, :]) + window - 1
        self.register_buffer("index", between[0] * (2 * window - 1) + between[1], persistent=False)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.attention_drop = nn.Dropout(0.0)
        self.projection = nn.Linear(channels, channels)
        self.projection_drop = nn.Dropout(0.0)
        self.softmax = nn.Softmax(dim=-1)

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        count, positions, channels = x.shape
        qkv = self.qkv(x).reshape(count, positions, 3, HEADS, channels // HEADS).permute(2, 0, 3, 1, 4)
        query, key, value = qkv[0], qkv[1], qkv[2]
        query = query * self.scale
        scores = query @ key.transpose(-2, -1)
        bias = self.position_bias[self.index.view(-1)].view(positions, positions, -1)
        scores = scores + bias.permute(2, 0, 1).contiguous().unsqueeze(0)
        if mask is not None:
            planes = mask.shape[0]
            scores = scores.view(count // planes, planes, HEADS, positions, positions) + mask[None, :, None]
            scores = scores.view(-1, HEADS, positions, positions)
        scores = self.attention_drop(self.softmax(scores))
        x = (scores @ value).transpose(1, 2).reshape(count, positions, channels)
        return self.projection_drop(self.projection(x))


class Perceptron(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.expand = nn.Linear(channels, 4 * channels)
        self.activation = nn.GELU()
        self.contract = nn.Linear(4 * channels, channels)
        self.drop = nn.Dropout(0.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.drop(self.contract(self.drop(self.activation(self.expand(x)))))


class Block(nn.Module):
    def __init__(self, channels: int, plane: tuple[int, int], window: int, *, shifted: bool) -> None:
        super().__init__()
        self.plane = plane
        self.window = min(window, *plane)
        self.shift = window // 2 if shifted and min(plane) > window else 0
        self.attention_norm = nn.LayerNorm(channels)
        self.attention = Attention(channels, self.window)
        self.mlp_norm = nn.LayerNorm(channels)
        self.mlp = Perceptron(channels)
        mask = attention_mask(*plane, self.window, self.shift) if self.shift else None
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        (height, width), (batch, positions, channels) = self.plane, x.shape
        shortcut = x
        x = self.attention_norm(x).view(batch, height, width, channels)
        shifted = torch.roll(x, shifts=(-self.shift, -self.shift), dims=(1, 2)) if self.shift else x
        windows = window_partition(shifted, self.window).view(-1, self.window**2, channels)
        attended = self.attention(windows, self.mask).view(-1, self.window, self.window, channels)
        shifted = window_reverse(attended, self.window, height, width)
        x = torch.roll(shifted, shifts=(self.shift, self.shift), dims=(1, 2)) if self.shift else shifted
        x = shortcut + x.view(batch, positions, channels)
        return x + self.mlp(self.mlp_norm(x))


class Group(nn.Module):
    def __init__(self, channels: int, plane: tuple[int, int], window: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(Block(channels, plane, window, shifted=i % 2 == 1) for i in range(4)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.blocks(x) + x


class Backbone(nn.Module):
    """(B, C, H, W) to the same."""

    def __init__(self, channels: int, plane: tuple[int, int], window: int, groups: int) -> None:
        super().__init__()
        self.norm_in = nn.LayerNorm(channels)
        self.groups = nn.Sequential(*(Group(channels, plane, window) for _ in range(groups)))
        self.norm_out = nn.LayerNorm(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, channels, height, width = x.shape
        x = self.norm_in(x.flatten(2).transpose(1, 2))
        x = self.norm_out(self.groups(x))
        return x.transpose(1, 2).view(batch, channels, height, width)


class Embedding(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(DEPTH * PATCH**2, DEPTH * FEATURES * PATCH**2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, D, H, W) to (B, slice * feature, H, W)."""
        batch, depth, height, width = x.shape
        rows, columns = height // PATCH, width // PATCH
        x = x.view(batch, depth, rows, PATCH, columns, PATCH).permute(0, 2, 4, 1, 3, 5)
        x = self.linear(x.reshape(batch, rows * columns, -1))
        x = x.view(batch, rows, columns, -1, PATCH, PATCH).permute(0, 3, 1, 4, 2, 5)
        return x.reshape(batch, -1, height, width)


class PlainTVSRN(nn.Module):
    """The network for one size of plane, as released; height and width are multiples of 8.

    Args:
        plane: (height, width) of the input.
        state: state of the catalog's `tvsrn-released`, which has the same names.
    """

    def __init__(self, plane: tuple[int, int], state: Mapping[str, torch.Tensor]) -> None:
        super().__init__()
        height, width = plane
        if height != width:
            raise ValueError("The released network shares one through-plane block between views, so planes are square.")
        self.embedding = Embedding()
        self.encoder = Backbone(DEPTH * FEATURES, plane, 8, 1)
        self.through_plane = Backbone(PATCH * FEATURES, (THIN, height), 4, 1)
        self.in_plane = Backbone(THIN * FEATURES, plane, 8, 2)
        self.head = nn.Module()
        self.head.hidden = nn.Conv3d(FEATURES, 2 * FEATURES, 1)
        self.head.activation = nn.LeakyReLU(0.01)
        self.head.output = nn.Conv3d(2 * FEATURES, 1, 1)
        angles = torch.arange(THIN)[:, None] * torch.exp(torch.arange(0, FEATURES, 2) * (-math.log(10000.0) / FEATURES))
        code = torch.zeros(THIN, FEATURES)
        code[:, 0::2], code[:, 1::2] = angles.sin(), angles.cos()
        self.register_buffer("code", code.T[None, :, :, None, None], persistent=False)
        # Zeros in the released code, too: an attribute that never became a parameter.
        self.register_buffer("mask_tokens", torch.zeros(1, FEATURES, THIN - DEPTH, height, width), persistent=False)
        own = self.state_dict()
        self.load_state_dict({name: value.reshape(own[name].shape) for name, value in state.items()})
        self.eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 1, 4, H, W) to (B, 1, 16, H, W), nothing trimmed."""
        batch, _, _, height, width = x.shape
        x = self.embedding(x.squeeze(1))
        x = x + self.encoder(x)
        x = x.view(batch, DEPTH, FEATURES, height, width).transpose(1, 2)

        mask_tokens = self.mask_tokens.expand(batch, -1, -1, -1, -1)
        tokens = []
        for index in range(DEPTH):
            tokens.append(x[:, :, index : index + 1])
            tokens.append(mask_tokens[:, :, index * (FACTOR - 1) : (index + 1) * (FACTOR - 1)])
        x = torch.cat(tokens, dim=2) + self.code

        columns, rows = width // PATCH, height // PATCH
        sagittal = x.view(batch, FEATURES, THIN, height, columns, PATCH).permute(0, 4, 1, 5, 2, 3)
        sagittal = self.through_plane(sagittal.reshape(batch * columns, -1, THIN, height))
        sagittal = sagittal.view(batch, columns, FEATURES, PATCH, THIN, height).permute(0, 2, 4, 5, 1, 3)
        coronal = x.view(batch, FEATURES, THIN, rows, PATCH, width).permute(0, 3, 1, 4, 2, 5)
        coronal = self.through_plane(coronal.reshape(batch * rows, -1, THIN, width))
        coronal = coronal.view(batch, rows, FEATURES, PATCH, THIN, width).permute(0, 2, 4, 1, 3, 5)
        through = x + sagittal.reshape(x.shape) + coronal.reshape(x.shape)

        skip = x.transpose(1, 2).reshape(batch, -1, height, width)
        through = through.transpose(1, 2).reshape(batch, -1, height, width)
        out = skip + through + self.in_plane(through)
        # The channels are slice-major here, but the released head reads them feature-major.
        out = out.view(batch, FEATURES, THIN, height, width)
        return self.head.output(self.head.activation(self.head.hidden(out)))
