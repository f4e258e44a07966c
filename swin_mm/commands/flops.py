"""``swin-mm flops``: the parameters and multiply-adds of a config's model, see ``benchmark/flops.py``.

swin-mm flops mask_rcnn_swin_t
swin-mm flops upernet_swin_t --shape 512 2048
"""

import argparse
from collections.abc import Sequence

from mmengine.config import Config, DictAction
from mmengine.registry import MODELS, DefaultScope

from ..backbone import SwinTransformer
from ..benchmark.flops import Attention, Cost, count, window_attention
from ..errors import PreflightError
from ..recipes import find_config, image_channels
from . import launch

SHAPES = {'mmdet': (800, 1280), 'mmseg': (512, 2048)}


def main(argv: Sequence[str] | None = None) -> dict[str, Cost]:
    """The costs of each part of the model and of the 'whole', as printed; ``argv`` None is the command line."""
    parser = argparse.ArgumentParser(description='Count parameters and multiply-adds')
    parser.add_argument('config', help=launch.CONFIG_HELP)
    parser.add_argument(
        '--shape',
        nargs=2,
        type=int,
        metavar=('H', 'W'),
        help='size of the picture as the network sees it (default: 800 1280 for mmdet, 512 2048 for mmseg)',
    )
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, metavar='KEY=VALUE', help='settings to change')
    args = parser.parse_args(argv)
    cfg = Config.fromfile(find_config(args.config))
    cfg.merge_from_dict(args.cfg_options or {})
    scope = cfg.get('default_scope')
    if scope not in SHAPES:
        raise PreflightError(f'{args.config} must set default_scope to one of {list(SHAPES)}, got {scope}')
    shape = tuple(args.shape or SHAPES[scope])
    if min(shape) < 1:
        raise PreflightError(f'--shape must be two positive sizes in pixels, got {shape[0]} {shape[1]}')

    with DefaultScope.overwrite_default_scope(scope):
        model = MODELS.build(cfg.model)
        costs = count(model, shape, image_channels(cfg.model))
    print(f'{args.config} at {shape[0]} x {shape[1]} (height x width)')
    print(f'{"part":16}{"parameters":>14}{"multiply-adds":>16}')
    for name, cost in costs.items():
        print(f'{name:16}{cost.parameters:14,}{cost.multiply_adds / 1e9:14.2f} G')
    print('Multiply-adds are what the official tables call FLOPs.')
    if isinstance(model.backbone, SwinTransformer) and model.backbone.arguments.attention == 'window':
        _print_attention(window_attention(model.backbone, shape), costs)
    return costs


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
