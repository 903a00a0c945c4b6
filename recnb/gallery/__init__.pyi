from . import figures as figures
from .chat import Reply as Reply, chat as chat, request_prompt as request_prompt
from .exports import export_row as export_row
from .interface import (
    Bench as Bench,
    Learned as Learned,
    Ranker as Ranker,
    Retriever as Retriever,
    rankers as rankers,
)
from .recipe import Gallery as Gallery
from .table import (
    WHOLE as WHOLE,
    ask as ask,
    differences as differences,
    intervals as intervals,
    lay_bench as lay_bench,
    outcomes as outcomes,
    over_seeds as over_seeds,
    plain_rows as plain_rows,
    sets_for as sets_for,
)
