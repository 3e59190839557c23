//! The switch of the deliberate bugs that the simulator must find. A normal build has none of them.
//!
//! `mutant!(M17)` says whether that bug is on; `mutant!(M17, wrong, right)` chooses by it. What each
//! does is said where the crate `quorate_mutants` lists it.

#[cfg(feature = "mutants")]
macro_rules! mutant {
    ($name:ident) => {
        quorate_mutants::is_on(quorate_mutants::Mutant::$name)
    };
    ($name:ident, $wrong:expr, $right:expr) => {
        if mutant!($name) { $wrong } else { $right }
    };
}

#[cfg(not(feature = "mutants"))]
macro_rules! mutant {
    ($name:ident) => {
        crate::mutant::never()
    };
    ($name:ident, $wrong:expr, $right:expr) => {
        if mutant!($name) { $wrong } else { $right }
    };
}

/// Without the feature no bug is ever on.
#[cfg(not(feature = "mutants"))]
pub(crate) const fn never() -> bool {
    false
}

#[cfg(all(feature = "mutants", not(debug_assertions)))]
compile_error!("the feature `mutants` is for finding bugs, never for a release: use `--profile mutants`");

pub(crate) use mutant;
