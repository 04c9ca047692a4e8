"""Where training meets the run store: the processes that work on runs and tasks (docs/jobs.md)."""
