from .sessions import cuts as cuts, parts_drawn as parts_drawn, session_lengths as session_lengths
