//! The tables of the README agree with the cases.

use trunkline_conformance::{CASES, Need};

const README: &str = include_str!("../README.md");

fn has_row(row: &str) -> bool {
    README.lines().any(|line| line.starts_with(row))
}

#[test]
fn the_readme_counts_the_cases_of_every_group() {
    for case in CASES {
        let count = CASES.iter().filter(|other| other.group == case.group).count();
        let row = format!("| `{}` | {count} |", case.group);
        assert!(has_row(&row), "the README has no row {row}");
    }
}

#[test]
fn the_readme_counts_what_each_promise_is_needed_for() {
    let needs = [
        (Need::History, "a history is kept"),
        (Need::NoHistory, "no history is kept"),
        (Need::Numbered, "messages are numbered"),
        (Need::Limit, "there is a limit"),
        (Need::NamedAnswers, "answers name their node"),
        (Need::TotalOrder, "the order holds across rooms"),
        (Need::AnnouncedLeave, "leaving is announced"),
        (Need::AcknowledgedInOrder, "acknowledged broadcasts keep their place"),
        (Need::NoInterest, "rooms need not be made known"),
        (Need::NumberRooms, "the server has number rooms"),
        (Need::CloseConnections, "the server can close connections"),
    ];
    for case in CASES {
        let is_listed = case.needs.iter().all(|need| needs.iter().any(|(listed, _)| listed == need));
        assert!(is_listed, "{case} needs what the README does not list");
    }
    for (need, text) in needs {
        let row = format!("| {} | {text}", CASES.iter().filter(|case| case.needs.contains(&need)).count());
        assert!(has_row(&row), "the README has no row {row}");
    }
}
