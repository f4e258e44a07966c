"""The contract of the backbone where test_swin.py leaves off: inference takes another way than training.

Without gradient blocks run a strip at a time (``kernels/cpu_block.py``), with gradient layer by layer; each must keep
it.
"""

import gc
import os
import pickle
import tracemalloc
import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from swin_mm.kernels import cpu, grid

WAYS = {
    'training': lambda net: (net.train(), torch.enable_grad()),
    'evaluation': lambda net: (net.eval(), torch.enable_grad()),
    'inference': lambda net: (net.eval(), torch.no_grad()),
    'inference mode': lambda net: (net.eval(), torch.inference_mode()),
}
EXACT = dict(rtol=0, atol=0)


@pytest.fixture(params=WAYS)
def run(request, make_swin) -> Callable[..., tuple[Tensor, ...]]:
    """Sends an image through a small backbone in one of four ways."""

    def run(image: Tensor, **arguments) -> tuple[Tensor, ...]:
        net, gradient = WAYS[request.param](make_swin(drop_path_rate=0.0, **arguments).to(image.dtype))
        with gradient:
            return net(image)

    return run


def loss_of(maps) -> Tensor:
    return sum((m * torch.linspace(-1, 1, m.numel(), dtype=m.dtype).view(m.shape)).sum() for m in maps)


def with_gradients(net: nn.Module, image: Tensor) -> list[Tensor]:
    """Maps, and the gradients of the image and of every parameter that learns."""
    image = image.detach().requires_grad_()
    maps = net(image)
    wanted = [image, *(p for p in net.parameters() if p.requires_grad)]
    return [*maps, *torch.autograd.grad(loss_of(maps), wanted)]


def assert_equal(got, want, **tolerance) -> None:
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, **(tolerance or EXACT))


def test_a_row_of_a_batch_is_the_picture_alone(run):
    images = torch.randn(3, 3, 61, 70)
    rows = zip(*(run(image[None]) for image in images), strict=True)
    assert_equal(run(images), [torch.cat(maps) for maps in rows], rtol=1e-5, atol=2e-5)


def test_the_same_twice_to_the_bit(run):
    image = torch.randn(2, 3, 61, 70)
    assert_equal(run(image), run(image))


@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last], ids=str)
def test_the_image_is_not_changed(run, layout):
    image = torch.randn(2, 3, 64, 72).to(memory_format=layout)  # no padding, so nothing need be copied
    before = image.clone()
    run(image, use_abs_pos_embed=True, patch_norm=False)
    assert torch.equal(image, before)


def test_memory_format_of_the_image_does_not_matter(run):
    image = torch.randn(2, 3, 61, 70)
    assert_equal(run(image.to(memory_format=torch.channels_last)), run(image), rtol=1e-5, atol=1e-5)


def test_memory_format_of_the_weights_does_not_matter(make_swin):
    image = torch.randn(2, 3, 61, 70, dtype=torch.float64)
    plain, last = make_swin().double(), make_swin().double().to(memory_format=torch.channels_last)
    assert last.patch_embed.proj.weight.is_contiguous(memory_format=torch.channels_last)
    for train in (True, False):
        torch.manual_seed(1)
        want = with_gradients(plain.train(train), image)
        torch.manual_seed(1)
        assert_equal(with_gradients(last.train(train), image), want, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ('dtype', 'limit'), [(torch.bfloat16, 0.15), (torch.float16, 0.02), (torch.float64, 1e-5)], ids=str
)
def test_a_whole_model_of_another_type(run, dtype, limit):
    """``limit``: error in standard deviations of the map."""
    image = torch.randn(1, 3, 61, 70)
    for got, want in zip(run(image.to(dtype)), run(image), strict=True):
        assert got.dtype == dtype
        assert (got.float() - want).abs().max() < limit * want.std()


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16, torch.float64], ids=str)
def test_training_in_another_type_gives_finite_gradients(make_swin, dtype):
    net = make_swin(drop_rate=0.1, drop_path_rate=0.3).to(dtype).train()
    for gradient in with_gradients(net, torch.randn(2, 3, 61, 70, dtype=dtype)):
        assert gradient.dtype == dtype
        assert gradient.isfinite().all()


