"""A user's state as bytes: a base that holds all of it, and a tail of what was added since.

Before: `streams.features.fold` makes states. After: `streams.features.store` keeps base and tail under two keys of the
user. Knows nothing of Redis.

- A base begins with one control character, the format, then `count` in decimal and a colon: `\\x01` `42` `:`. Every
  format to come begins so. The JSON of releases before begins `{"count":42,`.
- A tail is records one after another, each appended by one write. Its last bytes are a colon and `count` in decimal.
- So the version of what is stored is, in Lua: of a tail that is not empty `string.match(its last 32 bytes, ':(%d+)$')`;
  else of the base `string.match(its first 32 bytes, '^%c(%d+):')` or `'^{"count":(%d+),'`; '0' where there is neither.

A write is `change(before, after)`: append it to the tail; where that is None set the base to `encode(after)` and delete
the tail. `decode(base, tail)` reads both, which have to be of one moment.
"""

from streams.features.packed.codec import change, decode, encode

__all__ = ["change", "decode", "encode"]
