"""Reports what is installed, what works, what is wrong and what to do about it: ``python -m swin_mm.doctor``.

The report belongs in an issue. Where ``import swin_mm`` itself fails, ``python swin_mm/doctor`` in a clone says why.
"""
