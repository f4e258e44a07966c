"""Attention of all tokens of a map to each other, as in ViT: what windows spare."""

from torch import Tensor

from ...checkpoints.convert import relative_position_index
from ...kernels import KERNELS
from .self_attention import SelfAttention

MOST_TOKENS = 128 * 128  # the first map of an image of 512x512; float32 scores of a head take 1 GiB


class GlobalAttention(SelfAttention):
    """Self-attention among all tokens of a map, ``(B, H, W, dim)`` to the same: one window that covers the map.

    For the arguments see `SelfAttention`. The bias table has the offsets of ``window``, so the map must fit into that;
    without a bias any map does, up to `MOST_TOKENS`. Nothing is padded or shifted. 'auto' takes the kernel 'sdpa'.
    """

    def attend(self, qkv: Tensor) -> Tensor:
        qkv = qkv.unflatten(-1, (3, self.num_heads, -1))
        size = (qkv.shape[1], qkv.shape[2])
        kernel = KERNELS['sdpa' if self.kernel == 'auto' else self.kernel]
        return kernel(qkv, self.bias(size), None, size, (0, 0), self.scale, self.dropout)

    def bias(self, size: tuple[int, int]) -> Tensor:
        """Relative position bias ``(num_heads, N, N)`` of the N tokens of a map of ``size``, zeros without a table.

        Raises ValueError for a map that is too large.
        """
        H, W = size
        h, w = self.window
        if H * W > MOST_TOKENS:
            rule = f"a map must have at most {MOST_TOKENS} tokens with attention='global'"
            raise ValueError(f'{rule}, got {H}x{W}: take smaller images, or windows')
        if self.relative_position_bias_table is None:
            return self.no_bias(H * W)
        if h < H or w < W:
            rule = "window_size must cover the map with attention='global' and a relative bias"
            raise ValueError(f"{rule}, got {self.window} and {H}x{W} tokens: raise it, or take position='absolute'")
        table = self.relative_position_bias_table.unflatten(0, (2 * h - 1, 2 * w - 1))
        table = table[h - H : h + H - 1, w - W : w + W - 1].flatten(0, 1)
        return table[relative_position_index(size).to(table.device)].permute(2, 0, 1)
