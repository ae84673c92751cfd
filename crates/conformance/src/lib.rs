#![doc = include_str!("../README.md")]

mod case;
mod cases;
pub mod faults;
pub mod kit;
mod need;
mod suite;

#[doc(hidden)]
pub use self::suite::{
    check_capabilities as __check_capabilities, check_skipped as __check_skipped, run_as_test as __run_as_test,
};
pub use self::{
    case::{Case, Outcome},
    cases::CASES,
    kit::{Abilities, Setup},
    need::Need,
};
