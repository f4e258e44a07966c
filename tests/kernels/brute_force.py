"""Shifted window attention written as the paper tells it, one token at a time, in Python loops.

Nothing of ``swin_mm`` is used. Region numbers follow the official ``BasicLayer.forward``, which paints nine rectangles
on the padded canvas and lets two tokens of a window attend to each other where the colour is the same.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class Token(NamedTuple):
    """A token of a window: its place on the padded map before the shift, and the colour of its rectangle."""

    y: int
    x: int
    region: tuple[int, int]


def windows(size: tuple[int, int], window: tuple[int, int], shift: tuple[int, int]) -> list[list[Token]]:
    """The tokens of every window, row by row: windows on the padded map, tokens in the window."""
    height, width = (-(-side // length) * length for side, length in zip(size, window, strict=True))
    found = []
    for top in range(0, height, window[0]):
        for left in range(0, width, window[1]):
            tokens = []
            for row in range(top, top + window[0]):
                for column in range(left, left + window[1]):
                    region = _band(row, height, window[0], shift[0]), _band(column, width, window[1], shift[1])
                    # Rolling by -shift brings the token of place p + shift to place p.
                    tokens.append(Token((row + shift[0]) % height, (column + shift[1]) % width, region))
            found.append(tokens)
    return found


def _band(place: int, length: int, window: int, shift: int) -> int:
    """Which of the official slices (0, -window), (-window, -shift), (-shift, None) was painted last over ``place``."""
    if place >= length - shift or shift == 0:
        return 2
    return 1 if place >= length - window else 0


def attention(
    qkv: Tensor,
    bias: Tensor,
    pad: Tensor | None,
    window: tuple[int, int],
    shift: tuple[int, int],
    scale: float,
) -> Tensor:
    """The map ``(B, H, W, C)`` of ``qkv`` ``(B, H, W, 3, heads, head_dim)``; differentiable."""
    B, H, W, _, heads, head_dim = qkv.shape
    padding = qkv.new_zeros(3, heads, head_dim) if pad is None else pad
    outputs = {}
    for b in range(B):
        for tokens in windows((H, W), window, shift):
            vectors = [qkv[b, t.y, t.x] if t.y < H and t.x < W else padding for t in tokens]
            for i, token in enumerate(tokens):
                if token.y < H and token.x < W:
                    parts = [_attend(i, h, tokens, vectors, bias, scale) for h in range(heads)]
                    outputs[b, token.y, token.x] = torch.cat(parts)
    rows = [outputs[b, y, x] for b in range(B) for y in range(H) for x in range(W)]
    return torch.stack(rows).view(B, H, W, heads * head_dim)


def _attend(i: int, head: int, tokens: list[Token], vectors: list[Tensor], bias: Tensor, scale: float) -> Tensor:
    """What token ``i`` reads: ``(head_dim,)``."""
    scores = []
    for j, other in enumerate(tokens):
        score = scale * vectors[i][0, head].dot(vectors[j][1, head]) + bias[head, i, j]
        scores.append(score if other.region == tokens[i].region else score - 100)
    weights = torch.stack(scores).softmax(0)
    return sum(weights[j] * vectors[j][2, head] for j in range(len(tokens)))
