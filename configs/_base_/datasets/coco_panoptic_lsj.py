# COCO 2017 panoptic segmentation with the augmentation of coco_instance_lsj.py, as in mmdet's Mask2Former recipes.
# Reading and scoring its files needs a package: pip install git+https://github.com/cocodataset/panopticapi.git
_base_ = './coco_instance_lsj.py'

dataset_type = 'CocoPanopticDataset'
data_root = 'data/coco/'

train_pipeline = [
    dict(type='swin_mm.LoadImage', to_float32=True),
    dict(type='LoadPanopticAnnotations', with_bbox=True, with_mask=True, with_seg=True),
    *_base_.jitter,
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    _base_.test_pipeline[1],
    dict(type='LoadPanopticAnnotations'),
    _base_.test_pipeline[3],
]
tta_pipeline = None  # panoptic maps of several views are not merged

train_dataloader = dict(
    dataset=dict(
        type=dataset_type,
        ann_file='annotations/panoptic_train2017.json',
        data_prefix=dict(seg='annotations/panoptic_train2017/'),
        pipeline=train_pipeline,
    )
)
val_dataloader = dict(
    dataset=dict(
        type=dataset_type,
        ann_file='annotations/panoptic_val2017.json',
        data_prefix=dict(seg='annotations/panoptic_val2017/'),
        pipeline=test_pipeline,
    )
)
test_dataloader = val_dataloader

val_evaluator = [
    dict(
        type='CocoPanopticMetric',
        ann_file=data_root + 'annotations/panoptic_val2017.json',
        seg_prefix=data_root + 'annotations/panoptic_val2017/',
    ),
    _base_.val_evaluator,
]
test_evaluator = val_evaluator
