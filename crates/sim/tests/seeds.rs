//! Fixed seeds: each must pass, and give the same run every time.

use std::time::Duration;

use quorate_sim::{Edits, Kept, Kind, Load, Mark, Marks, Options, Report, Size, run};

fn short() -> Options {
    Options {
        duration: Duration::from_secs(8),
        ..Options::default()
    }
}

fn check(seed: u64, options: &Options) -> Report {
    run(seed, options).unwrap_or_else(|failure| panic!("{failure}"))
}

fn check_all(seeds: std::ops::Range<u64>, options: &Options) {
    let mut answered = 0;
    for seed in seeds {
        answered += check(seed, options).operations.answered;
    }
    assert!(answered > 100, "clients were hardly answered: {answered}");
}

#[test]
fn drawn_clusters_survive_drawn_faults() {
    check_all(0..24, &short());
}

#[test]
fn three_nodes_survive_drawn_faults() {
    let options = Options {
        size: Size::Exactly(3),
        ..short()
    };
    check_all(1_000..1_012, &options);
}

#[test]
fn five_nodes_survive_drawn_faults() {
    let options = Options {
        size: Size::Exactly(5),
        ..short()
    };
    check_all(2_000..2_006, &options);
}

#[test]
fn without_faults_clients_are_answered() {
    let options = Options {
        kind: Kind::Calm,
        duration: Duration::from_secs(5),
        ..Options::default()
    };
    for seed in 0..3 {
        let report = check(seed, &options);
        assert!(report.faults.is_empty(), "{report}");
        assert!(report.operations.answered > 100, "{report}");
    }
}

#[test]
fn an_idle_cluster_keeps_its_leader() {
    let options = Options {
        size: Size::Exactly(5),
        kind: Kind::Calm,
        load: Load::Idle,
        duration: Duration::from_secs(30),
        ..Options::default()
    };
    let report = check(1, &options);
    for unwanted in [Mark::LeaderReplaced, Mark::QuorumLost] {
        let count = report.marks.iter().find(|(mark, _)| *mark == unwanted);
        assert_eq!(count, Some((unwanted, 0)), "{report}");
    }
}

#[test]
fn a_seed_is_one_run() {
    for seed in [3, 7, 11] {
        let first = check(seed, &Options::default());
        let second = check(
            seed,
            &Options {
                trace_lines: 10,
                ..Options::default()
            },
        );
        assert_eq!(first.hash, second.hash, "seed {seed}");
        assert_eq!(first.events, second.events, "seed {seed}");
        assert_eq!(first.time, second.time, "seed {seed}");
        assert_eq!(second.lines.len(), 10);
    }
    assert_ne!(
        check(3, &Options::default()).hash,
        check(7, &Options::default()).hash
    );
}

#[test]
fn every_kind_of_run_passes_and_reaches_what_it_is_about() {
    let mut marks = Marks::new();
    for seed in 0..36 {
        let options = Options {
            kind: Kind::of_seed(seed),
            ..short()
        };
        marks.add(&check(seed, &options).marks);
    }
    let reached = |wanted: Mark| marks.iter().any(|(mark, count)| mark == wanted && count > 0);
    for wanted in [
        Mark::JointEntered,
        Mark::FrameRefused,
        Mark::DiskFailed,
        Mark::PeerGone,
    ] {
        assert!(reached(wanted), "{wanted} was never reached");
    }
}

#[test]
fn what_is_left_out_of_a_run_does_not_happen() {
    let whole = check(4, &Options::default());
    let fault = *whole.faults.keys().next().expect("seed 4 has faults");
    let edits = |kept| Edits {
        kept,
        without: [fault].into(),
        ..Edits::default()
    };
    let without = |kept| Options {
        edits: edits(kept),
        ..Options::default()
    };
    assert!(!check(4, &without(Kept::All)).faults.contains_key(&fault));
    let nothing = check(4, &without(Kept::Only([].into())));
    assert!(nothing.faults.is_empty(), "{nothing}");
}
