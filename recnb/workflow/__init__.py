"""A recipe becomes a run: loading, stages and their manifests, what runs and why, papermill, what is missing."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
