"""Times implementations side by side on images of one size, and one implementation on images of growing size."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from .measuring import exponent, measure, speed
from .peers import Conditions, Peer, Shape

SIDES = (256, 384, 512, 768, 1024, 1536, 2048)  # pixels
FITTED_FROM = 512 * 512  # pixels; on smaller images a fixed cost shows


def compare(peers: Mapping[str, Peer], image: Tensor, conditions: Conditions, with_compiled: bool) -> dict[str, Any]:
    """Measures all implementations on images of one shape, and if ``with_compiled`` also their compiled forms."""
    image, shape = image.to(conditions.device), (image.shape[2], image.shape[3])
    reference = next((name for name in ('mmdet', 'mmseg') if name in peers), next(iter(peers)))
    all_peers = dict(peers)
    if with_compiled:
        torch.compiler.reset()  # it keeps a limited number of graphs for a function
        all_peers |= {f'{name}+compile': peer.compiled() for name, peer in peers.items()}
    runs = {name: (peer.net, peer.repetition(image, conditions)) for name, peer in all_peers.items()}
    found = measure(runs, conditions)
    # A peer that was compiled for training would be compiled once more to give maps for inference.
    differences = _differences(peers if conditions.train else all_peers, reference, image, conditions)
    for name, entry in found.items():
        first_call = entry.pop('first_call')
        entry['speed'] = speed(entry['times'], found[reference]['times'])
        entry['compiling'] = None if name in peers else max(0.0, first_call - entry['median'])
        entry['difference'] = differences.get(name)
        entry['caveat'] = all_peers[name].caveat(shape)
    kinds = dict(
        memory_kind=conditions.memory,
        difference_kind=f'the largest from the maps of {reference} in float32, in standard deviations of the map',
    )
    return dict(shape=list(shape), reference=reference, implementations=found, **kinds)


def scaling(peer: Peer, batch: int, conditions: Conditions) -> dict[str, Any]:
    """Measures ``peer`` on squares of `SIDES`: time, memory, and the exponent k in time ~ pixels ** k."""
    runs = {}
    for side in SIDES:
        image = make_image(batch, (side, side)).to(conditions.device)
        runs[side] = (peer.net, peer.repetition(image, conditions))
    points = [
        dict(shape=[side, side], pixels=side * side, **entry) for side, entry in measure(runs, conditions).items()
    ]
    slope = exponent([point['pixels'] for point in points], [point['median'] for point in points], FITTED_FROM)
    return dict(points=points, exponent=slope, fitted_from=FITTED_FROM, memory_kind=conditions.memory)


def make_image(batch: int, shape: Shape, channels: int = 3) -> Tensor:
    """Makes random images ``(batch, channels, *shape)``, the same in every run."""
    return torch.randn(batch, channels, *shape, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def _differences(peers: Mapping[str, Peer], reference: str, image: Tensor, conditions: Conditions) -> dict[str, float]:
    """Gives each one's largest difference from the reference's float32 maps, in standard deviations of the map."""
    for peer in peers.values():
        peer.net.eval()
    wanted = peers[reference].maps(image, replace(conditions, dtype=torch.float32))
    result = {}
    for name, peer in peers.items():
        pairs = zip(peer.maps(image, conditions), wanted, strict=True)
        result[name] = max(((got - want).abs().max() / want.std()).item() for got, want in pairs)
    return result
