//! [`Number`]: numbers as JSON, MessagePack and JavaScript hold them.

/// A number as the two encodings can hold it. Integers beyond 2^53 stay exact, which JavaScript cannot do but
/// Trunkline nodes can.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// An integer that is not negative.
    Unsigned(u64),
    /// A negative integer.
    Negative(i64),
    /// Anything else; may carry an integer, and may be infinite or not a number.
    Float(f64),
}

impl Number {
    /// Reads the text of a JSON number. An integer that fits 64 bits is exact, everything else is the nearest `f64`.
    pub(crate) fn from_json(text: &str) -> Self {
        Self::from_digits(text).unwrap_or_else(|| text.parse().map_or(Self::Float(f64::NAN), Self::Float))
    }

    /// Reads an integer; `None` for other notations and more than 64 bits.
    fn from_digits(text: &str) -> Option<Self> {
        text.parse::<u64>().map(Self::from).or_else(|_| text.parse::<i64>().map(Self::from)).ok()
    }

    /// Converts a float that carries an integer to that integer, as JavaScript has no other ones: `1.0` is `1` and
    /// `-0.0` is `0`. Other numbers stay what they are.
    #[must_use]
    pub fn normalized(self) -> Self {
        const UNSIGNED_END: f64 = 18_446_744_073_709_551_616.0;
        const SIGNED_START: f64 = -9_223_372_036_854_775_808.0;
        match self {
            Self::Float(float) if float.fract() != 0.0 => self,
            Self::Float(float) if (0.0..UNSIGNED_END).contains(&float) => Self::Unsigned(float as u64),
            Self::Float(float) if (SIGNED_START..0.0).contains(&float) => Self::Negative(float as i64),
            _ => self,
        }
    }

    /// Converts the number to what JavaScript sees: beyond 2^53 the nearest `f64`.
    #[must_use]
    pub fn as_f64(self) -> f64 {
        match self {
            Self::Unsigned(value) => value as f64,
            Self::Negative(value) => value as f64,
            Self::Float(value) => value,
        }
    }

    /// Converts the number to an integer that is not negative, if it is one; `3.0` is.
    #[must_use]
    pub fn as_u64(self) -> Option<u64> {
        match self.normalized() {
            Self::Unsigned(value) => Some(value),
            Self::Negative(_) | Self::Float(_) => None,
        }
    }

    /// Appends the number as JSON: integers with all their digits, fractions as JavaScript prints them, `null` for what
    /// JSON cannot say.
    #[inline]
    pub(crate) fn write_json(self, out: &mut Vec<u8>) {
        match self.normalized() {
            Self::Unsigned(value) => write_integer(out, value),
            Self::Negative(value) => write_integer(out, value),
            Self::Float(value) if !value.is_finite() => out.extend_from_slice(b"null"),
            Self::Float(value) => write_float(out, value),
        }
    }
}

impl From<i64> for Number {
    fn from(value: i64) -> Self {
        u64::try_from(value).map_or(Self::Negative(value), Self::Unsigned)
    }
}

impl From<u64> for Number {
    fn from(value: u64) -> Self {
        Self::Unsigned(value)
    }
}

impl From<f64> for Number {
    fn from(value: f64) -> Self {
        Self::Float(value)
    }
}

/// Prints an integer.
#[inline]
fn write_integer(out: &mut Vec<u8>, value: impl itoa::Integer) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Prints a finite float as JavaScript does: an exponent below 1e-6 and from 1e21 on, with its sign.
fn write_float(out: &mut Vec<u8>, value: f64) {
    out.extend_from_slice(ryu_js::Buffer::new().format_finite(value).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(number: Number) -> String {
        let mut out = Vec::new();
        number.write_json(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn floats_are_printed_as_javascript_prints_them() {
        for (value, text) in [
            (1.0, "1"),
            (-0.0, "0"),
            (2.5, "2.5"),
            (1e-7, "1e-7"),
            (0.000_001, "0.000001"),
            (1e21, "1e+21"),
            (1.5e300, "1.5e+300"),
            (-1e-9, "-1e-9"),
            (9_007_199_254_740_992.0, "9007199254740992"),
            (1e20, "100000000000000000000"),
            (f64::NAN, "null"),
            (f64::NEG_INFINITY, "null"),
        ] {
            assert_eq!(json(Number::Float(value)), text);
        }
    }

    #[test]
    fn integers_of_64_bits_are_exact() {
        for text in ["18446744073709551615", "-9223372036854775808", "9007199254740993", "0"] {
            assert_eq!(json(Number::from_json(text)), text);
        }
        assert_eq!(Number::from_json("18446744073709551616"), Number::Float(18_446_744_073_709_551_616.0));
        assert_eq!(Number::from_json("-0"), Number::Unsigned(0));
    }
}
