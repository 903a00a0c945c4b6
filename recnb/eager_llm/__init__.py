"""EAGER-LLM (arXiv 2502.14735): an item becomes tokens, a language model learns to speak them. Notebooks 03 to 08."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
