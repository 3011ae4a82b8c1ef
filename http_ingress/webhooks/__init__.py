"""Gateways' notices, verified on their raw bytes and appended."""
