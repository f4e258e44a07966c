"""Patch embedding, patch merging, drop path, MLP, block and stage; by index arithmetic and against torchvision."""

import dataclasses
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models import swin_transformer as torchvision_swin

from swin_mm.backbone.attention.window import WindowAttention
from swin_mm.backbone.layers import MLP, BlockOptions, DropPath, PatchEmbed, PatchMerging, Stage, SwinBlock

OPTIONS = BlockOptions()


def randomize(module: nn.Module) -> nn.Module:
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    return module


def assert_same(ours, theirs, x, names=None):
    """Equal values, and equal gradients for the input and for every parameter; ``names`` maps ours to theirs."""
    ramp, results = None, []
    mine = dict(ours.named_parameters())
    other = dict(theirs.named_parameters())
    for module, wrt in ((ours, list(mine.values())), (theirs, [other[names(k) if names else k] for k in mine])):
        y = module(x)
        ramp = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)
        results.append([y, *torch.autograd.grad((y * ramp).sum(), [x, *wrt])])
    assert len(mine) == len(other)
    for got, want in zip(*results, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-10)


class TestPatchMerging:
    @pytest.mark.parametrize('size', [(4, 6), (5, 7), (1, 1), (2, 3), (1, 8)])
    def test_order_of_the_four_tokens(self, size):
        """Official order: (0, 0), (1, 0), (0, 1), (1, 1) of (row, column); what is missing at an odd side is zero."""
        (H, W), C = size, 3
        merging = PatchMerging(C, lambda dim: nn.Identity())
        merging.reduction = nn.Identity()
        x = torch.randn(2, H, W, C)
        out = merging(x)
        assert out.shape == (2, math.ceil(H / 2), math.ceil(W / 2), 4 * C)
        for i in range(out.shape[1]):
            for j in range(out.shape[2]):
                for k, (row, column) in enumerate([(0, 0), (1, 0), (0, 1), (1, 1)]):
                    y, z = 2 * i + row, 2 * j + column
                    want = x[:, y, z] if y < H and z < W else torch.zeros(2, C)
                    assert torch.equal(out[:, i, j, k * C : (k + 1) * C], want)

    @pytest.mark.parametrize('size', [(4, 6), (5, 7), (1, 1)])
    def test_equals_torchvision(self, size):
        """Odd sides too: zeros come before the norm."""
        ours = randomize(PatchMerging(4, nn.LayerNorm)).double()
        theirs = torchvision_swin.PatchMerging(4).double()
        theirs.load_state_dict(ours.state_dict())
        assert_same(ours, theirs, torch.randn(2, *size, 4, dtype=torch.float64, requires_grad=True))

    def test_norm_sees_zeros_at_an_odd_side(self):
        """Three of the four tokens of the only corner are missing: their zeros count in mean and variance."""
        merging = PatchMerging(2, nn.LayerNorm)
        x = torch.tensor([3.0, 5.0])
        want = merging.reduction(F.layer_norm(torch.cat([x, torch.zeros(6)]), (8,)))
        torch.testing.assert_close(merging(x.view(1, 1, 1, 2)).flatten(), want)


class TestPatchEmbed:
    @pytest.mark.parametrize('patch', [(4, 4), (2, 4)])
    @pytest.mark.parametrize('size', [(8, 12), (9, 15), (1, 1), (7, 2)])
    def test_each_token_is_a_linear_map_of_its_patch(self, size, patch):
        embed = randomize(PatchEmbed(3, 5, patch, None)).double()
        image = torch.randn(2, 3, *size, dtype=torch.float64)
        out = embed(image)
        rows, columns = math.ceil(size[0] / patch[0]), math.ceil(size[1] / patch[1])
        assert out.shape == (2, rows, columns, 5)
        canvas = torch.zeros(2, 3, rows * patch[0], columns * patch[1], dtype=torch.float64)
        canvas[:, :, : size[0], : size[1]] = image
        weight = embed.proj.weight.flatten(1)
        for i in range(rows):
            for j in range(columns):
                y, x = i * patch[0], j * patch[1]
                pixels = canvas[:, :, y : y + patch[0], x : x + patch[1]].flatten(1)
                torch.testing.assert_close(out[:, i, j], pixels @ weight.T + embed.proj.bias)

    def test_norm_comes_last_and_is_optional(self):
        image = torch.randn(1, 3, 8, 8)
        with_norm, without = PatchEmbed(3, 6, (4, 4), nn.LayerNorm), PatchEmbed(3, 6, (4, 4), None)
        without.load_state_dict(with_norm.state_dict(), strict=False)
        torch.testing.assert_close(with_norm(image), F.layer_norm(without(image), (6,)))
        assert sorted(without.state_dict()) == ['proj.bias', 'proj.weight']


