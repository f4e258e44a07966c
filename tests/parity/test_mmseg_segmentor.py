"""With equal weights, mmseg's UPerNet recipe gives the logits with our backbone that it gives with its own."""

import pytest
import torch
from equal_weights import build_pair, drop_in

pytest.importorskip('mmseg')

RECIPE = 'swin/swin-tiny-patch4-window7-in1k-pre_upernet_8xb2-160k_ade20k-512x512.py'


@torch.no_grad()
def test_logits_of_both_heads_are_equal(tmp_path):
    """Two whole Swin-T segmentors, the recipe as it is; 683 columns are padded to whole patches, the 171 of the first
    stage before merging, and all stages to whole windows.
    """
    ours, stock = build_pair('mmseg', *drop_in(tmp_path, 'mmseg', RECIPE))
    image = torch.randn(1, 3, 512, 683)
    logits = []
    for model in (ours.eval(), stock.eval()):
        maps = model.extract_feat(image)
        logits.append((model.decode_head(maps), model.auxiliary_head(maps)))
    for got, want, shape in zip(*logits, [(128, 171), (32, 43)], strict=True):
        assert got.shape == want.shape == (1, 150, *shape)
        error = ((got - want).abs().max() / want.std()).item()
        print(f'largest difference of a logit, in standard deviations, {error:.1e}')
        assert error < 1e-5
