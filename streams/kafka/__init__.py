"""The pipelined shell on Kafka: persist, then speak, then commit; and the overrides that make Faust fit for it.

`shell` has the words for agents (no Faust needed), `worker.build_worker` makes a worker, `row_tables.changelog_topic`
names the topics to create for it, `worker_settings` and `errors` say the rest.
"""
