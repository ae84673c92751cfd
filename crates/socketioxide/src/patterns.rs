//! Patterns of dynamic namespaces, as `io.dyn_ns` takes them.

/// Whether a namespace matches a pattern: `{name}` stands for text without a slash within one segment, `{*name}` for all
/// the rest.
pub(crate) fn matches(pattern: &str, namespace: &str) -> bool {
    let (mut patterns, mut segments) = (pattern.split('/'), namespace.split('/'));
    loop {
        match (patterns.next(), segments.next()) {
            (None, None) => return true,
            (Some(pattern), Some(segment)) if pattern.starts_with("{*") => return !segment.is_empty(),
            (Some(pattern), Some(segment)) if segment_matches(pattern, segment) => {}
            _ => return false,
        }
    }
}

/// Whether a segment has the texts around a parameter, and something for it.
fn segment_matches(pattern: &str, segment: &str) -> bool {
    let parameter = pattern.split_once('{').and_then(|(before, rest)| Some((before, rest.split_once('}')?.1)));
    match parameter {
        Some((before, after)) => {
            segment.len() > before.len() + after.len() && segment.starts_with(before) && segment.ends_with(after)
        }
        None => pattern == segment,
    }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn a_parameter_stands_for_one_segment_or_for_the_rest() {
        for (pattern, namespace, expected) in [
            ("/dynamic/{name}", "/dynamic/a", true),
            ("/dynamic/{name}", "/dynamic/a/b", false),
            ("/dynamic/{name}", "/dynamic/", false),
            ("/dynamic/{name}", "/other/a", false),
            ("/{a}/x/{b}", "/1/x/2", true),
            ("/{a}/x/{b}", "/1/y/2", false),
            ("/files/{*path}", "/files/a/b", true),
            ("/files/{*path}", "/files/", false),
            ("/user-{id}", "/user-7", true),
            ("/user-{id}", "/user-", false),
            ("/plain", "/plain", true),
        ] {
            assert_eq!(matches(pattern, namespace), expected, "{pattern} {namespace}");
        }
    }
}
