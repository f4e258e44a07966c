"""Counts the parameters and multiply-adds of a config's model, whole and by part; needs neither data nor weights.

    python tools/get_flops.py configs/mask_rcnn_swin_t.py
    python tools/get_flops.py configs/upernet_swin_t.py --shape 512 2048

The official tables say FLOPs and mean multiply-adds of one picture, 1280x800 for detectors and 512x2048 for segmentors.
Two-stage detectors are counted there as by mmdet 2's ``forward_dummy``, whatever the picture: boxes for 1000 regions,
masks for 100, at every stage of a cascade; cutting regions out (RoIAlign) counts nothing. Auxiliary heads do not run
when a segmentor is used, so they have parameters and no multiply-adds.

Counted are convolutions and matrix products, those inside window attention as well, whether or not a kernel fuses
them; the attention of our backbone stands beside the paper's formulas, stage by stage. The figures are 0.5% to 1.6%
below the official ones because padding tokens go through attention only, not through the linear layers around it; norms
and the like are below 0.1%.
"""

import argparse
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import launch
import torch
from mmengine.config import Config, DictAction
from mmengine.registry import MODELS, DefaultScope
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from swin_mm import SwinTransformer
from swin_mm.backbone.attention.window import WindowAttention
from swin_mm.engine.preflight import PreflightError, find_config

REGIONS, MASKED_REGIONS = 1000, 100
SHAPES = {'mmdet': (800, 1280), 'mmseg': (512, 2048)}


class Cost(NamedTuple):
    """Parameters, and multiply-adds of one picture."""

    parameters: int
    multiply_adds: int


class Attention(NamedTuple):
    """Multiply-adds of the attention layers of a stage on one picture; ``size`` is its map's in tokens.

    ``products``: the part of ``counted`` that multiplies tokens with tokens. The formulas are those of global and of
    window attention, arXiv 2103.14030, equations 1 and 2.
    """

    size: tuple[int, int]
    width: int
    blocks: int
    global_formula: int
    window_formula: int
    counted: int
    products: int


def main(argv: Sequence[str] | None = None) -> dict[str, Cost]:
    """The costs of each part of the model and of the 'whole', as printed; ``argv`` None is the command line."""
    parser = argparse.ArgumentParser(description='Count parameters and multiply-adds')
    parser.add_argument('config', help='config file; a relative path starts here, or else at the root of this project')
    parser.add_argument(
        '--shape',
        nargs=2,
        type=int,
        metavar=('H', 'W'),
        help='size of the picture as the network sees it (default: 800 1280 for mmdet, 512 2048 for mmseg)',
    )
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE', help='settings to change')
    args = parser.parse_args(argv)
    cfg = Config.fromfile(find_config(args.config, launch.ROOT))
    cfg.merge_from_dict(args.cfg_options or {})
    scope = cfg.get('default_scope')
    if scope not in SHAPES:
        raise PreflightError(f'{args.config} must set default_scope to one of {list(SHAPES)}, got {scope}')
    shape = tuple(args.shape or SHAPES[scope])
    if min(shape) < 1:
        raise PreflightError(f'--shape must be two positive sizes in pixels, got {shape[0]} {shape[1]}')

    with DefaultScope.overwrite_default_scope(scope):
        model = MODELS.build(cfg.model)
        costs = count(model, shape)
    print(f'{args.config} at {shape[0]} x {shape[1]} (height x width)')
    print(f'{"part":16}{"parameters":>14}{"multiply-adds":>16}')
    for name, cost in costs.items():
        print(f'{name:16}{cost.parameters:14,}{cost.multiply_adds / 1e9:14.2f} G')
    print('Multiply-adds are what the official tables call FLOPs.')
    if isinstance(model.backbone, SwinTransformer):
        _print_attention(window_attention(model.backbone, shape), costs)
    return costs


