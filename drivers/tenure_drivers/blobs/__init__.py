"""Where the bytes of attachments are: `folder`, `rows` of a database, `s3`, or `nothing`.  Opened by `registry.open_blobs`."""
