"""The ONNX Runtime scorer: one session per graph, weights as inputs, new versions written between two batches.

Before: bundles and deltas from `serving.model_follower`. After: `serving.scoring` runs it on histories. Knows nothing
of Kafka, Redis, requests or rules.

There is one set of arrays. A delta is reckoned with while batches run, which changes nothing that they read, and
written between two of them, which costs what it changes: so a batch sees one version whole, and nothing is held twice.
Writing into arrays that a run is reading would tear: on the CPU ONNX Runtime reads them where they lie.
"""

from __future__ import annotations

import ctypes
import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import orjson

from headwater.errors import BundleError, Unavailable
from headwater.examples import Entry, Shown
from models.block import Sparse, Weighed
from models.exclusion import returning_types
from models.finite import not_finite
from models.inputs import Steps, encode_entries
from models.published.bundle import Bundle, Prepared
from models.published.delta import Delta
from models.published.names import ALONE, EXPERTS, SAID, SCORES
from models.published.opinions import Opinions, dense, few_of
from models.threads import blas_on_one_thread
from models.top_k import close
from serving.catalogue import Catalogue
from serving.ranker import SecondStage, SecondStageCounts
from serving.rules import Rows
from serving.runs import CPU, CUDA, GraphRun, Sessions

__all__ = ["Scorer", "ServedModel"]

Provider = Literal["auto", "cpu", "cuda"]
Array = npt.NDArray[Any]

NO_ROWS = np.zeros(0, np.int64)


