"""A package, so that its engine ends with its last test (`conftest`)."""
