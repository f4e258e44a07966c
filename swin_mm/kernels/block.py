"""The layers of a block and of patch merging as data, for kernels that compute them whole."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn.modules import module as hooks  # where the hooks of all modules are

from .tracing import is_traced

NOTHING = nn.Identity()


class Windows(NamedTuple):
    """Window attention between ``qkv`` and ``proj`` of a block, on a map of one size.

    ``window``, ``shift``: (height, width) in tokens. ``scale``: factor on the scores. ``bias()`` makes the bias
    ``(heads, N, N)`` from the tensors ``sources``. ``qkv_bias`` ``(3 * C,)`` is added behind the weight of ``qkv``;
    None for zero. ``cosine``: the ``scale`` ``(heads, 1)`` of `swin_mm.kernels.cosine`; None for plain products.
    """

    window: tuple[int, int]
    shift: tuple[int, int]
    scale: float
    sources: tuple[Tensor, ...]
    bias: Callable[[], Tensor]
    qkv_bias: Tensor | None
    cosine: Tensor | None = None


class BlockLayers(NamedTuple):
    """A block, ``y = x + drop_path(after_attention(drop(proj(attend(qkv(before_attention(x)))))))``, then its MLP.

    Of the layers before and after a branch one is a norm and the other `NOTHING`. The MLP is
    ``drop(fc2(drop(act(fc1(...)))))``. ``attend``: ``(B, H, W, 3 * C)`` to ``(B, H, W, C)``, in any kernel.
    ``draw_factor(y)``: the factor ``(B, 1, 1, 1)`` of drop path on a branch; None for 1. ``windows``: how to fuse the
    attention; None where a kernel was chosen by name. ``training``: dropout and drop path act.
    """

    before_attention: nn.Module
    qkv: nn.Linear
    attend: Callable[[Tensor], Tensor]
    proj: nn.Linear
    proj_drop: nn.Module
    after_attention: nn.Module
    before_mlp: nn.Module
    fc1: nn.Linear
    act: nn.Module
    fc2: nn.Linear
    mlp_drop: nn.Dropout
    after_mlp: nn.Module
    draw_factor: Callable[[Tensor], Tensor | None]
    windows: Windows | None
    training: bool


class MergingLayers(NamedTuple):
    """Patch merging, ``after(reduction(before(gather(x))))``, of which one is a norm and the other `NOTHING`.

    ``gather``: ``(B, H, W, C)`` to ``(B, H / 2, W / 2, 4 * C)``.
    """

    gather: Callable[[Tensor], Tensor]
    before: nn.Module
    reduction: nn.Linear
    after: nn.Module
    training: bool


def must_be_called(modules: Iterable[nn.Module]) -> bool:
    """Whether each of ``modules`` must be called, and not computed by a kernel in its place.

    So it is if a compiler or tracer is at work, or if somebody has set a hook, on one of them or on all modules as
    profilers and counters of operations do, or has replaced a ``forward``.
    """
    if is_traced():
        return True
    if any((hooks._global_forward_hooks, hooks._global_forward_pre_hooks)):
        return True
    if any((hooks._global_backward_hooks, hooks._global_backward_pre_hooks)):
        return True
    return any(
        m._forward_hooks or m._forward_pre_hooks or m._backward_hooks or m._backward_pre_hooks or 'forward' in vars(m)
        for m in modules
    )
