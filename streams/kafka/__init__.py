"""The pipelined shell on Kafka: persist, then speak, then commit; and the overrides that make Faust fit for it.

`step` has the words for agents (no Faust needed), `worker.build_worker` makes a worker, `worker_settings` and `errors`
say the rest.
"""
