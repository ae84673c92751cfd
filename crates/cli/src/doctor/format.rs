//! The four formats of what was found.

use std::{
    fmt::Write,
    io::{IsTerminal, stdout},
};

use serde_json::{Value, json};

use super::{
    checks::CHECKS,
    finding::{Finding, Measured, Outcome},
    redis::bytes,
};
use crate::output::{Status, counted, shown};

/// For people.
pub(crate) fn text(findings: &[Finding], status: Status) -> String {
    let is_coloured = stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let mut text = String::new();
    let mut category = "";
    // What is skipped for the same reason stands in one line.
    for alike in findings.chunk_by(is_skipped_like) {
        let finding = &alike[0];
        if finding.check.category != category {
            category = finding.check.category;
            let _ = writeln!(text, "{}{category}", if text.is_empty() { "" } else { "\n" });
        }
        let word = coloured(finding.outcome, is_coloured);
        let codes: Vec<_> = alike.iter().map(|finding| finding.check.code).collect();
        let _ = writeln!(text, "  {word} {}: {}{}", codes.join(", "), shown(&finding.text), limits(finding));
        if finding.outcome == Outcome::Skipped {
            continue;
        }
        for (name, more) in [("cause", &finding.cause), ("do", &finding.advice)] {
            if let Some(more) = more {
                let _ = writeln!(text, "           {name:<5} {}", shown(more));
            }
        }
        if finding.outcome != Outcome::Ok {
            let _ = writeln!(text, "           see   {}", finding.check.link());
        }
    }
    let _ = writeln!(text, "\n{}", summary(findings, status));
    text
}

fn is_skipped_like(a: &Finding, b: &Finding) -> bool {
    let are_skipped = [a, b].iter().all(|finding| finding.outcome == Outcome::Skipped);
    are_skipped && a.check.category == b.check.category && a.text == b.text
}

fn coloured(outcome: Outcome, is_coloured: bool) -> String {
    let word = format!("{:<8}", outcome.word());
    if !is_coloured {
        return word;
    }
    let colour = match outcome {
        Outcome::Ok => "32",
        Outcome::Warning => "33",
        Outcome::Critical => "1;31",
        Outcome::Skipped => "2",
    };
    format!("\x1b[{colour}m{word}\x1b[0m")
}

/// The measured value with its limits.
fn limits(finding: &Finding) -> String {
    let Some(value) = finding.value.as_ref().filter(|value| value.warning.is_some()) else { return String::new() };
    let limit = |limit: Option<f64>| limit.map(|limit| quantity(limit, value.unit)).unwrap_or_default();
    let from = if value.at_least { "below" } else { "from" };
    let critical = limit(value.critical);
    format!(
        " [{}; warning {from} {}, critical {from} {critical}]",
        quantity(value.value, value.unit),
        limit(value.warning)
    )
}

fn quantity(value: f64, unit: &str) -> String {
    match unit {
        "s" if value < 1.0 => format!("{:.1} ms", value * 1000.0),
        "B" => bytes(value as u64),
        "" => format!("{value:.0}"),
        _ => format!("{value:.1} {unit}"),
    }
}

fn summary(findings: &[Finding], status: Status) -> String {
    let of = |outcome| findings.iter().filter(move |finding| finding.outcome == outcome);
    let named = |outcome| {
        let codes: Vec<_> = of(outcome).map(|finding| finding.check.code).collect();
        if codes.is_empty() { String::new() } else { format!(" ({})", codes.join(", ")) }
    };
    format!(
        "{}: {} critical{}, {}{}, {} ok, {} skipped",
        status.word(),
        of(Outcome::Critical).count(),
        named(Outcome::Critical),
        counted(of(Outcome::Warning).count(), "warning"),
        named(Outcome::Warning),
        of(Outcome::Ok).count(),
        of(Outcome::Skipped).count(),
    )
}

