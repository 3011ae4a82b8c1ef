"""The one place that knows payment gateways: the port, its error taxonomy, the policy, and one folder a gateway."""
