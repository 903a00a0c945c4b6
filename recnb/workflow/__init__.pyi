from .manifest import read_manifest as read_manifest
from .recipe import load_recipe as load_recipe, valid_keys as valid_keys
from .stage import Stage as Stage, lists_once as lists_once
