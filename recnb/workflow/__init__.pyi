from .recipe import load_recipe as load_recipe
from .stage import Stage as Stage, lists_once as lists_once