class TestDropPath:
    def test_keeps_or_drops_whole_samples(self):
        x = torch.randn(200, 3, 4, 5)
        out = DropPath(0.25).train()(x)
        kept = out.flatten(1).any(dim=1)
        assert torch.equal(out[~kept], torch.zeros_like(out[~kept]))
        torch.testing.assert_close(out[kept], x[kept] / 0.75)
        assert 0 < kept.sum() < 200

    @pytest.mark.parametrize('rate', [0.1, 0.5, 0.9])
    def test_expectation_is_the_input(self, rate):
        samples = 40_000
        out = DropPath(rate).train()(torch.ones(samples, 1, 1, 1))
        sigma = math.sqrt(rate / (1 - rate) / samples)
        assert abs(out.mean() - 1) < 5 * sigma
        assert abs((out == 0).float().mean() - rate) < 5 * math.sqrt(rate * (1 - rate) / samples)

    def test_does_nothing_in_evaluation_and_at_rate_zero(self):
        x = torch.randn(8, 2)
        assert DropPath(0.9).eval()(x) is x
        assert DropPath(0.0).train()(x) is x

    def test_repr_tells_the_rate(self):
        assert repr(DropPath(0.125)) == 'DropPath(rate=0.125)'

    @pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16, torch.float64])
    def test_keeps_the_dtype(self, dtype):
        assert DropPath(0.5).train()(torch.ones(4, 2, dtype=dtype)).dtype == dtype


class TestMLP:
    def test_two_linear_layers_around_the_activation(self):
        mlp = randomize(MLP(4, 10, nn.GELU, 0.0))
        x = torch.randn(2, 3, 3, 4)
        torch.testing.assert_close(mlp(x), mlp.fc2(F.gelu(mlp.fc1(x))))
        assert mlp.fc1.out_features == 10
        relu = randomize(MLP(4, 10, nn.ReLU, 0.0))
        torch.testing.assert_close(relu(x), relu.fc2(F.relu(relu.fc1(x))))

    def test_drops_hidden_and_output_in_training(self):
        mlp = MLP(50, 50, nn.Identity, 0.5)
        for layer in (mlp.fc1, mlp.fc2):
            nn.init.eye_(layer.weight)
            nn.init.zeros_(layer.bias)
        out = mlp.train()(torch.ones(400, 50))
        # Each of two layers keeps half and doubles it: a quarter is left, four times as large.
        assert set(out.unique().tolist()) == {0.0, 4.0}
        assert 0.23 < (out > 0).float().mean() < 0.27
        assert torch.equal(mlp.eval()(torch.ones(4, 50)), torch.ones(4, 50))


def torchvision_name(name: str) -> str:
    return name.replace('mlp.fc1', 'mlp.0').replace('mlp.fc2', 'mlp.3')


