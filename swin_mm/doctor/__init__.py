"""``python -m swin_mm.doctor``: what is installed, what works, what is wrong and what to do; for an issue report.

Where ``import swin_mm`` itself fails, ``python swin_mm/doctor`` in a clone says why.
"""
