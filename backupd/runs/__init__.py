"""The runs: the only rooms that order steps. They see ports, never an engine, a provider or a store by its class."""
