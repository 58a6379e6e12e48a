"""The user's function -> `Trace`: one real run, watched."""
