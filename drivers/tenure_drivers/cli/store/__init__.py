"""`tenure store`: the commands for a whole store, a module for each subject."""
