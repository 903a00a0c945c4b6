from .recipe import Gallery as Gallery