@pytest.mark.parametrize('value', [torch.nan, torch.inf, -torch.inf])
def test_one_bad_pixel_shows_in_every_map_and_leaves_the_next_picture_alone(run, value):
    images = torch.randn(2, 3, 61, 70)
    clean = run(images)
    images[0, 1, 30, 40] = value
    for bad, good in zip(run(images), clean, strict=True):
        assert not bad[0].isfinite().all()
        assert torch.equal(bad[1], good[1])


@pytest.mark.parametrize('rate', [0.0, 0.4])
def test_checkpointing_changes_neither_maps_nor_gradients(make_swin, rate):
    """To the bit; with drops too, which the backward pass must draw as the forward pass did."""
    image, results = torch.randn(3, 3, 61, 70), []
    for with_cp in (False, True):
        net = make_swin(with_cp=with_cp, drop_rate=rate, attn_drop_rate=rate, drop_path_rate=rate).train()
        torch.manual_seed(1)
        results.append(with_gradients(net, image))
    assert_equal(*results)


def test_two_backward_passes_give_the_same_gradients_to_the_bit(make_swin):
    net, image = make_swin(drop_path_rate=0.0).train(), torch.randn(2, 3, 61, 70)
    assert_equal(with_gradients(net, image), with_gradients(net, image))


def test_a_pickled_module_is_the_same_and_independent(make_swin):
    """After inference too, for which weights are packed."""
    net, image = make_swin(frozen_stages=1).eval(), torch.randn(1, 3, 61, 70)
    with torch.no_grad():
        want = net(image)
        twin = pickle.loads(pickle.dumps(net))
        assert_equal(twin(image), want)
        twin.layers[3].blocks[0].mlp.fc1.weight.zero_()
        assert not torch.equal(twin(image)[3], want[3])
        assert_equal(net(image), want)
    assert {n for n, p in twin.named_parameters() if p.requires_grad} == {
        n for n, p in net.named_parameters() if p.requires_grad
    }
    assert twin.train() is twin
    assert not twin.layers[0].training


def test_a_trace_of_a_training_serves_another_batch(make_swin):
    net = make_swin(depths=(1, 1, 1, 1), out_indices=(0, 1), drop_path_rate=0.3).train()
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        traced = torch.jit.trace(net, torch.randn(2, 3, 60, 70), check_trace=False)
    assert [len(m) for m in traced(torch.randn(5, 3, 60, 70))] == [5, 5]


@pytest.mark.slow
@pytest.mark.parametrize('train', [True, False], ids=['training', 'inference'])
def test_memory_is_flat_over_200_steps_at_changing_sizes(make_swin, train):
    """Tensors, memory of Python and memory of the process; the first 100 steps fill what is kept for known sizes."""
    net = make_swin(drop_path_rate=0.1).train(train)
    optimizer = torch.optim.AdamW(net.parameters())
    random = torch.Generator().manual_seed(0)

    def steps(count: int) -> tuple[int, int, int]:
        for _ in range(count):
            image = torch.randn(2, 3, *torch.randint(20, 160, (2,), generator=random).tolist())
            with torch.set_grad_enabled(train):
                maps = net(image)
            if train:
                optimizer.zero_grad()
                loss_of(maps).backward()
                optimizer.step()
        del maps, image
        gc.collect()
        tensors = sum(issubclass(type(x), Tensor) for x in gc.get_objects())
        with open('/proc/self/statm') as file:
            resident = int(file.read().split()[1]) * os.sysconf('SC_PAGE_SIZE')
        return tensors, tracemalloc.get_traced_memory()[0], resident

    tracemalloc.start()
    try:
        before, after = steps(100), steps(200)
    finally:
        tracemalloc.stop()
    tensors, python, resident = (b - a for a, b in zip(before, after, strict=True))
    print(f'{tensors=} {python=} {resident=}')
    caches = grid._strips, cpu._rows
    assert all(cache.cache_info().currsize <= cache.cache_info().maxsize for cache in caches)
    assert abs(tensors) < 100, 'kept layouts differ in number from size to size, nothing else does'
    assert python < 2**18
    assert resident < 16 * 2**20
