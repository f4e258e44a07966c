# The official repository's name for this recipe.
_base_ = '../mask_reppointsv2_swin_t.py'