/// For programs.
pub(crate) fn json(findings: &[Finding], status: Status) -> String {
    let checks: Vec<Value> = findings
        .iter()
        .map(|finding| {
            json!({
                "code": finding.check.code, "category": finding.check.category, "status": finding.outcome.word(),
                "text": finding.text, "value": finding.value.as_ref().map(measured), "cause": finding.cause,
                "advice": finding.advice, "link": finding.check.link(),
            })
        })
        .collect();
    format!("{:#}\n", json!({ "status": status.word(), "checks": checks }))
}

fn measured(value: &Measured) -> Value {
    json!({ "value": value.value, "unit": value.unit, "warning": value.warning, "critical": value.critical,
        "at_least": value.at_least })
}

/// One line, as a monitoring plugin prints it: text, then measured values.
pub(crate) fn nagios(findings: &[Finding], status: Status) -> String {
    let bad = findings.iter().filter(|finding| matches!(finding.outcome, Outcome::Critical | Outcome::Warning));
    let mut bad: Vec<_> = bad.collect();
    bad.sort_by_key(|finding| finding.outcome != Outcome::Critical);
    let text = match bad.as_slice() {
        [] => summary(findings, status),
        bad => {
            let texts = bad.iter().map(|finding| format!("{}: {}", finding.check.code, shown(&finding.text)));
            // What stands behind the bar is data.
            texts.collect::<Vec<_>>().join("; ").replace('|', "/")
        }
    };
    let values = findings.iter().filter_map(|finding| Some((finding.check.code, finding.value.as_ref()?)));
    let values = values.map(|(code, value)| {
        let limit = |limit: Option<f64>| {
            let colon = if value.at_least { ":" } else { "" };
            limit.map(|limit| format!("{limit}{colon}")).unwrap_or_default()
        };
        format!("{code}={}{};{};{}", value.value, value.unit, limit(value.warning), limit(value.critical))
    });
    let values = values.collect::<Vec<_>>().join(" ");
    let line = format!("TRUNKLINE {} - {text} | {values}", status.word().to_uppercase());
    format!("{}\n", line.trim_end_matches(" | "))
}

/// For the text file collector of Prometheus' node exporter.
pub(crate) fn prometheus(findings: &[Finding], status: Status) -> String {
    let mut text = String::from(
        "# HELP trunkline_doctor_status Worst outcome: 0 ok, 1 warning, 2 critical, 3 unknown.\n\
         # TYPE trunkline_doctor_status gauge\n",
    );
    let _ = writeln!(text, "trunkline_doctor_status {}", status as u8);
    text.push_str(
        "# HELP trunkline_doctor_check Outcome of a check: 0 ok, 1 warning, 2 critical, 3 skipped.\n\
         # TYPE trunkline_doctor_check gauge\n",
    );
    for Finding { check, outcome, .. } in findings {
        let number = outcome.status().unwrap_or(Status::Unknown) as u8;
        let (code, category) = (check.code, check.category);
        let _ = writeln!(text, "trunkline_doctor_check{{code=\"{code}\",category=\"{category}\"}} {number}");
    }
    text.push_str(
        "# HELP trunkline_doctor_value Measured value of a check: seconds, bytes, percent or a count.\n\
         # TYPE trunkline_doctor_value gauge\n",
    );
    for (check, value) in findings.iter().filter_map(|finding| Some((finding.check, finding.value.as_ref()?))) {
        let unit = match value.unit {
            "s" => "seconds",
            "B" => "bytes",
            "%" => "percent",
            _ => "count",
        };
        let _ = writeln!(text, "trunkline_doctor_value{{code=\"{}\",unit=\"{unit}\"}} {}", check.code, value.value);
    }
    text
}

/// All checks there are.
pub(crate) fn list(is_json: bool) -> String {
    if is_json {
        let checks = CHECKS.iter().map(|check| {
            json!({ "code": check.code, "category": check.category, "promise": check.promise, "link": check.link() })
        });
        return format!("{:#}\n", Value::Array(checks.collect()));
    }
    let rows: Vec<_> = CHECKS
        .iter()
        .map(|check| vec![check.category.to_owned(), check.code.to_owned(), check.promise.to_owned()])
        .collect();
    crate::output::table(&["CATEGORY", "CODE", "WHAT HOLDS IF ALL IS WELL"], &rows) + "\n"
}
