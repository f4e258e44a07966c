# The official repository's name for this recipe.
_base_ = '../reppointsv2_swin_t.py'
