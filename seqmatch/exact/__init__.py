"""Small languages solved exactly: every objective against numbers that need no sampling."""
