"""LLM4SBR (arXiv 2402.13840): a session model, aligned with what a language model guesses. Notebooks 03 to 09."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
