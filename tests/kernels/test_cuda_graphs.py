"""Which CUDA graph is taken, recorded and dropped, with a recorder that needs no GPU; and, on one, what they give."""

import pytest
import torch

from swin_mm.kernels.cuda_graphs import CUDAGraphs

LIMIT = 3


class Recorded:
    """In the place of a recording: notes its making, and computes."""

    made: list['Recorded']

    def __init__(self, forward, image, pool):
        self.forward, self.image, self.pool, self.given = forward, image, (0, len(self.made)), pool
        self.calls = 0
        self.made.append(self)

    def __call__(self, image):
        self.calls += 1
        return self.forward(image)


@pytest.fixture
def record():
    return type('Fresh', (Recorded,), dict(made=[]))


@pytest.fixture
def net(make_swin):
    return make_swin().eval()


@pytest.fixture
def graphs(net, record):
    return CUDAGraphs(net, LIMIT, record)


def image(side=32, batch=1, dtype=torch.float32):
    return torch.randn(batch, 3, side, 40, dtype=dtype)


@torch.no_grad()
def test_a_kind_of_image_is_recorded_once_and_gives_the_maps_of_the_backbone(graphs, net, record):
    for x in (image(), image(), image()):
        for got, want in zip(graphs(x), net(x), strict=True):
            assert torch.equal(got, want)
    assert [r.calls for r in record.made] == [3]


@torch.no_grad()
def test_shape_dtype_and_autocast_tell_kinds_apart(net, record):
    graphs = CUDAGraphs(net, 100, record)
    for _ in range(2):
        graphs(image())
        graphs(image(side=36))
        graphs(image(batch=2))
        for dtype in (torch.bfloat16, torch.float16):
            with torch.autocast('cpu', dtype):
                graphs(image())
        graphs(image().mT)
    assert [r.calls for r in record.made] == [2] * 6
    net.double()
    graphs(image(dtype=torch.float64))
    assert len(record.made) == 7


@torch.no_grad()
def test_the_graphs_used_last_are_kept(graphs, record):
    for side in (32, 36, 40, 32, 44, 32, 40, 36):  # 44 takes the place of 36, and 36 that of 44
        graphs(image(side))
    assert [r.image.shape[2] for r in record.made] == [32, 36, 40, 44, 36]
    graphs(image(32))
    assert len(record.made) == 5


@torch.no_grad()
def test_graphs_share_the_memory_of_one_that_is_still_there(graphs, record):
    for side in (32, 36, 40, 44, 48, 52):
        graphs(image(side))
    first, *others = record.made
    assert first.given is None
    for i, recording in enumerate(others):
        assert recording.given in [r.pool for r in record.made[max(0, i + 1 - LIMIT) : i + 1]]


@torch.no_grad()
@pytest.mark.parametrize('how', ['assign', 'to', 'module', 'buffer'])
def test_moved_weights_are_recorded_anew_and_changed_ones_are_not(graphs, net, record, make_swin, how):
    x = image()
    graphs(x)
    net.load_state_dict(make_swin(seed=1).state_dict())
    graphs(x)
    assert len(record.made) == 1
    kept = [p.detach() for p in net.parameters()]  # else the new ones may be put where these were
    if how == 'assign':
        net.load_state_dict(make_swin(seed=2).state_dict(), assign=True)
    elif how == 'to':
        net.to(torch.float64).to(torch.float32)
    elif how == 'module':
        net.norm0 = torch.nn.LayerNorm(8)
    else:
        attention = net.layers[0].blocks[0].attn
        attention.relative_position_index = attention.relative_position_index.clone()
    graphs(x)
    assert len(record.made) == 2, len(kept)
    assert record.made[1].given is None, 'the memory of the dropped graphs is not that of the new one'


def test_it_stands_in_for_the_forward_of_a_backbone_in_a_model(net, record):
    """The state dict keeps its names, which a module around the backbone would change."""
    names, x = list(net.state_dict()), image()
    with torch.no_grad():
        want = net(x)
        net.forward = CUDAGraphs(net, LIMIT, record)
        for got, expected in zip(net(x), want, strict=True):
            assert torch.equal(got, expected)
    assert list(net.state_dict()) == names
    assert len(record.made) == 1


def test_what_a_graph_cannot_do_is_refused(graphs, net, record):
    with pytest.raises(RuntimeError, match=r'no gradient: call them under torch\.no_grad'):
        graphs(image())
    with torch.no_grad():
        net.train()
        with pytest.raises(RuntimeError, match=r'for inference, .* in training mode: call \.eval\(\)'):
            graphs(image())
    assert record.made == []
    with pytest.raises(ValueError, match='limit must be at least 1 graph, got limit=0'):
        CUDAGraphs(net, 0)


@torch.inference_mode()
def test_an_image_on_the_cpu_is_refused(net):
    with pytest.raises(ValueError, match='image must be on a CUDA device to record a graph, got cpu'):
        CUDAGraphs(net)(image())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize('mode', [torch.no_grad, torch.inference_mode])
def test_graphs_give_the_maps_of_the_backbone(make_swin, dtype, mode):
    net = make_swin().cuda().eval()
    graphs = CUDAGraphs(net, limit=2)
    images = [torch.randn(batch, 3, *size, device='cuda') for batch in (1, 2) for size in ((64, 96), (70, 91))]
    with mode(), torch.autocast('cuda', dtype, enabled=dtype != torch.float32):
        for _ in range(2):
            kept = [graphs(x) for x in images]
            for got, x in zip(kept, images, strict=True):
                for a, b in zip(got, net(x), strict=True):
                    torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)
            for p in net.parameters():
                p.data.mul_(1.1)
