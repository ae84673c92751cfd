//! The engine's deadline is never too late: whoever ticks at every moment sees the same as who ticks at the deadlines.

use std::time::{Duration, Instant};

use trunkline_core::{
    Gap, GapCause,
    engine::{Gather, Input},
    model::Delivery,
};

use crate::rig::{CENSUS, HEARTBEATS, Rig, heartbeat, value};

type Step = fn(&mut Rig) -> Vec<String>;

/// What happens in the scenario, and at which millisecond.
fn script() -> Vec<(u64, Step)> {
    vec![
        (10, |rig| rig.meet("a")),
        (30, |rig| rig.meet("b")),
        (900, |rig| rig.ask("r", Gather::Values)),
        (950, |rig| rig.count(&["a", "b"], 1)),
        (1200, |rig| rig.answer("a", "r", value("x"))),
        (2000, |rig| rig.hear_numbered("a", 1)),
        (2100, |rig| rig.hear("a", heartbeat(false, &[(0, 4)]))),
        (2500, |rig| rig.deliver(Delivery::Gap(Gap { cause: GapCause::ConnectionLost, missed: None }))),
        (2600, |rig| rig.hear("b", heartbeat(true, &[(0, 2)]))),
        (7000, |rig| rig.ask("s", Gather::Acks)),
        (7100, |rig| rig.deliver(Delivery::Lost("cut".into()))),
        (9000, |rig| rig.deliver(Delivery::Connected)),
        (15_000, |rig| rig.hear("a", heartbeat(false, &[(0, 4)]))),
        (33_000, |rig| rig.handle(Input::Leave)),
    ]
}

/// Plays the scenario; `ticks` says whether to tick at a moment, given the engine's deadline. Returns what came out, and when.
fn play(capabilities: trunkline_core::Capabilities, ticks: impl Fn(Instant, Option<Instant>) -> bool) -> Vec<String> {
    let mut rig = Rig::new(capabilities);
    let mut script = script().into_iter().peekable();
    let mut shown = Vec::new();
    for millisecond in 0..40_000 {
        if ticks(rig.now, rig.engine.deadline()) {
            shown.extend(rig.handle(Input::Tick).into_iter().map(|output| format!("{millisecond}: {output}")));
        }
        while let Some((_, step)) = script.next_if(|(when, _)| *when == millisecond) {
            shown.extend(step(&mut rig).into_iter().map(|output| format!("{millisecond}: {output}")));
        }
        rig.now += Duration::from_millis(1);
    }
    shown
}

#[test]
fn ticking_at_the_deadlines_is_as_good_as_ticking_all_the_time() {
    for capabilities in [HEARTBEATS, CENSUS] {
        let by_deadline = play(capabilities, |now, deadline| deadline.is_some_and(|deadline| deadline <= now));
        let all_the_time = play(capabilities, |_, _| true);
        assert!(by_deadline.len() > 20, "{by_deadline:#?}");
        assert_eq!(by_deadline, all_the_time);
    }
}
