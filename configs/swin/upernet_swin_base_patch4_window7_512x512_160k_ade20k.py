# The official repository's name for this recipe.
_base_ = '../upernet_swin_b.py'
