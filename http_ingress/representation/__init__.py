"""What a client is told: problems, payloads and answers. Pure."""
