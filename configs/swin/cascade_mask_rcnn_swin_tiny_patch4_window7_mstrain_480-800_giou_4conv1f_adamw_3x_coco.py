# The official repository's name for this recipe.
_base_ = '../cascade_mask_rcnn_swin_t_3x.py'
