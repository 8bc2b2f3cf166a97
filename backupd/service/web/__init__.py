"""The page of the service, and the JSON API under it: they ask the desk, and know nothing of the house behind it."""
