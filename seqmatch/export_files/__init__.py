"""Files that go into an export as they are; nothing here is imported by the rest of seqmatch."""
