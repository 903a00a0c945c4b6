from .load import Recommendation as Recommendation, load_export as load_export
