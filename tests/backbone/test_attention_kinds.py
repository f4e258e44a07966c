"""The kinds of attention beside windows: against loops, against each other, and what they refuse."""

import math

import pytest
import torch

from swin_mm import SwinTransformer
from swin_mm.backbone.attention import KINDS, GlobalAttention, PerformerAttention, SlidingAttention, WindowAttention
from swin_mm.backbone.attention.performer import orthogonal_directions
from swin_mm.backbone.attention.whole_map import MOST_TOKENS

POSITION = {'performer': 'none'}  # which has no relative bias


def randomised(attention):
    for parameter in attention.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return attention


def sliding_by_loops(attention, x):
    """Every token, every place of its window, one at a time."""
    (B, H, W, C), (h, w), heads = x.shape, attention.window, attention.num_heads
    d, qkv_bias, table = C // heads, attention.qkv.bias, attention.relative_position_bias_table
    qkv = attention.qkv(x).view(B, H, W, 3, heads, d)
    pad = torch.zeros(3, heads, d, dtype=x.dtype) if qkv_bias is None else qkv_bias.view(3, heads, d)
    out = torch.empty(B, H, W, heads, d, dtype=x.dtype)
    for b, y, x0, head in torch.cartesian_prod(*map(torch.arange, (B, H, W, heads))).tolist():
        scores, values = [], []
        for dy in range(-(h // 2), h // 2 + 1):
            for dx in range(-(w // 2), w // 2 + 1):
                inside = 0 <= y + dy < H and 0 <= x0 + dx < W
                _, k, v = qkv[b, y + dy, x0 + dx, :, head] if inside else pad[:, head]
                bias = 0 if table is None else table[(h - 1 - dy) * (2 * w - 1) + w - 1 - dx, head]
                scores.append(qkv[b, y, x0, 0, head] @ k * attention.scale + bias)
                values.append(v)
        out[b, y, x0, head] = torch.stack(scores).softmax(0) @ torch.stack(values)
    return attention.proj(out.flatten(3))


@pytest.mark.parametrize('relative_bias', [True, False])
@pytest.mark.parametrize('qkv_bias', [True, False])
@pytest.mark.parametrize(('window', 'size'), [((3, 3), (6, 6)), ((3, 5), (7, 4)), ((7, 7), (2, 9)), ((1, 3), (2, 4))])
def test_sliding_equals_loops_over_tokens(window, size, qkv_bias, relative_bias):
    """Maps of whole tiles, of parts of tiles, and smaller than a window."""
    attention = randomised(SlidingAttention(4, 2, window, qkv_bias=qkv_bias, relative_bias=relative_bias).double())
    x = torch.randn(1, *size, 4, dtype=torch.float64)
    want = sliding_by_loops(attention, x)
    torch.testing.assert_close(attention(x), want, rtol=1e-12, atol=1e-12)
    wrt = list(attention.parameters())
    ramp = torch.linspace(-1, 1, want.numel(), dtype=x.dtype).view_as(want)
    for got, loops in zip(*(torch.autograd.grad((y * ramp).sum(), wrt) for y in (attention(x), want)), strict=True):
        torch.testing.assert_close(got, loops, rtol=1e-10, atol=1e-10)


def test_sliding_equals_the_window_in_its_middle():
    """A token in the middle of a window sees in both kinds the same keys with the same biases."""
    sliding, window = SlidingAttention(8, 2, (5, 3)), WindowAttention(8, 2, (5, 3))
    window.load_state_dict(randomised(sliding).state_dict())
    x = torch.randn(2, 10, 6, 8)
    torch.testing.assert_close(sliding(x)[:, 2::5, 1::3], window(x)[:, 2::5, 1::3])


def test_sliding_keeps_memory_for_one_row_of_tiles(monkeypatch):
    """Scores of a tall map are as many at a time as those of a flat one."""
    attention, sizes = SlidingAttention(8, 2, (3, 3)), []
    softmax = torch.Tensor.softmax
    monkeypatch.setattr(torch.Tensor, 'softmax', lambda x, dim: (sizes.append(x.numel()), softmax(x, dim))[1])
    with torch.no_grad():
        attention(torch.randn(1, 3, 9, 8))
        attention(torch.randn(1, 30, 9, 8))
    assert len(sizes) == 11
    assert len(set(sizes)) == 1


@pytest.mark.parametrize('kernel', ['reference', 'sdpa', 'cpu'])
@pytest.mark.parametrize('relative_bias', [True, False])
@pytest.mark.parametrize('size', [(7, 7), (4, 6)])
def test_global_is_one_window_that_covers_the_map(kernel, relative_bias, size):
    """To the bit, in value and gradients, whatever kernel computes both."""
    one_window = WindowAttention(8, 2, size, kernel=kernel, relative_bias=relative_bias)
    whole = GlobalAttention(8, 2, size, (3, 2), kernel=kernel, relative_bias=relative_bias)  # it has no shift
    whole.load_state_dict(randomised(one_window).state_dict())
    x = torch.randn(2, *size, 8)
    assert torch.equal(whole(x), one_window(x))
    for got, want in zip(
        *(torch.autograd.grad(module(x).square().sum(), list(module.parameters())) for module in (whole, one_window)),
        strict=True,
    ):
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)


def test_global_on_a_smaller_map_reads_the_offsets_of_that_map():
    small, large = GlobalAttention(8, 2, (3, 4)), randomised(GlobalAttention(8, 2, (5, 7)))
    table = large.relative_position_bias_table.view(9, 13, 2)[2:7, 3:10].flatten(0, 1)
    small.load_state_dict(large.state_dict() | {'relative_position_bias_table': table})
    x = torch.randn(2, 3, 4, 8)
    torch.testing.assert_close(large(x), small(x))


def test_global_refuses_what_its_table_or_the_memory_cannot_hold():
    attention = GlobalAttention(4, 1, (7, 7))
    with pytest.raises(ValueError, match=r'window_size must cover the map .*got \(7, 7\) and 8x7 tokens: raise it'):
        attention(torch.zeros(1, 8, 7, 4))
    with pytest.raises(ValueError, match=f"at most {MOST_TOKENS} tokens with attention='global', got 129x128"):
        GlobalAttention(4, 1, (7, 7), relative_bias=False)(torch.zeros(1, 129, 128, 4))


def softmax_attention(attention, x):
    window = WindowAttention(x.shape[3], attention.num_heads, tuple(x.shape[1:3]), relative_bias=False)
    window.to(x.dtype).load_state_dict(attention.state_dict())
    return window(x)


def test_performer_comes_near_softmax_attention_with_many_features():
    """Its error falls with the root of their number."""
    torch.manual_seed(3)
    errors, x = {}, torch.randn(2, 5, 6, 16, dtype=torch.float64)
    weights = PerformerAttention(16, 2, (7, 7), relative_bias=False).double().state_dict()
    for features in (64, 1024, 16384):
        found = []
        for seed in range(6):
            attention = PerformerAttention(16, 2, (7, 7), relative_bias=False, features=features, seed=seed).double()
            attention.load_state_dict(weights)
            want = softmax_attention(attention, x)
            found.append((attention(x) - want).norm() / (want - want.mean((1, 2), keepdim=True)).norm())
        errors[features] = torch.stack(found).mean().item()
    assert errors[16384] < 0.1
    assert 2.5 < errors[64] / errors[1024] < 6.5  # 4, but for chance
    assert 2.5 < errors[1024] / errors[16384] < 6.5


def test_performer_needs_no_second_order_memory_and_survives_large_scores():
    attention = PerformerAttention(8, 1, (7, 7), relative_bias=False)
    torch.nn.init.normal_(attention.qkv.weight, std=20)
    x = torch.randn(1, 8, 8, 8, requires_grad=True)
    attention(x).sum().backward()
    assert attention(x).isfinite().all()
    assert all(p.grad.isfinite().all() for p in [x, *attention.parameters()])
    with torch.no_grad():
        assert attention(torch.randn(1, 512, 512, 8)).isfinite().all()  # scores would take 256 GiB


def test_the_directions_are_orthogonal_normal_and_follow_from_the_seed():
    directions = orthogonal_directions(4096, 8, 0)
    assert directions.shape == (4096, 8)
    products = directions[:8] @ directions[:8].T
    torch.testing.assert_close(products, products.diagonal().diag(), atol=1e-5, rtol=0)
    assert directions.mean(0).abs().max() < 0.05
    torch.testing.assert_close(directions.T @ directions / 4096, torch.eye(8), atol=0.1, rtol=0)
    assert torch.equal(directions, orthogonal_directions(4096, 8, 0))
    assert not torch.allclose(directions, orthogonal_directions(4096, 8, 1))
    first, second = (PerformerAttention(8, 1, (7, 7), relative_bias=False, seed=seed) for seed in (0, 1))
    assert list(first.state_dict()) == ['qkv.weight', 'qkv.bias', 'proj.weight', 'proj.bias']
    assert len(first.projection) == math.ceil(8 * math.log(8))
    second.load_state_dict(first.state_dict())
    x = torch.randn(1, 4, 4, 8)
    assert not torch.allclose(first(x), second(x))


@pytest.mark.parametrize('kind', KINDS)
def test_gradients_are_right(kind):
    torch.manual_seed(1)
    attention = randomised(KINDS[kind](4, 2, (3, 3), relative_bias=kind != 'performer').double())
    names, values = zip(*attention.named_parameters(), strict=True)
    x = torch.randn(1, 3, 2, 4, dtype=torch.float64, requires_grad=True)

    def run(x, *values):
        return torch.func.functional_call(attention, dict(zip(names, values, strict=True)), x)

    assert torch.autograd.gradcheck(run, (x, *values))


@pytest.mark.parametrize('kind', [kind for kind in KINDS if kind != 'performer'])
def test_a_table_of_zeros_is_no_table(kind):
    zeros, none = KINDS[kind](8, 2, (7, 7)), KINDS[kind](8, 2, (7, 7), relative_bias=False)
    assert none.relative_position_bias_table is None
    zeros.load_state_dict({'relative_position_bias_table': torch.zeros(169, 2)} | none.state_dict())
    x = torch.randn(1, 7, 6, 8)
    torch.testing.assert_close(zeros(x), none(x))


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize('kind', KINDS)
def test_autocast_comes_near_float32(kind, dtype):
    attention = KINDS[kind](16, 2, (7, 7), relative_bias=kind != 'performer')
    torch.nn.init.normal_(attention.qkv.weight, std=0.3)
    x = torch.randn(1, 7, 7, 16)
    with torch.autocast('cpu', dtype):
        got = attention(x)
    assert got.dtype == dtype
    want = attention(x)
    assert (got - want).abs().max() < 0.05 * want.abs().max()


@pytest.mark.parametrize('kind', ['sliding', 'global'])
def test_attention_weights_are_dropped_in_training_only(kind):
    attention, plain = KINDS[kind](8, 2, (7, 7), attn_drop=0.5), KINDS[kind](8, 2, (7, 7))
    plain.load_state_dict(attention.state_dict())
    x = torch.randn(1, 7, 7, 8)
    assert not torch.equal(attention.train()(x), attention(x))
    assert torch.equal(attention.eval()(x), plain(x))


@pytest.mark.parametrize(
    ('kind', 'arguments', 'words'),
    [
        ('sliding', dict(window=(8, 7)), r"window_size must be odd with attention='sliding', got \(8, 7\)"),
        ('sliding', dict(kernel='sdpa'), "kernel must be 'auto' with attention='sliding', got 'sdpa'"),
        ('performer', dict(relative_bias=False, kernel='triton'), "kernel must be 'auto' .*, got 'triton'"),
        ('performer', dict(), "position must be 'none' or 'absolute' with attention='performer'"),
        ('performer', dict(relative_bias=False, attn_drop=0.1), 'attn_drop_rate must be 0 .*, got 0.1'),
        ('performer', dict(relative_bias=False, features=0), 'features must be at least 1 .*, got 0'),
        ('global', dict(kernel='flash'), "kernel must be one of .*, got 'flash'"),
    ],
)
def test_what_a_kind_cannot_have_is_refused(kind, arguments, words):
    with pytest.raises(ValueError, match=words):
        KINDS[kind](8, 2, **{'window': (7, 7), **arguments})


@pytest.mark.parametrize('kind', [kind for kind in KINDS if kind != 'window'])
def test_a_backbone_of_another_kind(make_swin, kind):
    """It differs from windows, takes no fused form of them, and is the same with and without a gradient."""
    arguments = dict(attention=kind, position=POSITION.get(kind, 'relative'), window_size=17)
    net, windows = make_swin(**arguments).eval(), make_swin(window_size=17).eval()
    assert {type(block.attn) for stage in net.layers for block in stage.blocks} == {KINDS[kind]}
    windows.load_state_dict({**windows.state_dict(), **net.state_dict()})
    image = torch.randn(2, 3, 52, 67)
    with torch.no_grad():
        maps, others = net(image), windows(image)
    for got, again, other in zip(maps, net(image), others, strict=True):
        torch.testing.assert_close(got, again)
        assert (got - other).abs().max() > 1e-2
    row = net(image[1:])
    torch.testing.assert_close([m[1:] for m in maps], list(row), rtol=1e-4, atol=1e-4)


def test_a_trace_of_sliding_windows_is_refused():
    """It would give maps of the example's number of rows."""
    attention, x = SlidingAttention(8, 2, (3, 3)).eval(), torch.randn(1, 7, 5, 8)
    with pytest.raises(ValueError, match="attention='sliding' cuts the example's map"):
        torch.jit.trace(attention, x)
    torch.testing.assert_close(torch.export.export(attention, (x,)).module()(x), attention(x))


def test_arguments_of_a_kind_come_through_a_dict():
    net = SwinTransformer(
        **dict(embed_dims=8, depths=(1,), num_heads=(1,), out_indices=(0,), position='none'),
        attention=dict(type='performer', features=5, seed=2),
    )
    assert torch.equal(net.layers[0].blocks[0].attn.projection, orthogonal_directions(5, 8, 2))
