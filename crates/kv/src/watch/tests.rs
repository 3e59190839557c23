//! Rules of watching, one test each.
