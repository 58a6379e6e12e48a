"""A `Schedule` -> something that runs: serial, threads, recorder, cuda."""