class ServedModel:
    """One version of the model, whole: its arrays, where they are bound, and the catalogue seen through its rows."""

    def __init__(
        self,
        sessions: Sessions,
        bundle: Bundle,
        catalogue: Catalogue,
        published_ms: int,
        seen: SecondStageCounts,
    ) -> None:
        self._sessions, told = sessions, sessions.told
        self.few = few_of(told)
        self.outputs = {*sessions.outputs, *self.few}
        self._least = 1 if ALONE in told else 2  # histories of a run
        self.bundle = bundle
        self.published_ms = published_ms
        self.rows = Rows(catalogue, bundle.items)
        self._opinions = Opinions(bundle)
        self._run_graph = GraphRun(sessions, bundle, self._opinions)
        self.second = SecondStage.of(bundle, told.get(EXPERTS), seen)

    @cached_property
    def parts(self) -> dict[str, str]:
        """Parts of a score by name, each with the graph's output that says what it adds; together they are `scores`."""
        told = self._sessions.told.get(EXPERTS)
        if told is None:  # an earlier release's graph: experts that share a part are one
            outputs = [name for name in self._sessions.outputs if name != SCORES]
        else:
            outputs = [name for name, _ in orjson.loads(told)]
        return {name.removeprefix(SAID).removesuffix("_part"): name for name in outputs}

    @property
    def returning(self) -> frozenset[str]:
        """The event types after which users come back to an item."""
        return returning_types(self.bundle.weights["return_rate"], self.bundle.types)

    def knows(self, history: Sequence[Entry]) -> bool:
        """Whether anything of a history counts: an item that the model knows, among the newest that it looks at."""
        return any(entry.item_id in self.bundle.item_rows for entry in history[-self.bundle.config.length :])

    def rows_of(self, item_ids: Sequence[str]) -> dict[str, int | None]:
        """The row of each of these items, None without one: to look items up in this many times costs less than to look
        once more among all, which lie all over the memory.
        """
        return dict(zip(item_ids, map(self.bundle.item_rows.get, item_ids), strict=True))

    def steps_of(self, history: Sequence[Entry], item_rows: Mapping[str, int | None] | None = None) -> Steps:
        """A history as the model reads it; `item_rows` are the `rows_of` its items, where these are known."""
        types = {name: i + 1 for i, name in enumerate(self.bundle.types)}
        return encode_entries(history, item_rows or self.bundle.item_rows, types, self.bundle.config)

    def commit(self, prepared: Prepared, published_ms: int) -> None:
        """Become the version that `bundle.prepare` has reckoned with."""
        delta, reaches_further = prepared.delta, bool(prepared.grown)
        self.bundle.commit(prepared)
        self._opinions.renew(grown=reaches_further)
        names = [*delta.dense, *delta.rows, *prepared.grown]
        table = "item_vectors"
        self._run_graph.bind(names, None if table in prepared.grown else _touched(delta, table, self.bundle))
        if self.second is not None:
            self.second.renew(delta)
        if delta.items or delta.capacity != len(self.rows):
            self.rows.reread(self.bundle.items, [row for row, _ in delta.items])
        self.published_ms = published_ms

    def run(
        self,
        histories: Sequence[Sequence[Entry]],
        now_ms: int | Sequence[int],
        outputs: Sequence[str],
        shown: Sequence[Sequence[Shown]] = (),
        sessions: Sequence[int | None] | None = None,
        steps: Sequence[Steps] = (),
    ) -> tuple[Array, list[Array]]:
        """Run the graph.

        Parameters
            histories: B of them, each oldest first.
            now_ms: one instant for all, or one for each, epoch ms.
            outputs: names (`models.published.graph`).
            shown: of each, what its user was shown, oldest first; of nobody anything where it is empty.
            sessions: `events.session_number` of the session that each is asked in, None where that is not known.
            steps: `steps_of` each, where that is done.

        Returns
            How many entries of each history the model knows, (B,); and the outputs, (B, capacity) float32 each. What a
            history gets does not depend on the others.
        """
        inputs, said = self._run(histories, now_ms, outputs, shown, sessions, steps)
        b, size = len(histories), (len(histories), self.bundle.capacity)
        found = [
            dense([(inputs[rows], said[values]) for rows, values in self.few[name]], size)
            if name in self.few
            else _whole(said[name])[:b]
            for name in outputs
        ]
        return np.asarray(inputs["lengths"])[:b], found

    def say(
        self,
        histories: Sequence[Sequence[Entry]],
        now_ms: int | Sequence[int],
        outputs: Sequence[str],
        shown: Sequence[Sequence[Shown]] = (),
        sessions: Sequence[int | None] | None = None,
        steps: Sequence[Steps] = (),
    ) -> list[dict[str, Array | Sparse | Weighed]]:
        """The same of each history, by name, (capacity,) float32; what is of few rows, as the graph says it of these
        alone. The parameters are those of `run`.
        """
        inputs, said = self._run(histories, now_ms, outputs, shown, sessions, steps)
        few = {name: self.few[name] for name in outputs if name in self.few}
        return [
            {name: said[name][i] for name in outputs if name not in few}
            | {
                name: _joined([(inputs[rows][i], said[values][i]) for rows, values in each])
                for name, each in few.items()
            }
            for i in range(len(histories))
        ]

    def _run(
        self,
        histories: Sequence[Sequence[Entry]],
        now_ms: int | Sequence[int],
        outputs: Sequence[str],
        shown: Sequence[Sequence[Shown]],
        sessions: Sequence[int | None] | None,
        steps: Sequence[Steps],
    ) -> tuple[dict[str, Array], dict[str, Any]]:
        """Runtime inputs, and outputs as `GraphRun` has them; of two histories at least where it must be."""
        instants = [now_ms] * len(histories) if isinstance(now_ms, int) else now_ms
        if len(histories) < self._least:
            histories, instants = [*histories, ()], [*instants, *instants]
            shown = [*shown, ()] if shown else ()
            sessions = sessions and [*sessions, None]
            steps = steps and [*steps, self.steps_of(())]
        inputs = self._opinions.inputs(histories, instants, shown, sessions, steps)
        few = {values: rows for name in outputs for rows, values in self.few.get(name, ())}
        names = [*few, *(name for name in outputs if name not in self.few)]
        found = self._run_graph(names, inputs)
        for name, value in zip(names, found, strict=True):
            wanted = inputs[few[name]].shape if name in few else (len(histories), self.bundle.capacity)
            if not isinstance(value, list) and value.shape != wanted:  # compiled loops would read beyond it
                raise BundleError(
                    f"bundle v{self.bundle.version}: its graph gives {name} as {value.shape}, not {wanted}. "
                    "Publish one anew."
                )
        return inputs, dict(zip(names, found, strict=True))


