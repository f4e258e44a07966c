"""Recorded graphs of the backbone: right at other sizes than the example's, or a refusal; never wrong in silence."""

import operator
import warnings

import pytest
import torch
from torch import nn

from swin_mm import SwinTransformer, SwinTransformerV2

SIZES = [(30, 31), (65, 97), (512, 512), (1, 1)]
DYNAMIC = {'image': {2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}}


@pytest.fixture(scope='module', params=[SwinTransformer, SwinTransformerV2])
def net(request, make_swin) -> nn.Module:
    return make_swin(network=request.param, depths=(2, 1, 1, 2)).eval()


def assert_right(run, net: nn.Module, sizes=SIZES) -> None:
    for size in sizes:
        image = torch.randn(1, 3, *size)
        with torch.no_grad():
            for got, want in zip(run(image), net(image), strict=True):
                torch.testing.assert_close(torch.as_tensor(got), want, rtol=1e-4, atol=1e-4)


def trace(net: nn.Module, size: tuple[int, int]):
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter('ignore')  # of torch.jit.trace: it is deprecated, and cannot know what depends on sizes
        return torch.jit.trace(net, torch.randn(1, 3, *size), check_trace=False)


@pytest.mark.parametrize('kernel', ['auto', 'reference'])
@pytest.mark.parametrize('size', [(30, 31), (224, 256)], ids=str)
@pytest.mark.parametrize('network', [SwinTransformer, SwinTransformerV2])
def test_a_trace_is_right_at_other_sizes(make_swin, network, kernel, size):
    """OpenMMLab's class returns maps of a wrong size there, without an error."""
    net = make_swin(network=network, kernel=kernel, use_abs_pos_embed=True).eval()
    assert_right(trace(net, size), net)


def test_a_trace_of_the_kernel_of_one_size_is_refused(make_swin):
    with pytest.raises(ValueError, match=r"kernel='cpu' .* a trace would keep them: use 'auto'"):
        trace(make_swin(kernel='cpu').eval(), (60, 70))


@pytest.mark.parametrize('shape', [(1, 3, 90, 70), (1, 3, 60, 100), (2, 3, 60, 70)], ids=str)
def test_a_program_of_one_size_refuses_others(net, shape):
    program = torch.export.export(net, (torch.randn(1, 3, 60, 70),)).module()
    assert_right(program, net, [(60, 70)])
    with pytest.raises((AssertionError, RuntimeError), match=r'Guard failed|shape'):
        program(torch.randn(shape))


@pytest.fixture(scope='module', params=[SwinTransformer, SwinTransformerV2])
def two_stages(request, make_swin) -> nn.Module:
    return make_swin(network=request.param, depths=(2, 1, 1, 1), out_indices=(0, 1)).eval()


@pytest.fixture(scope='module')
def program(two_stages) -> torch.export.ExportedProgram:
    """Exported for images of any size."""
    return torch.export.export(two_stages, (torch.randn(1, 3, 512, 480),), dynamic_shapes=DYNAMIC)


def test_a_program_of_any_size_is_right_or_refuses(two_stages, program):
    """It refuses an image that has a map one window wide, since its example had none."""
    assert_right(program.module(), two_stages, [(512, 480), (427, 640), (300, 301)])
    with pytest.raises(AssertionError, match='Guard failed'):
        program.module()(torch.randn(1, 3, 30, 31))


def test_a_program_divides_no_negative_size(program):
    """ONNX and OpenVINO round such a quotient towards zero, PyTorch downwards."""
    nodes = [node for node in program.graph.nodes if node.target in (operator.floordiv, operator.mod)]
    sizes = [arg.meta['val'] for node in nodes for arg in node.args if isinstance(arg, torch.fx.Node)]
    assert sizes
    assert all(bool(size >= 0) for size in sizes)


@pytest.mark.slow
@pytest.mark.parametrize('size', [(30, 31), (224, 256)], ids=str)
def test_an_onnx_file_is_right_at_other_sizes(net, tmp_path, size):
    """The file has none of the guards of the program that it is made of."""
    pytest.importorskip('onnxscript')
    runtime = pytest.importorskip('onnxruntime')
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        torch.onnx.export(
            net, (torch.randn(1, 3, *size),), tmp_path / 'a.onnx', dynamo=True, dynamic_shapes=DYNAMIC, verbose=False
        )
    session = runtime.InferenceSession(tmp_path / 'a.onnx', providers=['CPUExecutionProvider'])
    assert_right(lambda image: session.run(None, {'image': image.numpy()}), net)


@pytest.mark.slow
def test_an_openvino_model_is_right_at_other_sizes(net):
    openvino = pytest.importorskip('openvino')
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        model = openvino.convert_model(net, example_input=torch.randn(1, 3, 224, 256))
    compiled = openvino.compile_model(model, 'CPU', {'INFERENCE_PRECISION_HINT': 'f32'})
    assert_right(lambda image: [y.copy() for y in compiled(image.numpy()).values()], net)
