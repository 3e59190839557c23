//! Small models, explored whole; `cargo run --release -p quorate-sim --example model` explores larger ones.

use quorate_raft::NodeId;
use quorate_sim::Invariant;
use quorate_sim::model::{Bounds, Coverage, Findings, Flaw, Order, explore};

fn one_election() -> Bounds {
    Bounds {
        nodes: 3,
        terms: 2,
        timeouts: 1,
        heartbeats: 0,
        proposals: 0,
        crashes: 0,
        losses: 0,
        repeats: 0,
        order: Order::Streams,
        states: 1_000_000,
    }
}

fn check_whole(bounds: &Bounds) -> Findings {
    let findings = explore(bounds, Flaw::None);
    if let Some(counterexample) = &findings.counterexample {
        panic!("{bounds}\n{counterexample}");
    }
    assert_eq!(findings.coverage, Coverage::Whole, "{findings}");
    findings
}

#[test]
fn a_single_node_leads_and_commits_alone() {
    let findings = check_whole(&Bounds {
        nodes: 1,
        timeouts: 2,
        proposals: 2,
        crashes: 1,
        ..one_election()
    });
    assert_eq!(findings.leaders, [(1, NodeId(1)), (2, NodeId(1))]);
    // An entry of each leader's own, and two commands.
    assert_eq!(findings.committed, 4);
}

#[test]
fn an_election_and_a_command_with_every_crash_and_loss() {
    let findings = check_whole(&Bounds {
        proposals: 1,
        losses: 1,
        ..one_election()
    });
    assert_eq!(findings.committed, 2, "{findings}");
    check_whole(&Bounds {
        crashes: 1,
        repeats: 1,
        ..one_election()
    });
}

#[test]
fn an_election_of_two_in_any_order() {
    let findings = check_whole(&Bounds {
        nodes: 2,
        timeouts: 2,
        order: Order::Any,
        ..one_election()
    });
    assert!(findings.leaders.contains(&(2, NodeId(2))), "{findings}");
}

fn check_found(bounds: &Bounds, flaw: Flaw, wanted: Invariant) {
    let findings = explore(bounds, flaw);
    let counterexample = findings.counterexample.expect("the flaw is found");
    assert_eq!(counterexample.invariant, wanted, "{counterexample}");
    let shown = counterexample.to_string();
    assert!(shown.contains("n1 hears of no leader for too long"), "{shown}");
    assert!(
        shown.contains("n1@0 -> n2 RequestPreVote term=1 last=0@0"),
        "{shown}"
    );
}

#[test]
fn a_disk_that_forgets_its_vote_is_found_out() {
    let bounds = Bounds {
        timeouts: 2,
        crashes: 1,
        ..one_election()
    };
    check_found(&bounds, Flaw::ForgottenVote, Invariant::Monotone);
}

#[test]
fn a_log_that_reports_too_early_is_found_out() {
    check_found(&one_election(), Flaw::EarlyPersist, Invariant::DurablePromise);
}