def _touched(delta: Delta, name: str, bundle: Bundle) -> npt.NDArray[np.int64] | None:
    """Rows of a table that a delta has changed; None: any may be."""
    if name in delta.dense:
        return None
    if name not in delta.rows:
        return NO_ROWS
    where, values = delta.rows[name]
    table = bundle.weights[name]
    by_place = values.ndim < table.ndim  # in the flattened table
    return np.unique(where // math.prod(table.shape[1:])) if by_place else np.array(where, np.int64)


def _whole(said: Array | list[Weighed]) -> Array:
    return np.stack([one.at(slice(None)) for one in said]) if isinstance(said, list) else said


def _joined(few: Sequence[tuple[Array, Array]]) -> Sparse:
    """What is said of few rows, by all that say so."""
    if len(few) == 1:
        return Sparse(*few[0])
    if not few:
        return Sparse(NO_ROWS, np.zeros(0, np.float32))
    return Sparse(*(np.concatenate([one[side] for one in few]) for side in (0, 1)))


class Scorer:
    """Holds the model that answers. One thread may `load` and `apply` while others hold `live()`.

    Parameters
        catalogue: what may be recommended.
        provider: `auto`, `cpu` or `cuda`; the attribute is what ONNX Runtime really gave.
        threads: of one run.
        batch: most histories of one run: what that takes of memory is taken when a model is loaded, not in a flood.

    Raises
        Unavailable: `cuda` is asked for and not there.
    """

    def __init__(self, catalogue: Catalogue, provider: Provider = "auto", threads: int = 1, batch: int = 8) -> None:
        blas_on_one_thread()
        self.catalogue = catalogue
        self.all_items = Rows(catalogue)
        self.threads, self.batch = threads, batch
        self.seen = SecondStageCounts()
        self.provider = CPU
        self._asked = provider
        self._lock = threading.Lock()
        self._live: ServedModel | None = None
        self._graph = b""
        self._sessions: Sessions | None = None
        if provider == "cuda":
            require_cuda()

    @contextmanager
    def live(self) -> Iterator[ServedModel | None]:
        """The version that answers, held for one batch; None before the first bundle."""
        with self._lock:
            yield self._live

    @property
    def version(self) -> int | None:
        """The version that answers now."""
        half = self._live
        return None if half is None else half.bundle.version

    @property
    def published_ms(self) -> int | None:
        """When the weights that answer now were published."""
        half = self._live
        return None if half is None else half.published_ms

    @property
    def candidate_recall(self) -> float:
        """Of the model that answers, as the learner published it; NaN where it is not known."""
        half = self._live
        ranker = {} if half is None else half.bundle.metrics.get("ranker")
        recall = ranker.get("candidate_recall") if isinstance(ranker, dict) else None
        return float(recall) if isinstance(recall, (int, float)) else float("nan")

    def load(self, bundle: Bundle, published_ms: int) -> None:
        """Answer from a full bundle, from the next batch on. The session is kept when the graph is the same.

        Parameters
            bundle: belongs to the scorer from now on.
            published_ms: epoch ms.

        Raises
            BundleError: weights are not finite, or ONNX Runtime refuses the graph.
        """
        check_finite(bundle.weights, f"bundle v{bundle.version} ({bundle.digest[:16]})")
        sessions = self._sessions
        if sessions is None or bundle.graph != self._graph:
            sessions = self._new_sessions(bundle.graph)
        live = ServedModel(sessions, bundle, self.catalogue, published_ms, self.seen)
        self._warm_up(live)
        with self._lock:
            self._live = live
        self._sessions, self._graph = sessions, bundle.graph

    def apply(self, delta: Delta, published_ms: int) -> None:
        """Answer from the next version, from the next batch on.

        Parameters
            delta: stays as it is.
            published_ms: epoch ms.

        Raises
            BundleError: the delta does not follow on what answers, or is not finite; what answers stays. After any
                other error nothing does before the next full bundle.
        """
        half = self._live
        if half is None or delta.parent_version != half.bundle.version:
            raise BundleError(
                f"delta v{delta.version} follows on v{delta.parent_version} but v{self.version} is held. "
                "The next full bundle puts it right."
            )
        where = f"delta v{delta.version}"
        check_finite(delta.dense, where)
        check_finite({name: values for name, (_, values) in delta.rows.items()}, where)
        prepared = half.bundle.prepare(delta)
        with self._lock:
            try:
                half.commit(prepared, published_ms)
            except BaseException:
                self._live = None  # written half-way, it is no version
                raise

    def _warm_up(self, half: ServedModel) -> None:
        """The first runs of a session allocate and plan: 5 to 50 ms that no request should wait for, nor for the loops
        that only answers run, which a machine compiles once.
        """
        for size in (1, 2, 8, self.batch):
            for said in half.say([()] * size, 0, [SCORES, *(() if half.second is None else half.second.outputs)]):
                scores = said[SCORES]
                assert isinstance(scores, np.ndarray)  # of all rows
                close(scores, half.rows.blocked(0))
                for part in said.values():
                    if isinstance(part, Weighed):
                        part.at(np.zeros(0, np.int64))

    def _new_sessions(self, graph: bytes) -> Sessions:
        from models.published.onnx_runtime import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # the other workers need the cores
        options.log_severity_level = 3
        cuda = self._asked != "cpu" and cuda_is_there()

        def made(part: bytes) -> Any:
            try:
                return onnxruntime.InferenceSession(part, options, providers=providers(cuda))
            except Exception as error:  # onnxruntime's own errors share no root but Exception
                raise BundleError(
                    f"ONNX Runtime refuses the bundle's graph: {error}. Publish a bundle anew."
                ) from error

        sessions = Sessions(graph, made, cut=not cuda)
        if self._asked == "cuda" and sessions.provider != CUDA:
            raise Unavailable(f"serving.provider is cuda, but ONNX Runtime gave {sessions.provider}. {CUDA_REMEDY}")
        self.provider = sessions.provider
        return sessions


CUDA_REMEDY = "Install headwater-engine[gpu] on a machine with an NVIDIA GPU, or set HEADWATER_SERVING__PROVIDER=cpu."


def cuda_is_there() -> bool:
    """Whether a CUDA session can be made: onnxruntime-gpu lists the provider on hosts without any GPU, so try one."""
    from models.onnx_nodes import smallest_graph
    from models.published.onnx_runtime import onnxruntime

    if CUDA not in onnxruntime.get_available_providers() or not _driver_finds_a_gpu():
        return False
    onnxruntime.preload_dlls()
    try:
        session = onnxruntime.InferenceSession(smallest_graph(), providers=[CUDA])
    except Exception:  # noqa: BLE001 - no common root; any failure to start CUDA means that it is not there
        return False
    return bool(session.get_providers()[0] == CUDA)


def providers(cuda: bool) -> list[str]:
    """What ONNX Runtime is asked for, the best first."""
    return [CUDA, CPU] if cuda else [CPU]


def _driver_finds_a_gpu() -> bool:
    """Asks NVIDIA's driver first: without it, ONNX Runtime's own attempt costs 0.9 s and six lines of complaint."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    count = ctypes.c_int()
    return driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value > 0


def require_cuda() -> None:
    """Raises Unavailable when ONNX Runtime cannot start CUDA here."""
    if not cuda_is_there():
        raise Unavailable(f"serving.provider is cuda, but ONNX Runtime cannot start CUDA here. {CUDA_REMEDY}")


def check_finite(arrays: Mapping[str, Array], where: str) -> None:
    """Raises BundleError when a float array holds NaN or infinity."""
    found = not_finite(arrays)
    if found is not None:
        raise BundleError(f"{where}: {found}. The last good stays.")
