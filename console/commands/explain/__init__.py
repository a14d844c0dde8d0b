"""`headwater explain model`, and `headwater replay explain RECEIPT`: why, of the whole and of one answer."""

import typer

from console.commands.explain import answer, model

app = typer.Typer(
    no_args_is_help=True, help="What the model goes by. Of one answer: recommend --explain, replay explain."
)
app.command("model")(model.command)

__all__ = ["answer", "app", "model"]
