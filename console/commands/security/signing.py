"""`headwater signing`: the keys by which a world's models are known to be its trainer's."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from console.commands.options import Json

app = typer.Typer(help="Keys that sign what the trainer publishes: make one, show its public half.")


@app.command("make")
def make(
    file: Annotated[Path, typer.Argument(help="Where the private key is written, for its owner alone to read.")],
    as_json: Json = False,
) -> None:
    """Make a key for a trainer, and print what the settings of everybody need of it."""
    from models.published.signing.documents import make_key

    _print(file, make_key(file).public_key(), as_json)


@app.command("show")
def show(
    file: Annotated[Path, typer.Argument(help="PEM file of a private or a public key.")],
    as_json: Json = False,
) -> None:
    """Print the public half of a key, as signing.public_keys takes it."""
    from models.published.signing.documents import public_key

    _print(file, public_key(file), as_json)


def _print(file: Path, public: object, as_json: bool) -> None:
    """On stdout the public key alone, for scripts; what to do with it on stderr."""
    import orjson
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    from headwater.security.secrets import variable_of
    from models.published.signing.documents import key_id, printed_key

    assert isinstance(public, Ed25519PublicKey)
    word = printed_key(public)
    if as_json:
        print(orjson.dumps({"file": str(file), "key_id": key_id(public), "public_key": word}).decode())
        return
    print(word)
    typer.echo(
        f"key {key_id(public)}. The trainer, and whoever rolls back: {variable_of('signing.secret_key_file')}={file}\n"
        f"Then everybody who reads models, the trainer too: {variable_of('signing.public_keys')}={word}\n"
        "To rotate: add the new public key everywhere, then give the trainer the new file, and take the old one out "
        "when `headwater doctor` says that it signed nothing that is kept (docs/operations.md).",
        err=True,
    )
