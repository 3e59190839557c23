//! A deterministic simulator that runs the production code of Quorate.