@torch.no_grad()
def count(model: nn.Module, shape: tuple[int, int]) -> dict[str, Cost]:
    """Costs of each part of ``model``, in order, and of the 'whole', for a picture of ``shape`` (height, width).

    Moves ``model`` to the meta device, where nothing is computed. Raises PreflightError for a model whose heads it
    does not know how to run.
    """
    _prepare(model)
    spent: Counter[str] = Counter()

    def run(name: str, part: nn.Module, x: Tensor | Sequence[Tensor]) -> Sequence[Tensor]:
        with FlopCounterMode(display=False) as counter:
            result = part(x)
        spent[name] += counter.get_total_flops() // 2  # it counts multiplications and additions
        return result

    maps = run('backbone', model.backbone, torch.empty(1, 3, *shape, device='meta'))
    if model.with_neck:
        maps = run('neck', model.neck, maps)
    for name, head, x in _heads(model, maps):
        run(name, head, x)
    costs = {name: Cost(_parameters(part), spent[name]) for name, part in model.named_children() if _parameters(part)}
    return {**costs, 'whole': Cost(_parameters(model), spent.total())}


@torch.no_grad()
def window_attention(backbone: SwinTransformer, shape: tuple[int, int]) -> list[Attention]:
    """The attention of each stage, for a picture of ``shape`` (height, width).

    Moves ``backbone`` to the meta device.
    """
    _prepare(backbone)
    with FlopCounterMode(display=False) as counter:
        backbone(torch.empty(1, backbone.arguments.in_channels, *shape, device='meta'))
    spent = {name.partition('.')[2]: by_operator for name, by_operator in counter.get_flop_counts().items()}
    result = []
    h, w = (-(-side // patch) for side, patch in zip(shape, backbone.arguments.patch_size, strict=True))
    for i, stage in enumerate(backbone.layers):
        layers = [spent[f'layers.{i}.blocks.{j}.attn'] for j in range(len(stage.blocks))]
        C, (M, N), tokens = backbone.arguments.embed_dims * 2**i, backbone.arguments.window_size, h * w
        linear, depth = 4 * tokens * C**2, len(layers)
        formulas = depth * (linear + 2 * tokens**2 * C), depth * (linear + 2 * M * N * tokens * C)
        counted = sum(layer.total() for layer in map(Counter, layers)) // 2
        products = sum(layer[torch.ops.aten.bmm] for layer in layers) // 2
        result.append(Attention((h, w), C, depth, *formulas, counted, products))
        h, w = -(-h // 2), -(-w // 2)
    return result


def _print_attention(stages: Sequence[Attention], costs: dict[str, Cost]) -> None:
    print('\nAttention of each stage; global and window: formulas of arXiv 2103.14030, equations 1 and 2')
    print(f'{"map":>12}{"width":>8}{"blocks":>8}{"global":>14}{"window":>14}{"counted":>14}{"of it products":>18}')
    for a in stages:
        figures = f'{a.global_formula / 1e9:12.2f} G{a.window_formula / 1e9:12.2f} G{a.counted / 1e9:12.2f} G'
        print(f'{"{} x {}".format(*a.size):>12}{a.width:8}{a.blocks:8}{figures}{a.products / 1e9:16.2f} G')
    products = sum(a.products for a in stages)
    backbone, whole = ((costs[name].multiply_adds - products) / 1e9 for name in ('backbone', 'whole'))
    print('Counted beyond the formula is the padding to whole windows. Products are those of tokens with tokens;')
    print(
        "a counter that does not look into fused attention, such as mmengine's, misses them: "
        f'{backbone:.2f} G backbone, {whole:.2f} G whole.'
    )


def _prepare(model: nn.Module) -> None:
    model.to('meta').eval()
    for module in model.modules():
        if isinstance(module, WindowAttention):
            module.kernel = 'reference'  # made of operations that run on any device and have a known cost


def _parameters(part: nn.Module) -> int:
    return sum(p.numel() for p in part.parameters())


def _heads(model: nn.Module, maps: Sequence[Tensor]) -> Iterator[tuple[str, nn.Module, Tensor | Sequence[Tensor]]]:
    """(part of the model, head in it, what the head is run on)."""
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


def _on_regions(number: int, heads: nn.Module, extractors: nn.Module) -> Iterator[tuple[str, nn.Module, Tensor]]:
    """(part, head, ``number`` regions), for each stage of a cascade."""
    stages = zip(heads, extractors, strict=True) if isinstance(heads, nn.ModuleList) else [(heads, extractors)]
    for head, extractor in stages:
        size = extractor.roi_layers[0].output_size
        yield 'roi_head', head, torch.empty(number, extractor.out_channels, *size, device='meta')


if __name__ == '__main__':
    launch.run(main)
