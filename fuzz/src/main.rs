//! The fuzzer: runs the target that the environment variable `FUZZ_TARGET` names. See README.md.

#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;

static TARGET: OnceLock<fn(&[u8])> = OnceLock::new();

fuzz_target!(|bytes: &[u8]| TARGET.get_or_init(chosen)(bytes));

/// The chosen target; ends the process if there is none.
fn chosen() -> fn(&[u8]) {
    let all = [
        trunkline_core::fuzzing::TARGETS,
        trunkline_backend::fuzzing::TARGETS,
        trunkline_redis::fuzzing::TARGETS,
        trunkline_mongodb::fuzzing::TARGETS,
        trunkline_postgres::fuzzing::TARGETS,
        trunkline_rabbitmq::fuzzing::TARGETS,
        trunkline_nats::fuzzing::TARGETS,
    ]
    .concat();
    let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
    let Some((_, target)) = all.iter().find(|(target, _)| *target == name) else {
        let names: Vec<_> = all.iter().map(|(name, _)| *name).collect();
        eprintln!("there is no target '{name}'; the targets are: {}", names.join(" "));
        std::process::exit(2);
    };
    *target
}
