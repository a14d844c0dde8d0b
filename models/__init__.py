"""The learning maths and the published bundle: test-then-train on a log of examples, out comes one ONNX graph.

Before: `trainer` or `replay` hands over examples in log order. After: `serving` runs the published bundle.
Knows no Kafka, no Redis and no clock: times come in with the examples, or as arguments.

Read in this order: config, items, inputs, block, experts (expert, memory, popularity, sequence, repeats, gate, fusion,
registry), learner, published (graph, bundle, delta, publish, parity), checkpoint.
"""
