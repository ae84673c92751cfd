//! The hook for traces with `tracing-opentelemetry`: contexts of OpenTelemetry as the `traceparent` of W3C. To be copied;
//! docs/traces.md says where it goes.

use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;
use trunkline::core::trace::TraceContext;

/// Carries contexts of OpenTelemetry: `trunkline::core::trace::set_trace_context(OpenTelemetry)`.
#[derive(Clone, Copy, Debug)]
pub struct OpenTelemetry;

impl TraceContext for OpenTelemetry {
    fn context_of(&self, span: &Span) -> Option<String> {
        let context = span.context();
        let span = context.span();
        let context = span.span_context();
        let text = || format!("00-{}-{}-{:02x}", context.trace_id(), context.span_id(), context.trace_flags());
        (context.is_valid() && context.is_sampled()).then(text)
    }

    fn link(&self, span: &Span, context: &str) {
        if let Some(context) = parse(context) {
            span.add_link(context);
        }
    }
}

/// Reads a `traceparent` of W3C, version 00.
fn parse(text: &str) -> Option<SpanContext> {
    let mut parts = text.split('-');
    let [version, trace, span, flags] = [parts.next()?, parts.next()?, parts.next()?, parts.next()?];
    let is_known = version == "00" && parts.next().is_none() && trace.len() == 32 && span.len() == 16;
    let flags = u8::from_str_radix(flags, 16).ok().filter(|_| is_known)?;
    let (trace, span) = (TraceId::from_hex(trace).ok()?, SpanId::from_hex(span).ok()?);
    let context = SpanContext::new(trace, span, TraceFlags::new(flags), true, TraceState::default());
    context.is_valid().then_some(context)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn what_is_no_traceparent_is_ignored() {
        let right = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert!(parse(right).is_some());
        for wrong in ["", "00", "00-0-0-0", &right.replace("0af7", "xaf7"), &format!("{right}-1"), &right[1..]] {
            assert!(parse(wrong).is_none(), "{wrong}");
        }
        assert!(parse("00-00000000000000000000000000000000-b7ad6b7169203331-01").is_none(), "no trace");
    }
}
