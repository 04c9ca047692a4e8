"""Where training meets the run store: the processes that work on runs and tasks. See docs/jobs.md."""
