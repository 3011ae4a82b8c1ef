"""What the engine tells its operators: logs, metrics and spans, by APIs that cost nothing until an exporter is set.

Called by every shell (agents, executor, ingress, clients); never by the pure rooms. Exporters are wired by whoever
starts a process, not here.
"""
