"""A damaged checkpoint ends in the right weights or in an error that says why; never in wrong weights unsaid."""

import random

import pytest
import torch
from libraries import SMALL, coordinates_v2
from torch import Tensor

from swin_mm import SwinTransformer, SwinTransformerV2
from swin_mm.checkpoints import DIALECTS, DIALECTS_V2, from_official

CASES = 350


def dropped(state, rng):
    """One key to half of them."""
    for key in rng.sample(list(state), rng.choice([1, 2, 5, len(state) // 2])):
        del state[key]
    return state


def renamed(state, rng):
    """One of them, to no name that another has: values alone tell nothing."""
    key = rng.choice(list(state))
    names = [
        key + 'x',
        'x.' + key,
        key.replace('.', '_', 1),
        key.replace('0', '7'),
        key.replace('1', '0', 1),
        key.replace('layers', 'stages').replace('weight', 'gamma'),
        key.rpartition('.')[2],
    ]
    new = rng.choice([name for name in names if name not in state])
    return {new if name == key else name: value for name, value in state.items()}


def reshaped(state, rng):
    """One of them; nobody can see a square matrix that was transposed, so another shape it is."""
    key = rng.choice(list(state))
    value = state[key]
    changes = [
        value.flatten(),
        value.mT if value.ndim > 1 else value[None],
        value[:-1],
        value[..., :-1],
        torch.cat([value, value]),
        value[None],
        value.sum(),
        value[:0],
    ]
    state[key] = rng.choice([change.contiguous() for change in changes if change.shape != value.shape])
    return state


def reordered(state, rng):
    items = list(state.items())
    rng.shuffle(items)
    return dict(items)


def truncated(state, rng):
    return dict(list(state.items())[: rng.randrange(len(state))])


def mixed(state, rng):
    """A key of another file in it, of V1 for either version."""
    other = rng.choice([name for name in DIALECTS if name != 'timm'])
    foreign = from_official(SwinTransformer(**SMALL).state_dict(), other) if other != 'torchvision' else {}
    foreign |= {'conv1.weight': torch.ones(4, 3, 7, 7), 'model': torch.ones(2), 'backbone': torch.ones(1)}
    key = rng.choice([name for name in foreign if name not in state])
    return {**state, key: foreign[key]} if rng.random() < 0.5 else {key: foreign[key], **state}


def non_tensor(state, rng):
    state[rng.choice(list(state))] = rng.choice([None, 3, 'weight', {}, []])
    return state


CORRUPTIONS = [dropped, renamed, reshaped, reordered, truncated, mixed, non_tensor]
# What an error says: torch's of a strict load, or ours.
NAMED = ['Missing key', 'Unexpected key', 'checkpoint', 'must be', 'must hold', 'must have', 'is adapted']


@pytest.mark.parametrize('strict', [True, False], ids=['strict', 'lenient'])
@pytest.mark.parametrize(('network', 'table'), [(SwinTransformer, DIALECTS), (SwinTransformerV2, DIALECTS_V2)])
def test_corruptions_end_in_right_weights_or_an_error(network, table, strict, monkeypatch):
    tables = []
    monkeypatch.setattr('swin_mm.checkpoints.load.print_log', lambda text, *_: tables.append(text))
    net = network(**SMALL)
    truth = {key: torch.randn_like(value) for key, value in net.state_dict().items()}
    derived = {key.replace('logit_scale', 'relative_coords_table'): coordinates_v2(8, 8) for key in truth}
    whole = truth | {key: value for key, value in derived.items() if key not in truth}
    plain = {key: value for key, value in whole.items() if key[:4] != 'norm'}
    sources = {name: from_official(whole if d.map_norm else plain, name) for name, d in table.items()}
    rng, ends = random.Random(0), {'right': 0, 'said': 0, 'refused': 0}
    for case in range(CASES):
        dialect, corrupt = rng.choice(list(sources)), CORRUPTIONS[case % len(CORRUPTIONS)]
        state = corrupt(dict(sources[dialect]), rng)
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.fill_(99.0)
        tables.clear()
        try:
            net.load_state_dict(state, strict=strict)
        except RuntimeError as error:
            refused = str(error)
        else:
            refused = None
        if refused:
            assert any(word in refused for word in NAMED), (case, corrupt.__name__, dialect, refused)
            ends['refused'] += 1
            continue
        wrong = wrong_weights(net, truth, normed=table[dialect].map_norm is not None)
        assert not (wrong and strict), (case, corrupt.__name__, dialect, wrong)
        for key in wrong:  # what was not loaded stands in the table
            assert tables, (case, corrupt.__name__, dialect, wrong)
            assert 'MISSING' in tables[0], (case, corrupt.__name__, dialect, wrong)
            assert (net.state_dict()[key] == 99).all(), (case, key)
        ends['said' if wrong else 'right'] += 1
    assert ends['right'] > CASES / 10
    assert ends['refused'] > CASES / 5
    assert (ends['said'] > 0) is not strict


def wrong_weights(net: SwinTransformer, truth: dict[str, Tensor], normed: bool) -> list[str]:
    wrong = []
    for key, value in net.state_dict().items():
        identity = torch.full_like(value, float(key.endswith('weight')))
        if not torch.equal(value, truth[key] if normed or key[:4] != 'norm' else identity):
            wrong.append(key)
    return wrong
