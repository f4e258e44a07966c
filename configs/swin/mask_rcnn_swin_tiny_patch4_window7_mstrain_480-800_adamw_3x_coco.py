# The official repository's name for this recipe.
_base_ = '../mask_rcnn_swin_t_3x.py'
