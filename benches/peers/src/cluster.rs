//! What every library is measured by: three replicas in one thread.

use std::time::{Duration, Instant};

use clap::ValueEnum;

/// Three replicas of a library, of which one leads, and the messages between them.
pub trait Cluster {
    /// Has the leader take in `count` commands of 8 bytes at once.
    fn propose(&mut self, count: u64);

    /// Delivers messages until nothing moves. Says how many commands the leader has applied by then.
    fn settle(&mut self) -> u64;
}

/// What time is measured by.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Clock {
    /// The time that passes.
    Wall,
    /// The time that this thread has a processor, on Linux: for a machine that is busy with other things.
    Cpu,
}

impl Clock {
    /// The time since `start`, or since the thread began.
    fn now(self, start: Instant) -> Duration {
        match self {
            Self::Wall => start.elapsed(),
            Self::Cpu => {
                let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux tells it");
                let first = text.split(' ').next().expect("three numbers");
                Duration::from_nanos(first.parse().expect("nanoseconds"))
            }
        }
    }
}

/// Commits a second with `outstanding` commands under way, measured for about `duration`.
pub fn measure(cluster: &mut dyn Cluster, clock: Clock, outstanding: u64, duration: Duration) -> f64 {
    let warm_up = duration / 10;
    run(cluster, clock, outstanding, warm_up);
    let (commits, elapsed) = run(cluster, clock, outstanding, duration);
    commits as f64 / elapsed.as_secs_f64()
}

fn run(cluster: &mut dyn Cluster, clock: Clock, outstanding: u64, duration: Duration) -> (u64, Duration) {
    let batches_between_looks = (LOOK_EVERY / outstanding).max(1);
    let before = cluster.settle();
    let start = Instant::now();
    let began = clock.now(start);
    let mut proposed = 0;
    loop {
        for _ in 0..batches_between_looks {
            cluster.propose(outstanding);
            proposed += outstanding;
            let applied = cluster.settle() - before;
            assert_eq!(applied, proposed, "a command was lost or applied twice");
        }
        let elapsed = clock.now(start) - began;
        if elapsed >= duration {
            return (proposed, elapsed);
        }
    }
}

/// How many commands pass between two looks at the clock.
const LOOK_EVERY: u64 = 10_000;

/// How many entries are applied between two compactions of a log.
pub const COMPACT_EVERY: u64 = 10_000;

/// The command of the libraries that replicate bytes: shared and static, so that no allocator is measured.
pub const COMMAND: &[u8; 8] = b"8 bytes!";

/// The state machine: the sum of the commands, and how many there were.
#[derive(Debug, Default)]
pub struct Sum {
    pub total: u64,
    pub count: u64,
}

impl Sum {
    pub fn apply(&mut self, command: u64) {
        self.total = self.total.wrapping_add(command);
        self.count += 1;
    }

    pub fn apply_bytes(&mut self, command: &[u8]) {
        let command = command.try_into().expect("commands are of 8 bytes");
        self.apply(u64::from_le_bytes(command));
    }
}
