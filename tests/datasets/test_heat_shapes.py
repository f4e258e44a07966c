"""The embedded data set with a fourth band: RGB is that of the plain set, and heat alone tells the classes apart."""

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from swin_mm.datasets.shapes import heat
from swin_mm.datasets.shapes import write as shapes


@pytest.fixture(scope='module')
def hot_root(tmp_path_factory):
    return shapes.write_shapes(tmp_path_factory.mktemp('data') / 'heat', train=40, val=4, heat=True)


def image_and_masks(root, coco, image_id):
    """Bands on the scale of 0 to 255, and (class, mask, ring around it) of each instance that is no crowd."""
    bands = np.load(root / 'train' / coco.imgs[image_id]['file_name'], allow_pickle=False)
    assert (bands.dtype, bands.shape[2]) == (np.uint16, 4)
    assert bands.max() <= heat.HIGHEST
    found = []
    everything = np.max([coco.annToMask(a) for a in coco.loadAnns(coco.getAnnIds([image_id]))], axis=0)
    for annotation in coco.loadAnns(coco.getAnnIds([image_id], iscrowd=False)):
        mask = coco.annToMask(annotation)
        ring = cv2.dilate(mask, np.ones((9, 9))) * (1 - everything)
        found.append((annotation['category_id'] - 1, mask > 0, ring > 0))
    return bands * (255 / heat.HIGHEST), found


def test_its_shapes_and_colours_are_those_of_the_plain_set(hot_root, root):
    plain, hot = (COCO(str(base / 'annotations/instances_train.json')) for base in (root, hot_root))
    for image_id in range(1, 41):
        mine, theirs = (coco.loadAnns(coco.getAnnIds([image_id])) for coco in (hot, plain))
        assert [a['segmentation'] for a in mine] == [a['segmentation'] for a in theirs]
        bands, _ = image_and_masks(hot_root, hot, image_id)
        jpeg = np.asarray(Image.open(root / 'train' / plain.imgs[image_id]['file_name']), float)
        assert np.abs(bands[..., :3] - jpeg).mean() < 12


def test_heat_tells_the_classes_apart_and_colours_do_not(hot_root):
    coco = COCO(str(hot_root / 'annotations/instances_train.json'))
    assert [c['name'] for c in coco.cats.values()] == ['cold', 'hot']
    labels, rises, colours = [], [], []
    for image_id in coco.imgs:
        bands, found = image_and_masks(hot_root, coco, image_id)
        for label, mask, ring in found:
            labels.append(label)
            rises.append(bands[mask, 3].mean() - bands[ring, 3].mean())
            colours.append(bands[mask, :3].mean(axis=0))
    labels, rises = np.array(labels), np.array(rises)
    assert 0.35 < labels.mean() < 0.65
    assert rises[labels == 0].max() + 30 < rises[labels == 1].min()
    gap = np.subtract(*(np.mean(np.array(colours)[labels == i], axis=0) for i in (0, 1)))
    assert np.abs(gap).max() < 2.5 * np.std(colours) * 2 / len(labels) ** 0.5


def test_it_is_another_set_than_the_plain_one(hot_root, root, counts, capsys):
    with pytest.raises(FileExistsError, match=r'"heat": true\}, got '):
        shapes.write_shapes(root, **counts, heat=True)
    with pytest.raises(FileExistsError, match='remove that folder'):
        shapes.write_shapes(hot_root, train=40, val=4)
    shapes.main([str(hot_root), '--train', '40', '--val', '4', '--heat'])
    assert 'kept, it was there' in capsys.readouterr().out


def test_mmdet_reads_it_and_writes_it_on_first_use(tmp_path, monkeypatch):
    pytest.importorskip('mmdet')
    from mmengine.config import Config
    from mmengine.registry import DATASETS, init_default_scope

    import swin_mm.datasets.shapes.detection as detection

    written = {}

    def write(root, **options):
        written.update(options)
        return shapes.write_shapes(root, **options | dict(train=3, val=1))

    monkeypatch.setattr(detection, 'write_shapes', write)
    for name, channels in (('heat', 4), ('heat_rgb', 3)):
        cfg = Config.fromfile(f'configs/mask_rcnn_swin_pico_{name}.py')
        init_default_scope('mmdet')
        dataset = DATASETS.build(cfg.train_dataloader.dataset | dict(data_root=str(tmp_path / 'heat')))
        assert written == dict(train=300, heat=True)
        assert dataset.metainfo['classes'] == heat.CLASSES
        inputs = dataset[1]['inputs']
        bands = np.load(tmp_path / 'heat/train/000002.npy')[..., :channels].transpose(2, 0, 1) / heat.HIGHEST * 255
        assert any(np.allclose(inputs, view, atol=1e-3) for view in (bands, bands[..., ::-1]))  # flipped or not
        assert cfg.model.backbone.in_channels == channels == len(cfg.model.data_preprocessor.mean)
