//! A checksummed, group-committed log and checkpoint files over a disk trait.
