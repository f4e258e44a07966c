"""Masks of objects against a loop over objects, with layers written out."""

import pytest
import torch
from torch.nn import functional

pytest.importorskip('mmdet')
from swin_mm.detectors.conditional_masks import NUMBER_OF_WEIGHTS, ConditionalMasks, dice_loss, run_networks

SIZES = [64, 128, 256]


def network(x, w):
    """Logits of the three layers for ``x`` (10, P), from 189 weights in the order of the official code."""
    take = iter(w.split([80, 64, 8, 8, 8, 1, 10, 8, 1, 1]))
    w0, w1, w2, b0, b1, b2, own0, own1, own_b0, own_b1 = take
    first = functional.linear(x.T, w0.view(8, 10), b0).relu()
    second = functional.linear(first, w1.view(8, 8), b1).relu()
    return [
        functional.linear(x.T, own0.view(1, 10), own_b0).T,
        functional.linear(first, own1.view(1, 8), own_b1).T,
        functional.linear(second, w2.view(1, 8), b2).T,
    ]


def test_each_object_has_its_own_network():
    torch.manual_seed(0)
    x, weights = torch.randn(5, 10, 33), torch.randn(5, NUMBER_OF_WEIGHTS)
    found = run_networks(x, weights)
    for i in range(5):
        torch.testing.assert_close([logits[i] for logits in found], network(x[i], weights[i]), rtol=1e-5, atol=1e-4)


def test_a_network_sees_where_the_pixel_lies_from_the_object():
    torch.manual_seed(0)
    masks = ConditionalMasks(4, 4, sizes_of_interest=SIZES, stride=8)
    features, weights = torch.randn(2, 8, 3, 5), torch.randn(2, NUMBER_OF_WEIGHTS)
    places, levels = torch.tensor([[11.0, 7.0], [30.0, 20.0]]), torch.tensor([0, 2])
    found = masks.head(features, weights, places, levels)
    assert [tuple(x.shape) for x in found] == [(2, 6, 10)] * 3
    for i in range(2):
        x = torch.zeros(10, 3, 5)
        for row in range(3):
            for column in range(5):
                pixel = torch.tensor([column * 8 + 4, row * 8 + 4])
                x[:2, row, column] = (places[i] - pixel) / SIZES[levels[i]]
        x[2:] = features[i]
        for layer, logits in enumerate(network(x.flatten(1), weights[i])):
            # Twice as fine: the middle of each cell, and halfway between two of them.
            logits = logits.view(3, 5)
            between = (logits[:, :-1] + logits[:, 1:]) / 2
            torch.testing.assert_close(found[layer][i, 1::2, 1::2], logits.sigmoid(), rtol=0, atol=1e-5)
            torch.testing.assert_close(found[layer][i, 1::2, 2::2], between.sigmoid(), rtol=0, atol=1e-5)


def test_weights_without_the_sizes_load_as_those_with_them():
    masks = ConditionalMasks(4, 4, sizes_of_interest=SIZES, stride=8)
    state = masks.state_dict()
    masks.load_state_dict(state, strict=True)
    del state['head.sizes_of_interest']
    masks.load_state_dict(state, strict=True)
    assert masks.head.sizes_of_interest.tolist() == SIZES


def test_no_object_gives_no_mask():
    masks = ConditionalMasks(4, 4, sizes_of_interest=SIZES, stride=8)
    none = torch.zeros(0)
    found = masks.head(torch.zeros(0, 8, 3, 5), none.view(0, NUMBER_OF_WEIGHTS), none.view(0, 2), none.long())
    assert [tuple(x.shape) for x in found] == [(0, 6, 10)] * 3


def test_dice_is_0_for_the_mask_itself_and_1_for_another():
    mask = torch.zeros(2, 4, 4)
    mask[0, :2], mask[1, 2:] = 1, 1
    torch.testing.assert_close(dice_loss(mask, mask), torch.zeros(2), rtol=0, atol=1e-5)
    torch.testing.assert_close(dice_loss(mask, 1 - mask), torch.ones(2))
    torch.testing.assert_close(dice_loss(mask / 2, mask), torch.full((2,), 1 - 2 * 4 / (2 + 8)), rtol=0, atol=1e-5)
