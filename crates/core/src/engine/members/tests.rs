//! Tests of the members.

use super::*;

fn node(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

const TIMEOUT: Duration = Duration::from_secs(10);
const SUSPICION: Duration = Duration::from_secs(1);
const GRACE: Duration = Duration::from_secs(5);
const ABSENCE: Duration = Duration::from_millis(50);

fn members(now: Instant, names: &[&str]) -> Members {
    let mut members = Members::new(GRACE);
    for name in names {
        assert!(members.heard(now, &node(name), Liveness::Hello));
    }
    members
}

fn take_silent(members: &mut Members, now: Instant) -> Vec<NodeId> {
    let silent = members.take_silent(now, SUSPICION);
    members.suspect(now, TIMEOUT);
    silent
}

#[test]
fn all_are_suspected_since_the_last_one_is() {
    let start = Instant::now();
    let mut members = members(start, &["a", "b"]);
    assert_eq!(Members::default().all_suspected(), None);
    members.refresh(start + SUSPICION, &node("b"));
    assert!(members.suspect(start + TIMEOUT, TIMEOUT));
    assert_eq!(members.all_suspected(), None);
    assert!(members.suspect(start + TIMEOUT + SUSPICION, TIMEOUT));
    assert_eq!(members.all_suspected(), Some(start + TIMEOUT + SUSPICION));
    assert!(!members.suspect(start + TIMEOUT * 2, TIMEOUT), "no news");
}

#[test]
fn a_node_that_publishes_again_before_it_listens_goes_down_once() {
    let start = Instant::now();
    let mut members = members(start, &["a"]);
    let absent = NodeCount { nodes: 1, known: 0, absent: vec![node("a")] };
    let mut asked = start + SUSPICION;
    assert!(members.counted(asked, &absent, ABSENCE).is_empty(), "it may have lost its connection just now");
    asked += ABSENCE;
    assert_eq!(members.counted(asked, &absent, ABSENCE), [node("a")]);
    assert!(members.heard(asked, &node("a"), Liveness::Sign));
    for _ in 0..10 {
        asked += SUSPICION / 10;
        assert!(members.counted(asked, &absent, ABSENCE).is_empty(), "its subscription is on the way");
    }
    assert_eq!(members.counted(asked + GRACE, &absent, ABSENCE), [node("a")], "it was not heard since, either");
    asked += GRACE;
    members.heard(asked, &node("a"), Liveness::Sign);
    members.counted(asked + ABSENCE, &NodeCount { nodes: 2, known: 1, absent: vec![] }, ABSENCE);
    assert!(members.counted(asked + ABSENCE * 2, &absent, ABSENCE).is_empty(), "it was back in the meantime");
    assert_eq!(members.counted(asked + ABSENCE * 3, &absent, ABSENCE), [node("a")]);
}

#[test]
fn a_node_that_the_broker_does_not_see_for_a_moment_or_that_is_heard_is_not_gone() {
    let start = Instant::now();
    let mut members = members(start, &["a"]);
    let absent = NodeCount { nodes: 1, known: 0, absent: vec![node("a")] };
    let mut asked = start;
    for _ in 0..10 {
        asked += ABSENCE;
        assert!(members.counted(asked, &absent, ABSENCE).is_empty());
        asked += ABSENCE / 2;
        members.counted(asked, &NodeCount { nodes: 2, known: 1, absent: vec![] }, ABSENCE);
    }
    for _ in 0..10 {
        asked += ABSENCE;
        assert!(members.counted(asked, &absent, ABSENCE).is_empty());
        members.refresh(asked, &node("a"));
    }
}

#[test]
fn after_an_outage_of_this_node_the_broker_says_nothing_about_those_that_it_has_not_seen_yet() {
    let start = Instant::now();
    let mut members = members(start, &["a", "b"]);
    members.refresh_all(start, TIMEOUT);
    let absent = |names: &[&str]| NodeCount { nodes: 2, known: 0, absent: names.iter().map(|it| node(it)).collect() };
    let mut asked = start + ABSENCE;
    members.counted(asked, &absent(&["a"]), ABSENCE);
    for _ in 0..3 {
        asked += ABSENCE;
        members.refresh(asked - ABSENCE / 2, &node("a"));
        let gone = members.counted(asked, &absent(&["a", "b"]), ABSENCE);
        assert!(!gone.contains(&node("a")), "what was heard was kept in the history");
    }
    assert!(!members.is_known(&node("b")), "it was seen since");
    members.counted(start + TIMEOUT, &absent(&["a"]), ABSENCE);
    assert_eq!(members.counted(start + TIMEOUT + ABSENCE, &absent(&["a"]), ABSENCE), [node("a")]);
}

#[test]
fn a_silent_node_is_suspected_and_then_taken_once() {
    let start = Instant::now();
    let mut members = members(start, &["a", "b"]);
    members.refresh(start + TIMEOUT / 2, &node("b"));
    assert!(take_silent(&mut members, start + TIMEOUT).is_empty());
    assert_eq!(members.next_silence(TIMEOUT, SUSPICION), Some(start + TIMEOUT + SUSPICION));
    assert_eq!(take_silent(&mut members, start + TIMEOUT + SUSPICION), [node("a")]);
    assert!(take_silent(&mut members, start + TIMEOUT + SUSPICION).is_empty());
    assert_eq!(members.next_silence(TIMEOUT, SUSPICION), Some(start + TIMEOUT * 3 / 2));
}

#[test]
fn late_messages_of_a_node_that_left_do_not_bring_it_back_but_a_hello_does() {
    let now = Instant::now();
    let mut members = members(now, &["a"]);
    assert!(members.left(now, &node("a")));
    assert!(!members.heard(now + GRACE / 2, &node("a"), Liveness::Sign), "a late message");
    assert!(members.heard(now + GRACE / 2, &node("a"), Liveness::Hello));
}

#[test]
fn a_node_that_goes_on_sending_after_its_leave_has_not_left() {
    let now = Instant::now();
    let mut members = members(now, &["a"]);
    assert!(members.left(now, &node("a")));
    assert!(members.heard(now + GRACE, &node("a"), Liveness::Sign));
    assert_eq!(members.names().count(), 1);
}

#[test]
fn nodes_that_fell_silent_since_the_last_message_are_taken_back() {
    let start = Instant::now();
    let mut members = members(start, &["a", "b", "c"]);
    members.left(start, &node("c"));
    members.refresh(start + TIMEOUT, &node("b"));
    for silent in [TIMEOUT, TIMEOUT * 2] {
        take_silent(&mut members, start + silent);
        take_silent(&mut members, start + silent + SUSPICION);
    }
    assert_eq!(members.names().count(), 0);
    assert_eq!(members.take_back_silent(start + TIMEOUT * 3, start + TIMEOUT * 2), [node("b")], "it was silent last");
    assert!(members.is_lost(&node("a")) && !members.is_lost(&node("b")));
}

#[test]
fn a_hanging_node_that_the_broker_still_counts_is_no_foreign_one() {
    let start = Instant::now();
    let mut members = members(start, &["a"]);
    take_silent(&mut members, start + TIMEOUT);
    take_silent(&mut members, start + TIMEOUT * 2);
    assert_eq!(members.to_count(), [node("a")]);
    members.counted(start, &NodeCount { nodes: 3, known: 1, absent: vec![] }, ABSENCE);
    assert_eq!((members.foreign(), members.count()), (Some(1), 1));
    members.counted(start, &NodeCount { nodes: 2, known: 0, absent: vec![node("a")] }, ABSENCE);
    assert_eq!((members.foreign(), members.count()), (Some(1), 1));
    assert_eq!(members.to_count(), []);
}

#[test]
fn a_node_that_the_broker_does_not_see_is_gone_unless_it_was_heard_since() {
    let start = Instant::now();
    let mut members = members(start, &["a", "b"]);
    let asked = start + SUSPICION;
    members.refresh(asked, &node("b"));
    let absent = NodeCount { nodes: 2, known: 0, absent: vec![node("a"), node("b")] };
    let gone = members.counted(asked, &absent, Duration::ZERO);
    assert_eq!(gone, [node("a")]);
    assert!(members.is_lost(&node("a")));
}

#[test]
fn a_node_is_not_counted_twice_when_its_name_becomes_known() {
    let now = Instant::now();
    let mut members = Members::default();
    members.counted(now, &NodeCount { nodes: 2, known: 0, absent: vec![] }, ABSENCE);
    assert_eq!(members.count(), 1);
    members.heard(now, &node("a"), Liveness::Hello);
    assert_eq!(members.count(), 1);
}

#[test]
fn what_is_remembered_is_bounded() {
    let now = Instant::now();
    let mut members = Members::default();
    for number in 0..=MAX_MEMBERS {
        members.heard(now, &node(&number.to_string()), Liveness::Hello);
    }
    assert_eq!(members.nodes.len(), MAX_MEMBERS);
    take_silent(&mut members, now + TIMEOUT);
    take_silent(&mut members, now + TIMEOUT * 2);
    assert_eq!((members.nodes.len(), members.departed.len()), (0, MAX_DEPARTED));
}
