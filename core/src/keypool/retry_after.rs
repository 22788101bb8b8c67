//! How long a provider asks to wait.

use http::{HeaderMap, HeaderName, header::RETRY_AFTER};

use crate::time::{Duration, Instant};

const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");

/// The wait that a reply's headers ask for: `retry-after-ms` in milliseconds, else `retry-after` in
/// seconds, whole or fractional, or as a date in any of its three forms (RFC 9110 §5.6.7, §10.2.3).
///
/// `None` for values that are zero, negative, in the past, too large or not understood: they count
/// as absent.
pub fn retry_after(now: Instant, headers: &HeaderMap) -> Option<Duration> {
    let field = |name| Some(headers.get(name)?.to_str().ok()?.trim());
    if let Some(wait) = field(RETRY_AFTER_MS).and_then(|text| decimal(text, 1e-3)) {
        return Some(wait);
    }
    let text = field(RETRY_AFTER)?;
    decimal(text, 1.0).or_else(|| until(now, text))
}

/// A plain decimal number above zero: no sign, no exponent.
fn decimal(text: &str, unit: f64) -> Option<Duration> {
    let is_plain = text
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.');
    let seconds = text.parse::<f64>().ok().filter(|_| is_plain)? * unit;
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|wait| !wait.is_zero())
}

fn until(now: Instant, text: &str) -> Option<Duration> {
    let date = httpdate::parse_http_date(text).ok()?;
    let since_epoch = date.duration_since(std::time::UNIX_EPOCH).ok()?;
    // As durations: a date may be later than the last `Instant`.
    let wait = since_epoch.checked_sub(now.since(Instant::EPOCH))?;
    (!wait.is_zero()).then_some(wait)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    /// Sun, 06 Nov 1994 08:49:37 GMT, less ten seconds.
    const NOW: Instant = Instant::from_secs(784_111_777 - 10);

    fn wait(fields: &[(&'static str, &'static str)]) -> Option<u128> {
        let field = |(name, value): &(&'static str, &'static str)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        };
        let headers = fields.iter().map(field).collect();
        retry_after(NOW, &headers).map(|wait| wait.as_millis())
    }

    #[test]
    fn seconds_and_milliseconds_are_read() {
        for (fields, expected) in [
            (&[("retry-after", "5")][..], Some(5_000)),
            (&[("retry-after", " 0.25 ")], Some(250)),
            (
                &[("retry-after-ms", "1500"), ("retry-after", "9")],
                Some(1_500),
            ),
            (
                &[("retry-after-ms", "0"), ("retry-after", "9")],
                Some(9_000),
            ),
            (
                &[("retry-after-ms", "soon"), ("retry-after", "9")],
                Some(9_000),
            ),
            (&[("retry-after-ms", "12.5")], Some(12)),
        ] {
            assert_eq!(wait(fields), expected, "{fields:?}");
        }
    }

    #[test]
    fn defect_15_dates_in_all_three_forms_are_read() {
        for date in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
        ] {
            assert_eq!(wait(&[("retry-after", date)]), Some(10_000), "{date}");
        }
    }

    /// An [`Instant`] ends in 2554.
    #[test]
    fn a_date_in_centuries_is_read() {
        let wait = wait(&[("retry-after", "Sun, 06 Nov 3988 08:49:37 GMT")]);
        assert_eq!(wait, Some(62_924_601_610_000));
    }

    #[test]
    fn what_makes_no_sense_counts_as_absent() {
        for text in [
            "",
            "0",
            "0.0",
            "-1",
            "+5",
            "1e3",
            "inf",
            "NaN",
            "5 s",
            "1.2.3",
            ".",
            "99999999999999999999999999999999",
            "Sun, 06 Nov 1994 08:49:27 GMT",
            "Sat, 01 Jan 2000",
            "never",
        ] {
            assert_eq!(wait(&[("retry-after", text)]), None, "{text}");
        }
        assert_eq!(wait(&[]), None);
    }
}
