"""Patch embedding, patch merging, the Swin block and the stage. Tokens are ``(B, H, W, C)`` throughout."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..kernels import BlockLayers, MergingLayers, fast_block, fast_merging
from ..kernels.block import NOTHING, must_be_called
from ..kernels.tracing import is_traced
from .attention import SelfAttention, WindowAttention
from .attention.window_v2 import WindowAttentionV2

Norm = Callable[[int], nn.Module]
FUSED = (WindowAttention, WindowAttentionV2)  # kinds of attention that kernels of whole blocks know


@dataclass(frozen=True)
class BlockOptions:
    """What every block of a backbone has in common.

    ``window``: (height, width) in tokens; ``mlp_ratio``: hidden width of the MLP over the block's width; ``drop_rate``,
    ``attn_drop_rate``: probabilities; ``kernel``: its name, or 'auto'; ``cancel_shift``: for classification, see
    `WindowAttention`; ``attention``: makes the attention of a block; ``relative_bias``: see `SelfAttention`; ``shift``:
    of every second block; ``norm``, ``act``: make a module, given the width and nothing.
    """

    window: tuple[int, int] = (7, 7)
    mlp_ratio: float = 4.0
    qkv_bias: bool = True
    qk_scale: float | None = None
    drop_rate: float = 0.0
    attn_drop_rate: float = 0.0
    kernel: str = 'auto'
    cancel_shift: bool = False
    attention: Callable[..., SelfAttention] = WindowAttention
    relative_bias: bool = True
    shift: bool = True
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
        if is_traced():  # no branch: the convolution leaves what makes no whole patch
            bottom, right = (patch - 1 for patch in self.patch_size)
        else:
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
        if is_traced() or H % 2 or W % 2:
            # Not W % 2: exporters see at once that this gives even sides, and reason a third of the time.
            x = F.pad(x, (0, 0, 0, (W + 1) // 2 * 2 - W, 0, (H + 1) // 2 * 2 - H))
        if (merged := fast_merging(self._layers(), x)) is not None:
            return merged
        return self.merge(self.gather(x))

    def merge(self, x: Tensor) -> Tensor:
        """Merges the four tokens in each of ``x`` ``(..., 4 * C)``."""
        return self.reduction(self.norm(x))

    def _layers(self) -> MergingLayers | None:
        if must_be_called((self.norm, self.reduction)):
            return None
        return MergingLayers(self.gather, self.norm, self.reduction, NOTHING, self.training)

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

    def forward(self, x: Tensor) -> Tensor:
        factor = self.draw_factor(x)
        return x if factor is None else x * factor

    def draw_factor(self, x: Tensor) -> Tensor | None:
        """Draws the factor ``(B, 1, ..., 1)`` for the samples of ``x``: 0 drops one, ``1 / (1 - rate)`` keeps it.

        None if nothing can be dropped.
        """
        if not self.training or self.rate == 0.0:
            return None
        shape = (x.shape[0],) + (1,) * (x.ndim - 1)  # not len(x), which a trace would keep
        kept = torch.rand(shape, device=x.device) < 1.0 - self.rate
        return kept.to(x.dtype) / (1.0 - self.rate)

    def extra_repr(self) -> str:
        return f'rate={self.rate:.3f}'


class MLP(nn.Module):
    """Two linear layers over the channels."""

    def __init__(self, dim: int, hidden: int, act: Callable[[], nn.Module], drop_rate: float):
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.act = act()
        self.fc2 = nn.Linear(hidden, dim)
        self.drop = nn.Dropout(drop_rate)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(self.fc2(self.drop(self.act(self.fc1(x)))))


class SwinBlock(nn.Module):
    """Attention and an MLP, each normalised before and added to its input (arXiv 2103.14030, equation 3)."""

    def __init__(self, dim: int, num_heads: int, shift: tuple[int, int], drop_path: float, options: BlockOptions):
        super().__init__()
        o = options
        self.norm1 = o.norm(dim)
        self.attn = o.attention(
            dim,
            num_heads,
            o.window,
            shift,
            qkv_bias=o.qkv_bias,
            qk_scale=o.qk_scale,
            attn_drop=o.attn_drop_rate,
            proj_drop=o.drop_rate,
            kernel=o.kernel,
            cancel_shift=o.cancel_shift,
            relative_bias=o.relative_bias,
        )
        self.drop_path = DropPath(drop_path)
        self.norm2 = o.norm(dim)
        self.mlp = MLP(dim, int(dim * o.mlp_ratio), o.act, o.drop_rate)

    def forward(self, x: Tensor) -> Tensor:
        if (y := fast_block(self._layers(x), x)) is not None:
            return y
        x = x + self.drop_path(self.attn(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))

    def _layers(self, x: Tensor) -> BlockLayers | None:
        """The block as data, for a map ``x`` ``(B, H, W, C)``; None where its layers must be called one by one."""
        attn, mlp, drop_path = self.attn, self.mlp, self.drop_path
        if type(attn) not in FUSED or type(mlp) is not MLP or type(drop_path) is not DropPath:
            return None  # another kind, which computes something else
        assert isinstance(attn, WindowAttention)
        if attn.kernel == 'reference' or must_be_called(module for module in self.modules() if module is not self):
            return None
        return BlockLayers(
            before_attention=self.norm1,
            qkv=attn.qkv,
            attend=attn.attend,
            proj=attn.proj,
            proj_drop=attn.proj_drop,
            after_attention=NOTHING,
            before_mlp=self.norm2,
            fc1=mlp.fc1,
            act=mlp.act,
            fc2=mlp.fc2,
            mlp_drop=mlp.drop,
            after_mlp=NOTHING,
            draw_factor=drop_path.draw_factor,
            windows=attn.windows_on((x.shape[1], x.shape[2])),
            training=any(module.training for module in self.modules()),  # dropout alone may be on, to sample
        )


class Stage(nn.Module):
    """Blocks at one resolution, every second one shifted by half a window, then patch merging if there is a next stage.

    ``drop_path`` has a probability for each block. Returns the tokens before and after merging.
    """

    block: type[SwinBlock] = SwinBlock
    merging: type[PatchMerging] = PatchMerging

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
        half = (options.window[0] // 2, options.window[1] // 2)
        shifts = [(0, 0), half if options.shift else (0, 0)]
        self.blocks = nn.ModuleList(
            self.block(dim, num_heads, shifts[i % 2], rate, options) for i, rate in enumerate(drop_path)
        )
        self.downsample = self.merging(dim, options.norm) if merge else None
        self.with_cp = with_cp

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        for block in self.blocks:
            if self.with_cp and torch.is_grad_enabled():
                x = checkpoint(block, x, use_reentrant=False)
            else:
                x = block(x)
        return x, self.downsample(x) if self.downsample is not None else None
