"""The interface described: OpenAPI and the pages that show it."""
