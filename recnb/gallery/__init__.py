"""The gallery: each way a language model recommends as one small file, all on one table (notebook one_table)."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
