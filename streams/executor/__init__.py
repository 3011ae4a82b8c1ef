"""The gateway executor: takes the calls that orders owe, makes them, and writes down what each came to.

A plain aiokafka worker, not a Faust agent: a slow call must not hold a partition (DESIGN.md section 8). Composed by
`bootstrap` from a connection, a codec and the gateways: see `worker.GatewayExecutor`.
"""
