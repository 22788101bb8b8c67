//! Durations and sizes as people write them: one number and one unit.

use aibridge_core::Duration;

use super::error::shown;

/// `"60s"`, `"500ms"`, `"1h"`, `"90d"`; `"0"` needs no unit.
///
/// # Errors
/// What is wrong, and how it would be right.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split(text).ok_or_else(|| {
        let text = shown(text);
        format!("\"{text}\" is not a duration; write a whole number and a unit, such as \"60s\"")
    })?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        "" if number == 0 => 0,
        "" => {
            return Err(format!(
                "\"{number}\" lacks a unit; write \"{number}s\" for seconds"
            ));
        }
        _ => {
            return Err(format!(
                "\"{}\" is not a unit of time; use ms, s, m, h or d, as in \"60s\"",
                shown(unit)
            ));
        }
    };
    number
        .checked_mul(millis)
        .filter(|millis| *millis <= LONGEST_MILLIS)
        .map(Duration::from_millis)
        .ok_or_else(|| format!("\"{text}\" is too long; the longest is \"3650d\""))
}

/// `"32MiB"`, `"64KB"`, or a number of bytes.
///
/// # Errors
/// What is wrong, and how it would be right.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text).ok_or_else(|| {
        let text = shown(text);
        format!("\"{text}\" is not a size; write a whole number and a unit, such as \"32MiB\"")
    })?;
    let bytes = match unit {
        "" | "B" => 1,
        "KB" | "kB" => 1_000,
        "KiB" => 1 << 10,
        "MB" => 1_000_000,
        "MiB" => 1 << 20,
        "GB" => 1_000_000_000,
        "GiB" => 1 << 30,
        _ => {
            return Err(format!(
                "\"{}\" is not a unit of size; use B, KiB, MiB or GiB, as in \"32MiB\"",
                shown(unit)
            ));
        }
    };
    number
        .checked_mul(bytes)
        .ok_or_else(|| format!("\"{text}\" is too large"))
}

/// A duration in the largest unit that shows it whole.
pub(super) fn show_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    match millis {
        0 => "0".to_owned(),
        _ if millis.is_multiple_of(86_400_000) => format!("{}d", millis / 86_400_000),
        _ if millis.is_multiple_of(3_600_000) => format!("{}h", millis / 3_600_000),
        // Up to two minutes people think in seconds.
        _ if millis.is_multiple_of(60_000) && millis > 120_000 => format!("{}m", millis / 60_000),
        _ if millis.is_multiple_of(1_000) => format!("{}s", millis / 1_000),
        _ => format!("{millis}ms"),
    }
}

/// A size in the largest binary unit that shows it whole.
pub(super) fn show_size(bytes: u64) -> String {
    for (shift, unit) in [(30, "GiB"), (20, "MiB"), (10, "KiB")] {
        if bytes > 0 && bytes.trailing_zeros() >= shift {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    format!("{bytes}B")
}

fn split(text: &str) -> Option<(u64, &str)> {
    let text = text.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    Some((number.parse().ok()?, unit.trim_start()))
}

/// Ten years: longer is a slip of the pen, and instants stay far from their end.
const LONGEST_MILLIS: u64 = 3650 * 86_400_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_shown() {
        for (text, millis, shown) in [
            ("0", 0, "0"),
            ("0s", 0, "0"),
            ("500ms", 500, "500ms"),
            ("60s", 60_000, "60s"),
            ("300s", 300_000, "5m"),
            ("90 s", 90_000, "90s"),
            ("1h", 3_600_000, "1h"),
            ("90m", 5_400_000, "90m"),
            ("90d", 7_776_000_000, "90d"),
        ] {
            let read = duration(text).unwrap();
            assert_eq!(read, Duration::from_millis(millis), "{text}");
            assert_eq!(show_duration(read), shown);
            assert_eq!(duration(shown), Ok(read), "what is shown can be read");
        }
    }

    #[test]
    fn sizes_are_read_and_shown() {
        for (text, bytes, shown) in [
            ("0", 0, "0B"),
            ("100", 100, "100B"),
            ("1KB", 1_000, "1000B"),
            ("1KiB", 1_024, "1KiB"),
            ("32MiB", 32 << 20, "32MiB"),
            ("1536 MiB", 1536 << 20, "1536MiB"),
            ("2GiB", 2 << 30, "2GiB"),
        ] {
            let read = size(text).unwrap();
            assert_eq!(read, bytes, "{text}");
            assert_eq!(show_size(read), shown);
            assert_eq!(size(shown), Ok(read), "what is shown can be read");
        }
    }

    #[test]
    fn malformed_quantities_say_how_it_would_be_right() {
        for (text, fix) in [
            ("60", "\"60s\""),
            ("", "\"60s\""),
            ("-1s", "\"60s\""),
            ("1.5h", "ms, s, m, h or d"),
            ("1 fortnight", "ms, s, m, h or d"),
            ("99999999999999999999s", "\"60s\""),
            ("18446744073709551615d", "\"3650d\""),
        ] {
            assert!(duration(text).unwrap_err().contains(fix), "{text}");
        }
        for (text, fix) in [
            ("lots", "\"32MiB\""),
            ("1TiB", "B, KiB, MiB or GiB"),
            ("99999999999GiB", "too large"),
        ] {
            assert!(size(text).unwrap_err().contains(fix), "{text}");
        }
    }
}
