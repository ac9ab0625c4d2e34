"""The command line: parses arguments, calls the runtime or a store, and prints results.

`main.tenure` is the root command.  Only `tenure_drivers.demo` imports this package.
"""
