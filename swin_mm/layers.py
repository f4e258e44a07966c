"""Patch embedding, patch merging, the Swin block and the stage. Tokens are ``(B, H, W, C)`` throughout."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from . import strips
from .attention import WindowAttention
from .recompute import linear_after

Norm = Callable[[int], nn.Module]


@dataclass(frozen=True)
class BlockOptions:
    """What every block of a backbone has in common.

    ``mlp_ratio``: hidden width of the MLP over the block's width; ``drop_rate``, ``attn_drop_rate``: probabilities;
    ``attention``: name of the kernel; ``cancel_shift``: for classification, see `WindowAttention`; ``norm``, ``act``:
    make a module, given the width and nothing.
    """

    window: tuple[int, int] = (7, 7)
    mlp_ratio: float = 4.0
    qkv_bias: bool = True
    qk_scale: float | None = None
    drop_rate: float = 0.0
    attn_drop_rate: float = 0.0
    attention: str = 'auto'
    cancel_shift: bool = False
    norm: Norm = nn.LayerNorm
    act: Callable[[], nn.Module] = nn.GELU


class PatchEmbed(nn.Module):
    """Tokens ``(B, H, W, dim)`` of an image ``(B, in_channels, height, width)``, one a patch.

    An image that is no multiple of ``patch_size`` (height, width in pixels) gets zeros at the right and bottom.
    """

    def __init__(self, in_channels: int, dim: int, patch_size: tuple[int, int], norm: Norm | None):
        super().__init__()
        self.patch_size = patch_size
        self.proj = nn.Conv2d(in_channels, dim, kernel_size=patch_size, stride=patch_size)
        self.norm = norm(dim) if norm else nn.Identity()

    def forward(self, image: Tensor) -> Tensor:
        bottom, right = (-side % patch for side, patch in zip(image.shape[2:], self.patch_size, strict=True))
        if bottom or right:
            image = F.pad(image, (0, right, 0, bottom))
        image = image.contiguous(memory_format=torch.channels_last)  # then so is the result, and no copy makes tokens
        return self.norm(self.proj(image).permute(0, 2, 3, 1))


class PatchMerging(nn.Module):
    """Half the resolution, twice the width: ``(B, H, W, C)`` to ``(B, ceil(H / 2), ceil(W / 2), 2 * C)``.

    The four tokens are concatenated in the order (0, 0), (1, 0), (0, 1), (1, 1) of (row, column), as official weights
    expect; OpenMMLab's unfold has another order, and the shapes do not tell them apart.
    """

    def __init__(self, dim: int, norm: Norm):
        super().__init__()
        self.norm = norm(4 * dim)
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        _, H, W, _ = x.shape
        if H % 2 or W % 2:
            x = F.pad(x, (0, 0, 0, W % 2, 0, H % 2))
        if strips.merging_applies(self, x):
            return strips.merge(self, x)
        return linear_after(self.norm, self.reduction, self.gather(x))

    @staticmethod
    def gather(x: Tensor) -> Tensor:
        """Four tokens in each: ``(B, H, W, C)`` of even sides to ``(B, H / 2, W / 2, 4 * C)``."""
        x = x.unflatten(2, (-1, 2)).unflatten(1, (-1, 2))  # (B, H/2, row, W/2, column, C)
        return x.permute(0, 1, 3, 4, 2, 5).flatten(3)


class DropPath(nn.Module):
    """Drops whole samples of a residual branch with probability ``rate`` in training (arXiv 1603.09382)."""

    def __init__(self, rate: float):
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """``x``, samples of it dropped, plus ``residual``."""
        if not self.training or self.rate == 0.0:
            return x if residual is None else residual + x
        keep = 1.0 - self.rate
        kept = torch.rand(x.shape[0], device=x.device) < keep
        factor = (kept.to(x.dtype) / keep).view(-1, *[1] * (x.ndim - 1))
        return x * factor if residual is None else torch.addcmul(residual, x, factor)

    def extra_repr(self) -> str:
        return f'rate={self.rate:.3f}'


class MLP(nn.Module):
    """Two linear layers over the channels, after ``norm`` if there is one: a block's, which it owns."""

    def __init__(self, dim: int, hidden: int, act: Callable[[], nn.Module], drop_rate: float):
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.act = act()
        self.fc2 = nn.Linear(hidden, dim)
        self.drop = nn.Dropout(drop_rate)

    def forward(self, x: Tensor, norm: nn.Module | None = None) -> Tensor:
        x = self.fc1(x) if norm is None else linear_after(norm, self.fc1, x)
        if self.training and self.drop.p:
            return self.drop(self.fc2(self.drop(self.act(x))))
        return linear_after(self.act, self.fc2, x)


class SwinBlock(nn.Module):
    """Window attention and an MLP, each normalised before and added to its input (arXiv 2103.14030, equation 3)."""

    def __init__(self, dim: int, num_heads: int, shift: tuple[int, int], drop_path: float, options: BlockOptions):
        super().__init__()
        o = options
        self.norm1 = o.norm(dim)
        self.attn = WindowAttention(
            *(dim, num_heads, o.window, shift, o.qkv_bias, o.qk_scale, o.attn_drop_rate, o.drop_rate, o.attention),
            cancel_shift=o.cancel_shift,
        )
        self.drop_path = DropPath(drop_path)
        self.norm2 = o.norm(dim)
        self.mlp = MLP(dim, int(dim * o.mlp_ratio), o.act, o.drop_rate)

    def forward(self, x: Tensor) -> Tensor:
        if strips.applies(self, x):
            return strips.forward(self, x)
        x = self.drop_path(self.attn(x, self.norm1), x)
        return self.drop_path(self.mlp(x, self.norm2), x)


class Stage(nn.Module):
    """Blocks at one resolution, every second one shifted by half a window, then patch merging if there is a next stage.

    ``drop_path`` has a probability for each block. Returns the tokens before and after merging.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        drop_path: list[float],
        merge: bool,
        options: BlockOptions,
        with_cp: bool = False,
    ):
        super().__init__()
        shifts = [(0, 0), (options.window[0] // 2, options.window[1] // 2)]
        self.blocks = nn.ModuleList(
            SwinBlock(dim, num_heads, shifts[i % 2], rate, options) for i, rate in enumerate(drop_path)
        )
        self.downsample = PatchMerging(dim, options.norm) if merge else None
        self.with_cp = with_cp

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        for block in self.blocks:
            if self.with_cp and torch.is_grad_enabled():
                x = checkpoint(block, x, use_reentrant=False)
            else:
                x = block(x)
        return x, self.downsample(x) if self.downsample is not None else None
