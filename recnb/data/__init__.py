"""Sources of data, one schema: see :class:`Dataset`; splits and histories. Shown in ``notebooks/01_data.ipynb``."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
