"""Runs of a model's graph: whole on a device, in halves with compiled loops between them on the CPU.

Before: `serving.scorer` holds a bundle. After: it reads the outputs. Knows no requests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from headwater.errors import BundleError
from models.block import Weighed
from models.experts.own_items import said_of_own
from models.published.all_rows import AllRows, Encoded
from models.published.bundle import Bundle
from models.published.cut import halves_of
from models.published.opinions import Opinions

__all__ = ["CPU", "CUDA", "GraphRun", "Sessions"]

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"

Array = npt.NDArray[Any]


class Sessions:
    """ONNX Runtime's sessions of one graph; versions of a model share them.

    Parameters
        graph: of a bundle.
        new_session: makes one of a graph. Raises BundleError.
        cut: whether a graph that says where is cut in two (`models.published.cut`): it is to run on the CPU.

    Fields
        each: one, or two that run one after the other.
        provider: what ONNX Runtime really gave.
        inputs, made: names of what each reads and makes.
        outputs, told: of the graph as a whole, in order, and its metadata.
    """

    def __init__(self, graph: bytes, new_session: Callable[[bytes], Any], *, cut: bool) -> None:
        try:
            halves = halves_of(graph) if cut else None
        except Exception as error:  # of bytes from elsewhere, the parser and what reads its values raise anything
            raise BundleError(f"The bundle's graph cannot be read: {error!r}. Publish one anew.") from error
        graphs = [graph] if halves is None else [halves.before, halves.after]
        self.each = [new_session(one) for one in graphs]
        self.provider: str = self.each[0].get_providers()[0]
        self.device = "cuda" if self.provider == CUDA else "cpu"
        self.inputs = [{one.name for one in session.get_inputs()} for session in self.each]
        self.made = [[one.name for one in session.get_outputs()] for session in self.each]
        self.places = None if halves is None else halves.places
        self.outputs: list[str] = self.made[0] if halves is None else halves.outputs
        self.told: dict[str, str] = self.each[0].get_modelmeta().custom_metadata_map if halves is None else halves.told


class GraphRun:
    """A graph with the arrays of one bundle."""

    def __init__(self, sessions: Sessions, bundle: Bundle, opinions: Opinions) -> None:
        self._sessions, self._bundle, self._opinions = sessions, bundle, opinions
        self._bound: list[dict[str, Any]] = [{} for _ in sessions.each]  # arrays on the CPU, else ONNX Runtime's values
        self._rows = None if sessions.places is None else AllRows(bundle.weights)
        self.bind(bundle.weights, None)

    def bind(self, names: Iterable[str], rows: npt.NDArray[np.int64] | None) -> None:
        """Give ONNX Runtime the arrays of these names as they are now. On the CPU it reads them in place.

        Parameters
            names: of weights.
            rows: whose vectors are others; None: any may be.
        """
        from models.published.onnx_runtime import onnxruntime

        sessions = self._sessions
        if self._rows is not None:
            self._rows.renew(rows, self._opinions.is_open)
        arrays = {name: self._bundle.weights[name] for name in names} | self._opinions.of_version()
        for reads, bound in zip(sessions.inputs, self._bound, strict=True):
            for name in arrays.keys() & reads:
                array = arrays[name]
                if sessions.device == "cpu":
                    bound[name] = array
                elif name in bound and bound[name].shape() == list(array.shape):
                    bound[name].update_inplace(array)
                else:
                    bound[name] = onnxruntime.OrtValue.ortvalue_from_numpy(array, sessions.device, 0)

    def __call__(self, names: Sequence[str], inputs: Mapping[str, Array]) -> list[Array | list[Weighed]]:
        """The outputs of these names, given the runtime inputs; in halves, of popularity a `Weighed` each."""
        from models.published.onnx_runtime import onnxruntime

        if not names:
            return []
        sessions = self._sessions
        if sessions.places is not None:
            return self._in_halves(names, inputs)
        given = {name: inputs[name] for name in inputs.keys() & sessions.inputs[0]}
        if sessions.device == "cpu":
            found: list[Array | list[Weighed]] = sessions.each[0].run(names, self._bound[0] | given)
            return found
        device = sessions.device
        values = {name: onnxruntime.OrtValue.ortvalue_from_numpy(one, device, 0) for name, one in given.items()}
        return [value.numpy() for value in sessions.each[0].run_with_ort_values(names, self._bound[0] | values)]

    def _in_halves(self, names: Sequence[str], inputs: Mapping[str, Array]) -> list[Array | list[Weighed]]:
        """Run the first half; the loops; and the second, where anything is asked for that either makes."""
        (before, after), (reads, reads_after) = self._sessions.each, self._sessions.inputs
        made, places, opinions = self._sessions.made[0], self._sessions.places, self._opinions
        assert places is not None
        assert self._rows is not None
        given = self._bound[0] | {name: inputs[name] for name in inputs.keys() & reads}
        found: dict[str, Any] = dict(zip(made, before.run(made, given), strict=True))
        if found.keys() >= set(names):
            return [found[name] for name in names]
        asked = Encoded(found[places.hidden], found[places.trust], found[places.trusts])
        said = self._rows.say(asked, opinions.known, slow=places.slow in names)
        found |= {places.whole: said.whole, places.slow: said.slow}
        if places.own is not None and places.newest is not None:
            own = said_of_own(inputs, self._bundle.weights, opinions.is_open)
            found |= zip((places.own, places.newest), own, strict=True)
        if places.popular in names:
            found[places.popular] = [Weighed(opinions.known, one) for one in asked.trusts]
        wanted = [name for name in names if name not in found]
        if wanted:
            told = {name: inputs[name] for name in inputs.keys() & reads_after}
            told |= {name: found[name] for name in found.keys() & reads_after}
            found |= zip(wanted, after.run(wanted, self._bound[1] | told), strict=True)
        return [found[name] for name in names]
