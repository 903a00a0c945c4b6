"""recnb: learn, run and judge recommendation with language models, one notebook per step.

``from recnb import ...`` offers the names by which a notebook works; each wing (``recnb.index``, ``recnb.llm`` ...)
offers its own. Nothing is loaded before it is used.
"""

import lazy_loader

from recnb.runtime import quiet

quiet()  # before any library is imported that would print a bar or a warning into somebody's notebook

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__version__ = "0.1.0"
