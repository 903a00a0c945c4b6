from . import claims as claims
from . import figures as figures
from . import ledger as ledger
from .figures import standing as standing
from .ledger import hardware as hardware
from .tables import read_results as read_results
