"""From scores to a list: boosts, pins, caps, shares, diversity and chance, in one pass that picks place by place."""

from serving.arranging.arrange import Arranged, arrange, arranges, warm_up
from serving.arranging.beyond import Beyond
from serving.arranging.chance import spread_of
from serving.arranging.likeness import list_diversity
from serving.arranging.new_items import few_events
from serving.arranging.pool import NO_DRAWS, NO_ROW, Leading, Offer
from serving.arranging.thompson import Draws
from serving.arranging.tiers import NO_TIER, lowered

__all__ = ["NO_DRAWS", "NO_ROW", "NO_TIER", "Arranged", "Beyond", "Draws", "Leading", "Offer", "arrange"]
__all__ += ["arranges", "few_events", "list_diversity", "lowered", "spread_of", "warm_up"]
