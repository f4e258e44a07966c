# Pascal VOC 2012 with 21 classes, background among them, as in mmseg's pascal_voc12.py: its own 1464 training images,
# without the additional ones of SBD. 255 in a label file, the outline of an object, is ignored.
_base_ = './ade20k.py'

dataset_type = 'PascalVOCDataset'
data_root = 'data/VOCdevkit/VOC2012/'

load_labels = dict(type='swin_mm.LoadLabels', num_classes=21)
train_pipeline = [_base_.train_pipeline[0], load_labels, *_base_.train_pipeline[2:]]
test_pipeline = [*_base_.test_pipeline[:2], load_labels, _base_.test_pipeline[3]]
tta_pipeline = [
    _base_.tta_pipeline[0],
    dict(
        type='TestTimeAug',
        transforms=[*_base_.tta_pipeline[1].transforms[:2], [load_labels], [dict(type='PackSegInputs')]],
    ),
]

folders = dict(img_path='JPEGImages', seg_map_path='SegmentationClass')
train_dataloader = dict(
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        data_prefix=folders,
        ann_file='ImageSets/Segmentation/train.txt',
        pipeline=train_pipeline,
    )
)
val_dataloader = dict(
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        data_prefix=folders,
        ann_file='ImageSets/Segmentation/val.txt',
        pipeline=test_pipeline,
    )
)
test_dataloader = val_dataloader
