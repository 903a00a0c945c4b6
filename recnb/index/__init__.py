"""Vectors to balanced, unique codes; their health; the trie over them. Shown in ``03_index`` and ``06_evaluate``."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
