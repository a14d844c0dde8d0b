"""What people may ask of what is known of them: to be forgotten; and what is kept of that.

Before: an app, or `headwater forget`. After: the workers, each of which acts on the topics by itself.
"""

from headwater.privacy.erasures import FORGET, Erased, Erasure, ErasureFact, digest_of, fact_of, read_erasure

__all__ = ["FORGET", "Erased", "Erasure", "ErasureFact", "digest_of", "fact_of", "read_erasure"]
