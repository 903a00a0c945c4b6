from .intents import forks_drawn as forks_drawn, report_bars as report_bars
from .sessions import cuts as cuts, parts_drawn as parts_drawn, session_lengths as session_lengths
