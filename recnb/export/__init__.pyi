from .load import Exported as Exported, Recommendation as Recommendation, load_export as load_export
from .write import export_model as export_model
