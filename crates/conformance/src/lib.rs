#![doc = include_str!("../README.md")]

mod cases;
pub mod faults;
pub mod kit;
mod needs;
mod setup;
mod suite;

#[doc(hidden)]
pub use self::suite::{
    check_capabilities as __check_capabilities, check_skipped as __check_skipped, run_as_test as __run_as_test,
};
pub use self::{
    cases::CASES,
    needs::{Abilities, Need},
    setup::Setup,
    suite::{Case, Outcome},
};
