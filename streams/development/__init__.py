"""The whole engine on one machine: for development, demonstrations and tests, never for production."""
