from . import agreement as agreement, behaviour as behaviour, figures as figures
from .text import (
    embed_items as embed_items,
    embed_texts as embed_texts,
    field_texts as field_texts,
    mean_by_row as mean_by_row,
    text_coverage as text_coverage,
)
