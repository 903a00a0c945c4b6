from . import claims as claims, figures as figures, ledger as ledger
from .ledger import hardware as hardware
from .tables import read_results as read_results
