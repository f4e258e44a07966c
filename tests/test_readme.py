"""What the README shows must work as it stands there."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import DATASETS, MODELS, init_default_scope

ROOT = Path(__file__).parents[1]
README = (ROOT / 'README.md').read_text()


def block(heading: str) -> str:
    """The first python block below ``heading``."""
    return re.search(rf'## {heading}\n.*?```python\n(.*?)```', README, re.DOTALL)[1]


def test_the_ten_lines_for_own_data_build_the_data_sets_and_the_heads(tmp_path):
    lines = block('Your own data')
    (tmp_path / 'cats.py').write_text(
        lines.replace("'configs/", f"'{ROOT}/configs/").replace("'data/", f"'{tmp_path}/")
    )
    for split in ('train', 'val'):
        annotation = dict(id=1, image_id=1, category_id=2, bbox=[5, 5, 50, 50], area=2500, iscrowd=0)
        annotation['segmentation'] = [[5, 5, 55, 5, 55, 55, 5, 55]]
        categories = [dict(id=1, name='cat'), dict(id=2, name='kitten')]
        images = [dict(id=1, file_name='a.jpg', height=100, width=100)]
        (tmp_path / 'cats').mkdir(exist_ok=True)
        content = dict(images=images, annotations=[annotation], categories=categories)
        (tmp_path / 'cats' / f'{split}.json').write_text(json.dumps(content))

    cfg = Config.fromfile(tmp_path / 'cats.py')
    assert len(lines.strip().splitlines()) == 10
    init_default_scope('mmdet')
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        dataset = DATASETS.build(loader.dataset)
        assert dataset.metainfo['classes'] == ('cat', 'kitten')
        assert dataset.get_data_info(0)['instances'][0]['bbox_label'] == 1
    heads = cfg.model.roi_head
    assert (heads.bbox_head.num_classes, heads.mask_head.num_classes) == (2, 2)
    assert cfg.val_evaluator.ann_file == cfg.test_evaluator.ann_file == f'{tmp_path}/cats/val.json'


def test_the_lines_for_bands_build_pipelines_and_a_first_convolution_of_four_channels(tmp_path):
    (tmp_path / 'bands.py').write_text(block('Images of other than three channels'))
    cfg = Config.fromfile(tmp_path / 'bands.py')
    init_default_scope('mmdet')
    np.save(tmp_path / 'image.npy', np.full((40, 60, 8), 5000, np.uint16))
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        steps = loader.dataset.pipeline
        image = Compose(steps[:1])(dict(img_path=str(tmp_path / 'image.npy')))['img']
        assert image.shape == (40, 60, 4)
        assert (image == 127.5).all()
        assert len(steps) > 3
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
    assert model.backbone.patch_embed.proj.in_channels == 4
    assert len(model.data_preprocessor.mean) == len(model.data_preprocessor.std) == 4


def test_the_line_for_the_heads_of_a_cascade_changes_each_of_them(tmp_path):
    line = re.search(r'`(bbox_head=\[.*?\])`', README)[1]
    base = ROOT / 'configs/cascade_mask_rcnn_swin_t.py'
    (tmp_path / 'cats.py').write_text(f"_base_ = '{base}'\nmodel = dict(roi_head=dict({line}))\n")
    heads, official = (Config.fromfile(path).model.roi_head.bbox_head for path in (tmp_path / 'cats.py', base))
    assert heads == [dict(head, num_classes=2) for head in official]


@pytest.mark.parametrize('path', sorted(set(re.findall(r'\b(?:configs|tools|demo|tests|docs)/[\w/.-]+\.\w+', README))))
def test_every_file_that_it_names_is_there(path):
    assert (ROOT / path).is_file()
