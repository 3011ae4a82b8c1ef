"""Plain Kafka clients: appending, reading, topics and policies, over aiokafka and confluent-kafka; no Faust.

Called by the log worker, the executor, the ingress, the agents' clocks and the command line. Foreign errors are mapped
to `errors` here and nowhere else. Nothing in this room knows what a payment is.
"""
