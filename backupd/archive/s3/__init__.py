"""An archive in an S3 bucket: the store, its patience with a bad network, and the probe of what the server honours."""
