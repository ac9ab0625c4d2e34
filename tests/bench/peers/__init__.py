"""The same item in other libraries.  Each module runs in the throw-away environment that they are installed in."""
