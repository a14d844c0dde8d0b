"""How far the ranker's numbers may go, in numpy and in the graph. Loads nothing."""

WIDEST = 4.0
"""Standardised facts are cut here: one that is out of all proportion says no more."""

MOST = 10.0
"""Nothing said is further from 0."""

SURE, MOST_SURE = 8.0, 24.0
"""What a part of the ranker gained before it learned from what it was asked, in nats: from SURE on its share is 1, at 0
it is 0. The sum is kept between -SURE and MOST_SURE, so that it soon tells when things change."""

LISTS = -1
"""What stands for a type where the head that shown lists taught is published among those of types."""
