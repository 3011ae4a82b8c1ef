"""The gateway executor: takes the calls that orders owe, makes them, and writes down what each came to.

A log worker (`streams.log_worker`), not a Faust agent: a slow call must not hold a partition. Composed by `bootstrap`
from a connection, a codec and the gateways: see `worker.GatewayExecutor`.
"""
