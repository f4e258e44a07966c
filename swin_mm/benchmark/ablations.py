"""Times the kinds of attention that the Swin paper compares: its table 5, measured here."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..backbone import SwinTransformer
from ..backbone.attention import SelfAttention
from .comparing import make_image
from .measuring import measure, milliseconds, speed
from .peers import Conditions, Peer, Shape

# What each is as arguments of a backbone, in the order of the paper. The cyclic shift comes in plain PyTorch, as the
# others, and in the kernels that 'auto' takes.
METHODS: dict[str, dict[str, Any]] = {
    'sliding window': dict(attention='sliding'),
    'Performer': dict(attention='performer', position='none'),
    'window, no shift': dict(shift=False, kernel='sdpa'),
    'shifted window, padding': dict(kernel='padding'),
    'shifted window, cyclic': dict(kernel='sdpa'),
    'shifted window, auto': dict(),
}
REFERENCE = 'shifted window, cyclic'
COLUMN = 22


class StageAttention(nn.Module):
    """The attention layers of a stage, each on the same map ``(B, H, W, C)``; gives their maps."""

    def __init__(self, stage: nn.Module):
        super().__init__()
        self.layers = nn.ModuleList(module for module in stage.modules() if isinstance(module, SelfAttention))

    def forward(self, x: Tensor) -> list[Tensor]:
        return [layer(x) for layer in self.layers]


def compare_methods(archs: Sequence[str], batch: int, shape: Shape, conditions: Conditions) -> dict[str, Any]:
    """Measures every method: attention alone in each stage of the first of ``archs``, and whole backbones of each."""
    image = make_image(batch, shape).to(conditions.device)
    backbones: dict[str, dict[str, SwinTransformer]] = {}
    for arch in archs:
        backbones[arch] = {name: SwinTransformer(arch, **given) for name, given in METHODS.items()}
    for net in (net for nets in backbones.values() for net in nets.values()):
        net.to(conditions.device)
    stages = [
        _measure(
            {name: Peer(StageAttention(net.layers[i])) for name, net in backbones[archs[0]].items()}, x, conditions
        )
        for i, x in enumerate(_maps(backbones[archs[0]][REFERENCE], image))
    ]
    whole = {
        arch: _measure({name: Peer(net) for name, net in nets.items()}, image, conditions)
        for arch, nets in backbones.items()
    }
    return dict(shape=list(shape), batch=batch, reference=REFERENCE, stages=stages, archs=whole)


@torch.no_grad()
def _maps(net: SwinTransformer, image: Tensor) -> list[Tensor]:
    """The maps of the stages, normalised, as attention gets them: ``(B, H, W, C)``."""
    return [m.permute(0, 2, 3, 1).contiguous() for m in net.eval()(image)]


def _measure(peers: dict[str, Peer], x: Tensor, conditions: Conditions) -> dict[str, Any]:
    found = measure({name: (peer.net, peer.repetition(x, conditions)) for name, peer in peers.items()}, conditions)
    for entry in found.values():
        entry['speed'] = speed(entry['times'], found[REFERENCE]['times'])
    return found


def table(result: dict[str, Any]) -> str:
    """Writes the methods as a table, a line each."""
    archs, batch = result['archs'], result['batch']
    heads = [f'S{i}' for i in range(1, len(result['stages']) + 1)]
    line = ' ' * 26 + ''.join(f'{head:>12}' for head in heads)
    lines = [line + ''.join(f'{arch:>{COLUMN}}' for arch in archs)]
    for name in METHODS:
        line = f'{name:26}' + ''.join(f'{milliseconds(stage[name]["median"]):>12}' for stage in result['stages'])
        for entries in archs.values():
            figures = f'{batch / entries[name]["median"]:.2f}/s, {entries[name]["speed"]:.2f}x'
            line += f'{figures:>{COLUMN}}'
        lines.append(line)
    height, width = result['shape']
    lines.append(
        f'S1 and on: the attention layers of a stage of Swin {next(iter(archs))}, for {height} x {width} pixels.'
    )
    lines.append(
        f'Then images a second of whole backbones, and their speed over {REFERENCE!r}, median over the rounds.'
    )
    return '\n'.join(lines)
