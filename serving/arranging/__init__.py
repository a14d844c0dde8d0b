"""From scores to a list: boosts, pins, caps, shares, diversity and chance, in one pass that picks place by place."""

from serving.arranging.arrange import Arranged, Offer, arrange, arranges

__all__ = ["Arranged", "Offer", "arrange", "arranges"]
