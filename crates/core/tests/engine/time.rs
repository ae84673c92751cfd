//! The engine's deadline is never too late: ticking at the deadlines has the same effect as ticking at every moment.

use std::time::{Duration, Instant};

use trunkline_core::{
    Gap, GapCause,
    engine::{Gather, Input},
    model::Delivery,
};

use crate::test_engine::{BROKER_COUNT, HEARTBEATS, TestEngine, heartbeat, value};

type Step = fn(&mut TestEngine) -> Vec<String>;

/// The steps of the scenario, each with its millisecond.
fn script() -> Vec<(u64, Step)> {
    vec![
        (10, |engine| engine.first_heartbeat("a")),
        (30, |engine| engine.first_heartbeat("b")),
        (900, |engine| engine.send_request("r", Gather::Values)),
        (950, |engine| engine.count(&["a", "b"], 1)),
        (1200, |engine| engine.answer("a", "r", value("x"))),
        (2000, |engine| engine.receive_numbered("a", 1)),
        (2100, |engine| engine.receive("a", heartbeat(false, &[(0, 4)]))),
        (2500, |engine| engine.deliver(Delivery::Gap(Gap { cause: GapCause::ConnectionLost, missed: None }))),
        (2600, |engine| engine.receive("b", heartbeat(true, &[(0, 2)]))),
        (7000, |engine| engine.send_request("s", Gather::Acks)),
        (7100, |engine| engine.deliver(Delivery::Lost("cut".into()))),
        (9000, |engine| engine.deliver(Delivery::Connected)),
        (15_000, |engine| engine.receive("a", heartbeat(false, &[(0, 4)]))),
        (33_000, |engine| engine.handle(Input::Leave)),
    ]
}

/// Plays the scenario; `ticks` decides whether to tick at a moment, given the engine's deadline. Returns the outputs
/// with their times.
fn play(capabilities: trunkline_core::Capabilities, ticks: impl Fn(Instant, Option<Instant>) -> bool) -> Vec<String> {
    let mut engine = TestEngine::new(capabilities);
    let mut script = script().into_iter().peekable();
    let mut shown = Vec::new();
    for millisecond in 0..40_000 {
        if ticks(engine.now, engine.inner.deadline()) {
            shown.extend(engine.handle(Input::Tick).into_iter().map(|output| format!("{millisecond}: {output}")));
        }
        while let Some((_, step)) = script.next_if(|(when, _)| *when == millisecond) {
            shown.extend(step(&mut engine).into_iter().map(|output| format!("{millisecond}: {output}")));
        }
        engine.now += Duration::from_millis(1);
    }
    shown
}

#[test]
fn ticking_at_the_deadlines_gives_the_same_outputs_as_ticking_all_the_time() {
    for capabilities in [HEARTBEATS, BROKER_COUNT] {
        let by_deadline = play(capabilities, |now, deadline| deadline.is_some_and(|deadline| deadline <= now));
        let all_the_time = play(capabilities, |_, _| true);
        assert!(by_deadline.len() > 20, "{by_deadline:#?}");
        assert_eq!(by_deadline, all_the_time);
    }
}
