"""What people may ask of what is known of them: to be forgotten, and to be used for some purposes and not for others.

Before: an app, or `headwater forget`. After: the workers, each of which acts on the topics by itself.
"""

from headwater.privacy.erasures import FORGET, Erased, Erasure, ErasureFact, digest_of, fact_of, read_erasure

__all__ = ["FORGET", "Erased", "Erasure", "ErasureFact", "digest_of", "fact_of", "read_erasure"]
