"""`headwater surfaces`: the places on the page and their policies."""

from console.commands.surfaces.verbs import app

__all__ = ["app"]
