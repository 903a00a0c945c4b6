"""Many runs side by side: comparisons, tables, claims, the ledger. Shown in ``notebooks/studies/ablations.ipynb``."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
