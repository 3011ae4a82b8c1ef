"""What the engine tells its operators: logs, metrics, spans, and whether it is alive and ready.

`logs`, `metrics` and `spans` are called by every shell (agents, executor, ingress, clients), never by the pure rooms.
They cost little until somebody reads. `health` serves a component's own port, and with it `exporter`, the SDK.
"""
