"""By whose policy a request is answered: the named surfaces, from settings and topic, and what each kind ranks."""

from serving.surfaces.registry import Surfaces, as_asked

__all__ = ["Surfaces", "as_asked"]
