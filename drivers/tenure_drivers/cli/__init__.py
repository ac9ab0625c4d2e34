"""The command line: it parses arguments, calls the runtime or a store, and prints answers.  `main.tenure` is its root."""