class TestSwinBlock:
    @pytest.mark.parametrize('shift', [(0, 0), (3, 3)], ids=str)
    @pytest.mark.parametrize('size', [(14, 14), (15, 8), (21, 28)])
    def test_equals_torchvision(self, size, shift):
        """Two windows a side and more: torchvision cancels the shift of smaller maps, the official detectors do not."""
        ours = randomize(SwinBlock(8, 2, shift, 0.0, OPTIONS)).double()
        theirs = torchvision_swin.SwinTransformerBlock(8, 2, [7, 7], list(shift)).double()
        state = {torchvision_name(k): v for k, v in ours.state_dict().items()}
        assert theirs.load_state_dict(state, strict=False).missing_keys == ['attn.relative_position_index']
        x = torch.randn(2, *size, 8, dtype=torch.float64, requires_grad=True)
        assert_same(ours, theirs, x, torchvision_name)

    def test_drop_path_leaves_the_input(self):
        block = SwinBlock(8, 2, (0, 0), 0.999999, OPTIONS).train()
        x = torch.randn(2, 7, 7, 8)
        assert torch.equal(block(x), x)
        assert not torch.equal(block.eval()(x), x)

    @pytest.mark.parametrize(('ratio', 'hidden'), [(4.0, 32), (4, 32), (3.5, 28), (2.6, 20)])
    def test_hidden_width_is_rounded_down(self, ratio, hidden):
        options = dataclasses.replace(OPTIONS, mlp_ratio=ratio)
        assert SwinBlock(8, 2, (0, 0), 0.0, options).mlp.fc1.out_features == hidden


class TestStage:
    def test_every_second_block_is_shifted_by_half_a_window(self):
        options = dataclasses.replace(OPTIONS, window=(7, 12))
        shifts = [block.attn.shift for block in Stage(8, 2, [0.0] * 5, True, options).blocks]
        assert shifts == [(0, 0), (3, 6), (0, 0), (3, 6), (0, 0)]

    def test_each_block_has_its_rate(self):
        stage = Stage(8, 2, [0.0, 0.1, 0.2], False, OPTIONS)
        assert [block.drop_path.rate for block in stage.blocks] == [0.0, 0.1, 0.2]

    def test_returns_tokens_before_and_after_merging(self):
        x = torch.randn(2, 9, 8, 8)
        merging, last = Stage(8, 2, [0.0, 0.0], True, OPTIONS), Stage(8, 2, [0.0, 0.0], False, OPTIONS)
        tokens, merged = merging(x)
        assert torch.equal(tokens, merging.blocks[1](merging.blocks[0](x)))
        assert torch.equal(merged, merging.downsample(tokens))
        assert merged.shape == (2, 5, 4, 16)
        assert last(x)[1] is None
        assert not [name for name in last.state_dict() if 'downsample' in name]

    @pytest.mark.parametrize('rate', [0.0, 0.5])
    def test_checkpointing_changes_no_number(self, rate):
        """Not even with random drops: the backward pass repeats the forward pass's draw."""
        results = []
        for with_cp in (False, True):
            torch.manual_seed(1)
            options = dataclasses.replace(OPTIONS, drop_rate=rate, attn_drop_rate=rate)
            stage = Stage(8, 2, [rate, rate], True, options, with_cp).train()
            x = torch.randn(2, 9, 8, 8, requires_grad=True)
            y = stage(x)[1]
            results.append([y, *torch.autograd.grad(y.square().sum(), [x, *stage.parameters()])])
        for a, b in zip(*results, strict=True):
            assert torch.equal(a, b)

    def test_checkpointing_saves_memory(self):
        """Bytes that autograd keeps between the passes."""

        def kept(with_cp: bool) -> int:
            stage, sizes = Stage(8, 2, [0.0] * 4, False, OPTIONS, with_cp), {}

            def pack(x):
                sizes[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
                return x

            with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
                y = stage(torch.randn(1, 28, 28, 8))[0]
            own = {p.untyped_storage().data_ptr() for p in stage.parameters()}
            assert y.requires_grad
            return sum(size for pointer, size in sizes.items() if pointer not in own)

        assert kept(True) < 0.2 * kept(False)


def two_lines(block: SwinBlock, x: torch.Tensor) -> torch.Tensor:
    """Equation 3 of the paper, layer by layer."""
    x = x + block.drop_path(block.attn(block.norm1(x)))
    return x + block.drop_path(block.mlp(block.norm2(x)))


@pytest.mark.parametrize('rate', [0.0, 0.4])
@pytest.mark.parametrize('train', [True, False], ids=['training', 'evaluation'])
@pytest.mark.parametrize('kernel', ['auto', 'sdpa', 'reference'])
def test_a_block_is_the_papers_two_lines_in_value_and_gradient(kernel, train, rate):
    """Also with dropout everywhere, which the fast form must draw in the order of the layers."""
    drops = dict(drop_rate=rate, attn_drop_rate=rate)
    block = randomize(SwinBlock(8, 2, (3, 3), rate, BlockOptions(kernel=kernel, **drops))).double().train(train)
    results = []
    for function in (block, lambda x: two_lines(block, x)):
        torch.manual_seed(1)
        x = torch.randn(4, 9, 12, 8, dtype=torch.float64, requires_grad=True)
        y = function(x)
        ramp = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)
        results.append([y, *torch.autograd.grad((y * ramp).sum(), [x, *block.parameters()])])
    for got, want in zip(*results, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize('name', ['norm1', 'attn', 'attn.qkv', 'attn.proj_drop', 'drop_path', 'mlp', 'mlp.act'])
@pytest.mark.parametrize('grad', [True, False], ids=['gradient', 'inference'])
@pytest.mark.parametrize('backward', [True, False], ids=['backward', 'forward'])
def test_a_hook_on_any_part_of_a_block_is_called(name, grad, backward):
    block, x = SwinBlock(8, 2, (0, 0), 0.0, OPTIONS).eval(), torch.randn(1, 7, 7, 8, requires_grad=grad)
    calls, module = [], block.get_submodule(name)
    if backward:
        module.register_full_backward_hook(lambda *_: calls.append(name))
    else:
        module.register_forward_hook(lambda *_: calls.append(name))
    with torch.set_grad_enabled(grad):
        y = block(x)
    if grad:
        y.sum().backward()
    expected = 0 if backward and not grad else 2 if name == 'drop_path' else 1
    assert calls == [name] * expected


def test_named_reference_takes_the_two_lines(monkeypatch):
    monkeypatch.setattr(WindowAttention, 'forward', lambda *_: pytest.fail('called'))
    x = torch.randn(1, 7, 7, 8)
    SwinBlock(8, 2, (0, 0), 0.0, BlockOptions(kernel='sdpa'))(x)
    with pytest.raises(pytest.fail.Exception, match='called'):
        SwinBlock(8, 2, (0, 0), 0.0, BlockOptions(kernel='reference'))(x)


class OtherAttention(WindowAttention):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(x)


class OtherMLP(MLP):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) - 1


