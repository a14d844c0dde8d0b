"""Ed25519 signatures: of certificates, and of all that a trainer publishes.

`documents` signs JSON objects with a key of a file; `trust` is whose models a process takes and in whose name it
publishes; `records` reads the topics of models so.
"""

from models.published.signing.documents import (
    canonical,
    is_signed_by,
    key_id,
    private_key,
    public_key,
    signature_of,
)

__all__ = ["canonical", "is_signed_by", "key_id", "private_key", "public_key", "signature_of"]
