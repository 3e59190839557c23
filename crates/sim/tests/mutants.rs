//! A sample of the deliberate bugs that the simulator must find, one or two of each area, each known
//! to be found by one of the first seeds. All of them: `quorate sim mutants`.
//!
//! A panic of the code under test is a finding here: what it prints belongs to the run.

use quorate_mutants::Mutant;
use quorate_sim::hunt::hunt;

fn check_caught(mutant: Mutant) {
    let hunt = hunt(mutant, 1..MOST_SEEDS + 1);
    assert!(hunt.unsound.is_empty(), "without any bug: {:?}", hunt.unsound);
    assert!(
        hunt.caught.is_some(),
        "{MOST_SEEDS} seeds missed {mutant}: {}",
        mutant.what()
    );
}

macro_rules! sample {
    ($($name:ident $mutant:ident;)*) => {
        $(#[test] fn $name() { check_caught(Mutant::$mutant); })*
    };
}

sample! {
    votes_before_they_are_durable_are_found M2;
    votes_without_a_look_at_the_log_are_found M4;
    pre_votes_that_change_the_term_are_found M6;
    impatient_followers_are_found M13;
    acknowledgments_before_they_are_durable_are_found M15;
    leaders_that_count_their_own_memory_are_found M16;
    truncation_below_the_commit_index_is_found M20;
    acknowledgments_taken_for_more_are_found M21;
    half_a_cluster_for_a_quorum_is_found M24;
    heartbeats_that_commit_too_much_are_found M26;
    acknowledgments_after_a_hole_are_found M28;
    snapshots_without_a_sync_are_found M32;
    clocks_in_apply_are_found M35;
    members_in_effect_too_late_are_found M37;
    two_changes_at_once_are_found M38;
    newcomers_that_vote_too_early_are_found M40;
    commands_applied_twice_are_found M62;
    sessions_left_out_of_snapshots_are_found M31;
    commands_forgotten_with_a_snapshot_are_found M63;
    sessions_that_end_by_a_clock_are_found M64;
    joint_members_that_count_by_half_are_found M71;
    campaigns_on_a_mere_report_are_found M73;
}

const MOST_SEEDS: u64 = 40;
