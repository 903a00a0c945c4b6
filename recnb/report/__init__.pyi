from .page import build_report as build_report
from .result import verdicts as verdicts
