"""Recommenders without a language model, behind one interface: fit, score, lists. Shown in ``06_evaluate``."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
