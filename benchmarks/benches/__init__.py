"""The benches of `headwater bench`: one file and one line each, in the order in which they run."""

from benchmarks.ruler import Bench

__all__ = ["BENCHES"]

_ALL = (
    Bench("ingest", "Events into features: single and packed, short and long histories, several workers.", True),
    Bench("freshness", "From an event to the feature and from a request to its reply, with all workers up.", True),
    Bench("requests", "From a request to its reply at a steady rate, beside a worker that echoes it unread.", True),
    Bench("gateway", "What HTTP and gRPC add to the SDK's request, and what a thousand events a second cost.", True),
    Bench("weights", "From a gradient to the first answer that is made with it.", True),
    Bench("score", "What a request costs the scorer, beside exact searches over vectors of the same catalogue."),
    Bench("learn", "Examples a second, beside the same work in bare torch and beside SASRec."),
    Bench("overload", "Ten times more than the trainer learns, and than serving answers: what gives way.", True),
    Bench("rebuild", "A lost store made again from the log, beside reading the log and writing what it makes.", True),
    Bench("users", "Bytes of the store that a user takes, by how much the user has done."),
    Bench("memory", "What trainer and serving hold at a catalogue of 100,000 items."),
    Bench("publish", "Bytes of deltas a second and of a full bundle, and what a bundle costs the trainer."),
    Bench("start", "`headwater up` to the first answer, and a cold serving worker with a large model."),
    Bench("privacy", "What pseudonyms cost a Client and the streams worker.", True),
    Bench("cost", "Processor time of all processes for 1,000 events and for 1,000 answers.", True),
)

BENCHES = {one.name: one for one in _ALL}
