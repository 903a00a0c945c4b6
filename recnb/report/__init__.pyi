from .result import verdicts as verdicts
