"""Commands that need no store. Those that do are in `seqmatch.jobs.commands`."""
