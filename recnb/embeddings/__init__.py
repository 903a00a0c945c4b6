"""Item text to vectors, behaviour to vectors, and how far the two agree. Shown in ``notebooks/02_embeddings.ipynb``."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
