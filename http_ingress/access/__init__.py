"""Who may ask, and how often: API keys and rates. Needs nothing of a request."""
