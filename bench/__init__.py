"""`python -m bench`: what the engine does on this machine, on a real Apache Kafka. Not part of the product."""
