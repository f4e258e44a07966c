"""What is computed again instead of kept: the same values and gradients, and how much less is kept."""

import itertools

import pytest
import torch
from torch import nn

from swin_mm import SwinTransformer
from swin_mm.kernels import lean_linear
from swin_mm.kernels.lean_linear import linear_after

BEFORE = {'norm': lambda: nn.LayerNorm(6), 'gelu': nn.GELU, 'tanh': lambda: nn.GELU('tanh'), 'nothing': nn.Identity}
SMALL = dict(embed_dims=8, depths=(2, 2, 2, 2), num_heads=(1, 2, 2, 4))


def layers(before: str, bias: bool = True, dtype: torch.dtype = torch.float64) -> tuple[nn.Module, nn.Linear]:
    pair = nn.ModuleList([BEFORE[before](), nn.Linear(6, 4, bias)]).to(dtype)
    for parameter in pair.parameters():
        nn.init.normal_(parameter)
    return pair[0], pair[1]


def saved_bytes(net: nn.Module, *inputs: torch.Tensor) -> int:
    """Of all tensors that the backward pass needs, each storage once; parameters do not count."""
    own = {p.untyped_storage().data_ptr() for p in net.parameters()}
    sizes = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            sizes[storage.data_ptr()] = storage.nbytes(), tensor  # kept, so that its place is not given away
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        outputs = net(*inputs)
    assert outputs is not None
    return sum(size for size, _ in sizes.values())


@pytest.fixture(params=[3, 2048], autouse=True)
def tokens(request, monkeypatch):
    monkeypatch.setattr(lean_linear, 'TOKENS', request.param)


@pytest.mark.parametrize('bias', [True, False])
@pytest.mark.parametrize('before', BEFORE)
def test_gradients_are_those_of_finite_differences(before, bias):
    first, linear = layers(before, bias)
    x = torch.randn(2, 4, 6, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(linear_after(first, linear, x), linear(first(x)), rtol=1e-14, atol=1e-14)
    parameters = [x, *first.parameters(), *linear.parameters()]
    assert torch.autograd.gradcheck(lambda *_: linear_after(first, linear, x), parameters)


@pytest.mark.parametrize('frozen', itertools.product([True, False], repeat=3), ids=str)
@pytest.mark.parametrize('before', BEFORE)
def test_what_is_frozen_gets_no_gradient_and_the_rest_its_own(before, frozen):
    first, linear = layers(before, dtype=torch.float32)
    x = torch.randn(5, 6)
    grads = []
    for function in (lambda: linear_after(first, linear, x), lambda: linear(first(x))):
        every = [x, *first.parameters(), *linear.parameters()]
        for tensor in every:
            tensor.grad = None
        x.requires_grad_(not frozen[0])
        first.requires_grad_(not frozen[1])
        linear.requires_grad_(not frozen[2])
        if (y := function()).requires_grad:
            y.square().sum().backward()
        grads.append([tensor.grad for tensor in every])
    for got, want in zip(*grads, strict=True):
        assert (got is None) == (want is None)
        if want is not None:
            torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('before', BEFORE)
def test_under_autocast_gradients_are_as_near_as_those_of_the_layers(before):
    first, linear = layers(before, dtype=torch.float32)
    x = torch.randn(50, 6, requires_grad=True)
    wrt = [x, *first.parameters(), *linear.parameters()]
    exact = torch.autograd.grad(linear(first(x)).square().sum(), wrt)
    with torch.autocast('cpu', torch.bfloat16):
        ours = linear_after(first, linear, x)
    # PyTorch 2.5 would reuse the weights that a custom function has cast, which have no gradient.
    with torch.autocast('cpu', torch.bfloat16):
        theirs = linear(first(x))
    assert ours.dtype == theirs.dtype == torch.bfloat16
    got, want = (torch.autograd.grad(y.float().square().sum(), wrt) for y in (ours, theirs))
    for a, b, true in zip(got, want, exact, strict=True):
        assert a.dtype == b.dtype
        assert (a - true).norm() < 1.5 * (b - true).norm() + 1e-2 * true.norm()


def test_layers_that_are_not_plain_are_called():
    class Adapted(nn.Linear):
        pass

    first, linear = layers('norm')
    x = torch.randn(3, 6, dtype=torch.float64, requires_grad=True)
    assert type(linear_after(first, linear, x).grad_fn).__name__ == '_LinearAfterBackward'
    assert type(linear_after(first, Adapted(6, 4).double(), x).grad_fn).__name__ == 'AddmmBackward0'


@pytest.mark.parametrize('size', [(224, 224), (150, 250)])
def test_a_backbone_keeps_at_most_six_tenths_of_what_mmdets_keeps(size):
    swin = pytest.importorskip('mmdet.models.backbones.swin').SwinTransformer
    ours, theirs = SwinTransformer(**SMALL).train(), swin(**SMALL)
    theirs.train()
    image = torch.randn(2, 3, *size)
    assert saved_bytes(ours, image) < 0.6 * saved_bytes(theirs, image)


def test_training_follows_the_reference_kernel():
    """Fifty steps of AdamW; the losses of both runs, which rounding alone drives apart."""
    losses = []
    for kernel in ('auto', 'reference'):
        torch.manual_seed(0)
        net = SwinTransformer(**SMALL, kernel=kernel, drop_path_rate=0.0).double().train()
        optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
        images = torch.randn(4, 3, 40, 56, dtype=torch.float64)
        targets = [torch.randn_like(m) for m in net(images)]
        losses.append([])
        for _ in range(50):
            loss = sum((m - t).square().mean() for m, t in zip(net(images), targets, strict=True))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses[-1].append(loss.item())
    assert losses[0][-1] < 0.9 * losses[0][0]
    assert losses[0] == pytest.approx(losses[1], rel=1e-9)


def test_parameters_may_be_swapped_for_plain_tensors_between_the_passes():
    """As FSDP does, which puts views of a gathered tensor in their place."""
    first, linear = layers('norm')
    x = torch.randn(5, 6, dtype=torch.float64)
    wanted = torch.autograd.grad(linear(first(x)).square().sum(), [first.weight, first.bias, linear.weight])
    weight, bias = first.weight, first.bias
    loss = linear_after(first, linear, x).square().sum()
    del first.weight, first.bias
    first.weight, first.bias = weight.detach(), bias.detach()
    torch.testing.assert_close(torch.autograd.grad(loss, [weight, bias, linear.weight]), wanted)
