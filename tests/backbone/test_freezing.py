"""Frozen stages: which parameters learn and which modules stay in evaluation mode; mmdet's meaning of the number.

That OpenMMLab's class freezes the same is in ``parity/test_mmdet_backbone.py``.
"""

import pytest
import torch

STAGES = range(-1, 5)
OUT_INDICES = [(0, 1, 2, 3), (1, 3), (2,)]


def frozen_prefixes(stages: int) -> tuple[str, ...]:
    """Names of what is frozen start with these: the patch embedding, the first stages and their output norms."""
    if stages < 0:
        return ()
    names = ['patch_embed.', 'absolute_pos_embed', 'pos_drop.']
    return (*names, *(f'{name}{i}.' for i in range(stages) for name in ('layers.', 'norm')))


@pytest.mark.parametrize('out_indices', OUT_INDICES, ids=str)
@pytest.mark.parametrize('stages', STAGES)
def test_exactly_these_parameters_learn(make_swin, stages, out_indices):
    """From construction on, not from the first ``train()`` on: an optimizer may be built in between."""
    net = make_swin(frozen_stages=stages, out_indices=out_indices, use_abs_pos_embed=True)
    want = {name for name, _ in net.named_parameters() if not name.startswith(frozen_prefixes(stages))}
    for mode in (None, True, False, True):
        if mode is not None:
            net.train(mode)
        assert {name for name, p in net.named_parameters() if p.requires_grad} == want


@pytest.mark.parametrize('out_indices', OUT_INDICES, ids=str)
@pytest.mark.parametrize('stages', STAGES)
def test_frozen_modules_stay_in_evaluation_mode(make_swin, stages, out_indices):
    net = make_swin(frozen_stages=stages, out_indices=out_indices).train()
    in_evaluation = {name for name, module in net.named_modules() if not module.training}
    assert in_evaluation == {name for name, _ in net.named_modules() if f'{name}.'.startswith(frozen_prefixes(stages))}
    assert not any(module.training for module in net.eval().modules())


@pytest.mark.parametrize('stages', STAGES)
def test_what_is_frozen_gets_no_gradient_and_the_rest_does(make_swin, stages):
    net = make_swin(frozen_stages=stages, drop_path_rate=0.0).train()
    loss = sum(m.square().sum() for m in net(torch.randn(2, 3, 61, 70)))
    assert loss.requires_grad == (stages < 4)
    if stages < 4:
        loss.backward()
    assert [name for name, p in net.named_parameters() if (p.grad is not None) != p.requires_grad] == []


def test_a_frozen_stage_draws_nothing(make_swin):
    """Neither dropout nor drop path: its map in training is that in evaluation."""
    net = make_swin(frozen_stages=1, drop_rate=0.5, attn_drop_rate=0.5, drop_path_rate=0.9)
    image = torch.randn(4, 3, 61, 70)
    training, evaluation = net.train()(image), net.eval()(image)
    assert torch.equal(training[0], evaluation[0])
    assert not torch.equal(training[1], evaluation[1])


def test_a_step_leaves_frozen_weights_alone(make_swin):
    net = make_swin(frozen_stages=2).train()
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.1, weight_decay=0.1)
    sum(m.square().sum() for m in net(torch.randn(1, 3, 61, 70))).backward()
    optimizer.step()
    changed = {name for name, p in net.named_parameters() if not torch.equal(p, before[name])}
    assert changed == {name for name in before if not name.startswith(frozen_prefixes(2))}
