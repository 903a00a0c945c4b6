from .load import Exported as Exported
from .load import Recommendation as Recommendation
from .load import load_export as load_export
from .write import export_model as export_model
