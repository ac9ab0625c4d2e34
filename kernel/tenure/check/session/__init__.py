"""The explored model of a session: configurations, workers, operators, properties and canonical states."""
