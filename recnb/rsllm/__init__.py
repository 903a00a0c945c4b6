"""RSLLM (arXiv 2412.16933): a language model that ranks titles followed by vectors. Notebooks 03 to 08."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
