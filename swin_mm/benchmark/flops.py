"""Counts the parameters and multiply-adds of a model, whole and by part; needs neither data nor weights.

The official tables say FLOPs and mean multiply-adds of one image, 1280x800 for detectors and 512x2048 for segmentors.
They count two-stage detectors as mmdet 2's ``forward_dummy`` does, whatever the image: boxes for 1000 regions and masks
for 100, at every stage of a cascade. Cutting regions out (RoIAlign) counts nothing. Auxiliary heads do not run when a
segmentor is used, so they have parameters and no multiply-adds.

Convolutions, deformable ones too, and matrix products are counted, also those inside window attention, whether or not
a kernel fuses them. The attention of our backbone stands beside the paper's formulas, stage by stage. The figures are
0.5% to 2.5% below the official ones, because padding tokens go through attention only, not through the linear layers
around it. Norms and the like are left out: they are below 0.1%.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from mmengine.model import BaseModel, BaseModule
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ..backbone import SwinTransformer
from ..backbone.attention import SelfAttention
from ..errors import PreflightError

REGIONS, MASKED_REGIONS = 1000, 100


class Cost(NamedTuple):
    """Parameters of a part, and its multiply-adds for one image."""

    parameters: int
    multiply_adds: int


class Attention(NamedTuple):
    """Multiply-adds of the attention layers of a stage, for one image and a map of ``size`` in tokens.

    ``products`` is the part of ``counted`` that multiplies tokens with tokens. ``global_formula`` and
    ``window_formula`` are equations 1 and 2 of arXiv 2103.14030, for all blocks of the stage.
    """

    size: tuple[int, int]
    width: int
    blocks: int
    global_formula: int
    window_formula: int
    counted: int
    products: int


@torch.no_grad()
def count(model: BaseModel, shape: tuple[int, int], channels: int = 3) -> dict[str, Cost]:
    """Counts the costs of each part of ``model``, in order, and of the 'whole'.

    ``shape`` is the (height, width) in pixels of an image with so many ``channels``. ``model`` is moved to the meta
    device, where nothing is computed. Raises PreflightError for a model with heads that it does not know how to run.
    """
    _prepare(model)
    spent: Counter[str] = Counter()

    def run(name: str, part: nn.Module, x: Tensor | Sequence[Tensor]) -> Sequence[Tensor]:
        with FlopCounterMode(display=False, custom_mapping=_deformable()) as counter:
            result = part(x)
        spent[name] += counter.get_total_flops() // 2  # a multiply-add is two of its operations
        return result

    maps = run('backbone', model.backbone, torch.empty(1, channels, *shape, device='meta'))
    if model.with_neck:
        maps = run('neck', model.neck, maps)
    for name, head, x in _heads(model, maps):
        run(name, head, x)
    parts = dict(model.named_children())
    costs = {name: Cost(_count_parameters(part), spent[name]) for name, part in parts.items()}
    costs = {name: cost for name, cost in costs.items() if cost.parameters}
    return costs | {'whole': Cost(_count_parameters(model), spent.total())}


@torch.no_grad()
def window_attention(backbone: SwinTransformer, shape: tuple[int, int]) -> list[Attention]:
    """Counts the attention of each stage, for an image of ``shape`` (height, width) in pixels.

    ``backbone`` is moved to the meta device.
    """
    _prepare(backbone)
    with FlopCounterMode(display=False) as counter:
        backbone(torch.empty(1, backbone.arguments.in_channels, *shape, device='meta'))
    spent = {name.partition('.')[2]: by_operator for name, by_operator in counter.get_flop_counts().items()}
    result = []
    h, w = (math.ceil(side / patch) for side, patch in zip(shape, backbone.arguments.patch_size, strict=True))
    for i in range(len(backbone.layers)):
        depth, (M, N) = backbone.arguments.depths[i], backbone.arguments.windows[i]
        layers = [Counter(spent[f'layers.{i}.blocks.{j}.attn']) for j in range(depth)]
        C, tokens = backbone.arguments.embed_dims * 2**i, h * w
        attention = Attention(
            size=(h, w),
            width=C,
            blocks=depth,
            global_formula=depth * global_formula(tokens, C),
            window_formula=depth * window_formula(tokens, C, M * N),
            counted=sum(layer.total() for layer in layers) // 2,
            products=sum(layer[torch.ops.aten.bmm] for layer in layers) // 2,
        )
        result.append(attention)
        h, w = math.ceil(h / 2), math.ceil(w / 2)
    return result


def global_formula(tokens: int, C: int) -> int:
    """Multiply-adds of attention among ``tokens`` of width ``C``: equation 1 of arXiv 2103.14030."""
    return 4 * tokens * C**2 + 2 * tokens**2 * C


def window_formula(tokens: int, C: int, window: int) -> int:
    """Multiply-adds of attention in windows of ``window`` tokens: equation 2 of arXiv 2103.14030."""
    return 4 * tokens * C**2 + 2 * window * tokens * C


def _deformable() -> dict[Any, Callable[..., int]]:
    """Gives the cost of deformable convolutions, which PyTorch's counter does not know: that of plain ones."""
    import torchvision  # noqa: F401  registers the operator

    def cost(x: Sequence[int], weight: Sequence[int], *_: Any, out_shape: Sequence[int], **__: Any) -> int:
        return 2 * math.prod(out_shape) * math.prod(weight[1:])

    return {torch.ops.torchvision.deform_conv2d: cost}


def _prepare(model: nn.Module) -> None:
    """Moves ``model`` to the meta device, for inference with kernels whose operations can be counted."""
    model.to('meta').eval()
    for module in model.modules():
        if isinstance(module, SelfAttention):
            module.kernel = 'reference'  # made of operations that run on any device and have a known cost


def _count_parameters(part: nn.Module) -> int:
    return sum(p.numel() for p in part.parameters())


def _heads(model: BaseModel, maps: Sequence[Tensor]) -> Iterator[tuple[str, nn.Module, Tensor | Sequence[Tensor]]]:
    """Yields (part of the model, head in it, input of the head)."""
    kinds = {kind.__name__ for kind in type(model).__mro__}
    if 'TwoStageDetector' in kinds and type(model.roi_head).__name__ in ('StandardRoIHead', 'CascadeRoIHead'):
        roi = model.roi_head
        yield 'rpn_head', model.rpn_head, maps
        yield from _on_regions(REGIONS, roi.bbox_head, roi.bbox_roi_extractor)
        if roi.with_mask:
            yield from _on_regions(MASKED_REGIONS, roi.mask_head, roi.mask_roi_extractor)
    elif 'SingleStageDetector' in kinds:
        yield 'bbox_head', model.bbox_head, maps
    elif 'EncoderDecoder' in kinds and not isinstance(model.decode_head, nn.ModuleList):
        yield 'decode_head', model.decode_head, maps
    else:
        raise PreflightError(
            f'cannot count the heads of {type(model).__name__}: they must run on the maps alone, or on regions as '
            'those of StandardRoIHead and CascadeRoIHead'
        )


def _on_regions(number: int, heads: BaseModule, extractors: BaseModule) -> Iterator[tuple[str, nn.Module, Tensor]]:
    """Yields (part, head, features of ``number`` regions) for each stage of a cascade, or once without one."""
    stages = zip(heads, extractors, strict=True) if isinstance(heads, nn.ModuleList) else [(heads, extractors)]
    for head, extractor in stages:
        size = extractor.roi_layers[0].output_size
        yield 'roi_head', head, torch.empty(number, extractor.out_channels, *size, device='meta')
