"""What people may ask of what is known of them: to be forgotten, or that it be used for some purposes only.

Before: an app, or `headwater forget`. After: the workers, each of which acts on the topics by itself.
"""

from headwater.privacy.consents import ConsentWord, read_consent
from headwater.privacy.erasures import FORGET, Erased, Erasure, ErasureFact, digest_of, fact_of, read_erasure

__all__ = ["FORGET", "ConsentWord", "Erased", "Erasure", "ErasureFact", "digest_of", "fact_of", "read_consent"]
__all__ += ["read_erasure"]
