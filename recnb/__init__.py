"""recnb: learn, run and judge LLM-based generative recommendation, one notebook per step."""

from recnb.runtime import quiet

quiet()  # before any library is imported that would print a bar or a warning into somebody's notebook

__version__ = "0.1.0"