OTHERS = {
    'attention': lambda block: setattr(block, 'attn', OtherAttention(8, 2, (7, 7))),
    'mlp': lambda block: setattr(block, 'mlp', OtherMLP(8, 32, nn.GELU, 0.0)),
    'no attention': lambda block: setattr(block, 'attn', nn.Identity()),
    'no mlp': lambda block: setattr(block, 'mlp', nn.Identity()),
    'no drop path': lambda block: setattr(block, 'drop_path', nn.Identity()),
    'patched': lambda block: setattr(block.mlp, 'forward', lambda x: x * 3),
    'patched leaf': lambda block: setattr(block.mlp.fc1, 'forward', lambda x: x.repeat(1, 1, 1, 4)),
}


@pytest.mark.parametrize('replace', OTHERS.values(), ids=OTHERS)
@pytest.mark.parametrize('grad', [True, False], ids=['gradient', 'inference'])
def test_what_replaces_a_part_of_a_block_is_what_runs(replace, grad):
    block, x = SwinBlock(8, 2, (0, 0), 0.0, OPTIONS).eval(), torch.randn(1, 7, 7, 8)
    replace(block)
    with torch.set_grad_enabled(grad):
        torch.testing.assert_close(block(x), two_lines(block, x))


@torch.no_grad()
def test_dropout_alone_may_be_on_to_sample_predictions():
    block, x = SwinBlock(8, 2, (0, 0), 0.0, BlockOptions(drop_rate=0.5)).eval(), torch.randn(1, 7, 7, 8)
    assert torch.equal(block(x), block(x))
    block.mlp.drop.train()
    assert not torch.equal(block(x), block(x))
