//! What a node asks of the system for its own process.
//!
//! - No core dumps: keys, values and tokens are in memory. Nor may another process of the same user look into it.
//! - As many open files as are allowed: each connection is one.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Sets it. What the system refuses is logged; a node runs without it.
pub(crate) fn settle() {
    keep_memory_in();
    raise_open_files();
}

fn keep_memory_in() {
    let none = Rlimit {
        current: Some(0),
        ..getrlimit(Resource::Core)
    };
    // A program that takes core dumps (core(5), pipes) goes by the second of these, not by the limit.
    let done = setrlimit(Resource::Core, none).and_then(|()| forbid_dumps());
    if let Err(error) = done {
        tracing::warn!(%error, "core dumps are not turned off: one may contain keys, values and tokens");
    }
}

#[cfg(target_os = "linux")]
fn forbid_dumps() -> rustix::io::Result<()> {
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
}

#[cfg(not(target_os = "linux"))]
fn forbid_dumps() -> rustix::io::Result<()> {
    Ok(())
}

fn raise_open_files() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    if current == maximum {
        return;
    }
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, ?current, "more open files are not allowed (ulimit -n): each connection is one");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_no_core_dumps_and_many_files() {
        settle();
        assert_eq!(getrlimit(Resource::Core).current, Some(0));
        #[cfg(target_os = "linux")]
        assert_eq!(
            rustix::process::dumpable_behavior().unwrap(),
            rustix::process::DumpableBehavior::NotDumpable
        );
        let files = getrlimit(Resource::Nofile);
        assert_eq!(files.current, files.maximum);
    }
}
