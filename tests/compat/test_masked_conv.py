import pytest
import torch
import torch.nn.functional as F
from mmcv.ops import MaskedConv2d

# mmcv calls addmm by a signature that PyTorch has deprecated.
pytestmark = pytest.mark.filterwarnings('ignore:This overload of addmm is deprecated:UserWarning')


@pytest.mark.parametrize('kernel', [(1, 1), (3, 3), (3, 5)])
@pytest.mark.parametrize('share', [0.0, 0.3, 1.0])
@torch.no_grad()
def test_a_convolution_where_the_mask_is_set_and_zero_elsewhere(device, kernel, share):
    conv = MaskedConv2d(3, 4, kernel, padding=(kernel[0] // 2, kernel[1] // 2)).to(device)
    x = torch.randn(1, 3, 7, 9, device=device)
    mask = torch.rand(1, 7, 9, device=device) < share
    expected = F.conv2d(x, conv.weight, conv.bias, padding=conv.padding) * mask[:, None]
    torch.testing.assert_close(conv(x, mask.float()), expected, atol=1e-5, rtol=1e-5)
