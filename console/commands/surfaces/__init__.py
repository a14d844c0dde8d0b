"""`headwater surfaces`, the places on the page and their policies, and `headwater experiments`."""

from console.commands.surfaces.verbs import app

__all__ = ["app"]
