import pytest
import torch
import torch.nn.functional as F
from mmcv.ops import sigmoid_focal_loss, softmax_focal_loss
from torchvision.ops import sigmoid_focal_loss as torchvision_sigmoid_focal_loss

GAMMA, ALPHA = 2.0, 0.25


def logits(device='cpu', dtype=torch.float64):
    return (3 * torch.randn(12, 4, device=device, dtype=dtype)).requires_grad_()


def targets(device='cpu', lowest=0, highest=4):
    """Every target from the lowest to the highest, both included."""
    return torch.arange(12, device=device) % (highest - lowest + 1) + lowest


def softmax_oracle(x, target):
    """The loss by its definition; rows of a negative target cost nothing."""
    cross_entropy = F.cross_entropy(x, target, ignore_index=-1, reduction='none')
    return ALPHA * (1 - torch.exp(-cross_entropy)) ** GAMMA * cross_entropy


def test_sigmoid_is_torchvisions(device):
    x, target = logits(device), targets(device)
    one_hot = F.one_hot(target, 5)[:, :4].to(x)  # 4 is background
    ours = sigmoid_focal_loss(x, target, GAMMA, ALPHA, None, 'none')
    theirs = torchvision_sigmoid_focal_loss(x, one_hot, ALPHA, GAMMA)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(*(torch.autograd.grad(y.sum(), x)[0] for y in (ours, theirs)))


def test_softmax_is_its_definition(device):
    x, target = logits(device), targets(device, lowest=-1, highest=3)
    ours = softmax_focal_loss(x, target, GAMMA, ALPHA, None, 'none')
    theirs = softmax_oracle(x, target)
    torch.testing.assert_close(ours, theirs)
    # By the sum: the backward of mmcv's own Function fails for 'none'.
    total = softmax_focal_loss(x, target, GAMMA, ALPHA, None, 'sum')
    torch.testing.assert_close(*(torch.autograd.grad(y, x)[0] for y in (total, theirs.sum())))


@pytest.mark.parametrize('op', [sigmoid_focal_loss, softmax_focal_loss])
@pytest.mark.parametrize('gamma', [0.5, 2.0])
@pytest.mark.parametrize('reduction', ['mean', 'sum'])
def test_gradcheck(op, gamma, reduction):
    weight, target = torch.rand(4, dtype=torch.float64), targets(highest=3)
    assert torch.autograd.gradcheck(lambda x: op(x, target, gamma, ALPHA, weight, reduction), logits())


@pytest.mark.parametrize('op', [sigmoid_focal_loss, softmax_focal_loss])
def test_class_weights_scale_the_rows_of_their_class(op):
    x, target, weight = logits(), targets(highest=3), torch.tensor([1.0, 0.0, 2.0, 0.5], dtype=torch.float64)
    plain, weighted = (op(x, target, GAMMA, ALPHA, w, 'none').view(12, -1) for w in (None, weight))
    torch.testing.assert_close(weighted, plain * weight[target][:, None])


@pytest.mark.parametrize('background', [-1, 4])
def test_background_weighs_one(background):
    x, target = logits(), torch.full((12,), background)
    plain, weighted = (
        sigmoid_focal_loss(x, target, GAMMA, ALPHA, w, 'none') for w in (None, torch.full((4,), 7.0).double())
    )
    assert torch.equal(plain, weighted)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_16_bit_computes_in_float32(device, dtype):
    x, target = logits(device, dtype), targets(device)
    wide = x.detach().float().requires_grad_()
    low, high = (sigmoid_focal_loss(v, target, GAMMA, ALPHA, None, 'none') for v in (x, wide))
    assert torch.equal(low, high.to(dtype))
    assert torch.equal(*(torch.autograd.grad(y.sum(), v)[0].to(dtype) for y, v in ((low, x), (high, wide))))


def test_saturated_logits_stay_finite(device):
    x = torch.tensor([[-200.0, 200.0]], device=device, requires_grad=True)
    loss = sigmoid_focal_loss(x, torch.zeros(1, dtype=torch.long, device=device), GAMMA, ALPHA, None, 'sum')
    assert loss.isfinite()
    assert torch.autograd.grad(loss, x)[0].isfinite().all()


@pytest.mark.parametrize('op', [sigmoid_focal_loss, softmax_focal_loss])
def test_no_rows_cost_nothing(op):
    x = torch.zeros(0, 4, requires_grad=True)
    loss = op(x, torch.zeros(0, dtype=torch.long), GAMMA, ALPHA, None, 'sum')
    assert loss == 0
    assert torch.autograd.grad(loss, x)[0].shape == (0, 4)
