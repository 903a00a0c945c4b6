"""Contests against what one would use instead, and how cost grows. Shown in ``notebooks/studies/speed.ipynb``."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
