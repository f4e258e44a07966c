# Ends a training after five validations in a row without a better one; keeps the best checkpoint.
mmdet = dict(
    default_hooks=dict(
        early_stopping=dict(type='EarlyStoppingHook', monitor='coco/bbox_mAP', rule='greater', patience=5),
        checkpoint=dict(save_best='coco/bbox_mAP', rule='greater'),
    )
)
mmseg = dict(
    default_hooks=dict(
        early_stopping=dict(type='EarlyStoppingHook', monitor='mIoU', rule='greater', patience=5),
        checkpoint=dict(save_best='mIoU', rule='greater'),
    )
)
