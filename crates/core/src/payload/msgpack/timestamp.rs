//! Dates: MessagePack timestamps (extension type -1) as ISO text, which is what `JSON.stringify` makes of a `Date`.

/// Reads a timestamp of 4, 8 or 12 bytes as milliseconds since 1970; `None` if JavaScript cannot represent the date.
pub(super) fn milliseconds(data: &[u8]) -> Option<i64> {
    let (seconds, nanoseconds) = match *data {
        [a, b, c, d] => (i64::from(u32::from_be_bytes([a, b, c, d])), 0),
        [n0, n1, n2, n3, ref seconds @ ..] if seconds.len() == 8 => {
            (i64::from_be_bytes(seconds.try_into().ok()?), u32::from_be_bytes([n0, n1, n2, n3]))
        }
        _ => {
            let word = u64::from_be_bytes(data.try_into().ok()?);
            ((word & 0x3_ffff_ffff) as i64, (word >> 34) as u32)
        }
    };
    let milliseconds = seconds.checked_mul(1000)?.checked_add(i64::from(nanoseconds / 1_000_000))?;
    representable(milliseconds)
}

/// Reads a date as old versions of notepack wrote it: 8 bytes of milliseconds.
pub(super) fn old_milliseconds(data: &[u8]) -> Option<i64> {
    representable(i64::from_be_bytes(data.try_into().ok()?))
}

/// Checks that a date is within 100 million days of 1970, where JavaScript's dates end.
fn representable(milliseconds: i64) -> Option<i64> {
    (milliseconds.unsigned_abs() <= 8_640_000_000_000_000).then_some(milliseconds)
}

/// Prints a date, given in milliseconds since 1970, as `Date.prototype.toISOString` does; `None` if JavaScript cannot
/// represent it.
#[must_use]
pub fn iso_date(milliseconds: i64) -> Option<String> {
    representable(milliseconds).map(iso)
}

/// Prints a date as `Date.prototype.toISOString` does.
pub(super) fn iso(milliseconds: i64) -> String {
    const DAY: i64 = 86_400_000;
    let (year, month, day) = civil(milliseconds.div_euclid(DAY));
    let time = milliseconds.rem_euclid(DAY);
    let (hours, minutes, seconds, fraction) = (time / 3_600_000, time / 60_000 % 60, time / 1000 % 60, time % 1000);
    let year = match year {
        0..=9999 => format!("{year:04}"),
        _ => format!("{year:+07}"),
    };
    format!("{year}-{month:02}-{day:02}T{hours:02}:{minutes:02}:{seconds:02}.{fraction:03}Z")
}

/// Year, month and day of a number of days since 1970-01-01 in the Gregorian calendar (Howard Hinnant's
/// `civil_from_days`).
///
/// No crate does it: the dates of `chrono` and `jiff` end before JavaScript's, in the years 262142 and 9999, and those
/// of `time` reach them only with its feature `large-dates`, which would change how the whole application parses dates.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_printed_as_javascript_prints_them() {
        for (milliseconds, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_795_215_220_627, "2026-11-20T22:53:40.627Z"),
            (8_640_000_000_000_000, "+275760-09-13T00:00:00.000Z"),
            (-8_640_000_000_000_000, "-271821-04-20T00:00:00.000Z"),
            (-62_198_755_200_000, "-000001-01-01T00:00:00.000Z"),
        ] {
            assert_eq!(iso(milliseconds), text);
        }
    }

    #[test]
    fn all_three_widths_of_timestamps_are_read() {
        assert_eq!(milliseconds(&[0, 0, 0, 1]), Some(1000));
        let word: u64 = 627_000_000 << 34 | 5;
        assert_eq!(milliseconds(&word.to_be_bytes()), Some(5627));
        let mut before_1970 = 500_000_000_u32.to_be_bytes().to_vec();
        before_1970.extend((-2_i64).to_be_bytes());
        assert_eq!(milliseconds(&before_1970), Some(-1500));
        before_1970[4] = 0x7f;
        assert_eq!(milliseconds(&before_1970), None);
    }
}
