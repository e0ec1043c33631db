"""What a request asks and what its answer says: read, checked and made; the server answers and the journal keeps it."""
