"""A worker: claims jobs from a store, runs each in a child process, stores what it leaves."""
