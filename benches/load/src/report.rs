//! The table: medians over the rounds, and how the bridge compares with nginx.
//!
//! A line of input is `ROUND SUBJECT MEASURE METRIC VALUE`; the subjects are `direct` (no proxy),
//! `nginx` and `aibridge`. A latency is shown as what the proxy adds: its own less the direct one
//! of the same round.

use std::{collections::BTreeMap, io};

/// One line of the table.
struct Row {
    label: &'static str,
    measure: &'static str,
    metric: &'static str,
    decimals: usize,
    /// Shown less the direct value of the same round.
    added: bool,
    goal: Goal,
}

/// What was promised.
#[derive(Clone, Copy)]
enum Goal {
    None,
    /// At least so much of the other's figure.
    Share(f64),
    /// The bridge's figure divided by the other's, at most.
    Ratio(f64),
    /// The bridge's figure itself.
    Value(f64),
}

const fn row(
    label: &'static str,
    measure: &'static str,
    metric: &'static str,
    decimals: usize,
) -> Row {
    Row {
        label,
        measure,
        metric,
        decimals,
        added: false,
        goal: Goal::None,
    }
}

impl Row {
    const fn goal(self, goal: Goal) -> Self {
        Self { goal, ..self }
    }

    const fn added(self) -> Self {
        Self {
            added: true,
            ..self
        }
    }
}

const ROWS: &[Row] = &[
    row(
        "requests per second, 64 connections",
        "small",
        "per_second",
        0,
    ),
    row("– the proxy's core busy meanwhile", "small", "busy", 2),
    row(
        "CPU seconds per 1000 requests, 64 connections",
        "small",
        "cpu_per_1000",
        4,
    )
    .goal(Goal::Ratio(1.25)),
    row(
        "CPU seconds per 1000 requests with a 1 MiB body, 8 connections",
        "large",
        "cpu_per_1000",
        3,
    )
    .goal(Goal::Ratio(1.0)),
    row(
        "– where nginx has its default buffer for bodies",
        "filed",
        "cpu_per_1000",
        3,
    )
    .goal(Goal::Ratio(1.0)),
    row(
        "CPU seconds per 1000 streams of 100 events, 32 connections",
        "stream",
        "cpu_per_1000",
        3,
    )
    .goal(Goal::Ratio(0.8)),
    row("– events per second", "stream", "events_per_second", 0),
    row(
        "– the client's reads per stream",
        "stream",
        "reads_per_reply",
        1,
    ),
    row(
        "CPU seconds per 1000 such streams, ten events to a write",
        "grouped",
        "cpu_per_1000",
        3,
    ),
    row("– events per second", "grouped", "events_per_second", 0),
    row(
        "CPU seconds per 1000 such streams, an event every 2 ms",
        "paced",
        "cpu_per_1000",
        3,
    ),
    row(
        "– the client's reads per stream",
        "paced",
        "reads_per_reply",
        1,
    ),
    row("added p50, 1 connection, µs", "latency", "p50_us", 1)
        .added()
        .goal(Goal::Ratio(1.3)),
    row("added p99, 1 connection, µs", "latency", "p99_us", 1).added(),
    row(
        "resident KiB per idle stream, 1000 streams",
        "idle",
        "kib_per_stream",
        1,
    )
    .goal(Goal::Value(16.0)),
];

const TOOL_ROWS: &[Row] = &[
    row(
        "CPU seconds per 1000 requests, 64 connections",
        "small",
        "cpu_per_1000",
        4,
    )
    .goal(Goal::Ratio(1.15)),
    row(
        "CPU seconds per 1000 streams of 100 events, ten events to a write",
        "grouped",
        "cpu_per_1000",
        3,
    )
    .goal(Goal::Ratio(1.15)),
    row("p50 of a request, 1 connection, µs", "latency", "p50_us", 1).goal(Goal::Ratio(1.15)),
    row(
        "p50 of a stream's first event, 1 connection, µs",
        "first",
        "first_p50_us",
        1,
    )
    .goal(Goal::Ratio(1.15)),
];

const RECORD_ROWS: &[Row] = &[
    row(
        "requests per second, 64 connections",
        "small",
        "per_second",
        0,
    )
    .goal(Goal::Share(0.9)),
    row(
        "CPU seconds per 1000 requests, 64 connections",
        "small",
        "cpu_per_1000",
        4,
    ),
    row(
        "streams of 100 events: events per second, ten to a write",
        "grouped",
        "events_per_second",
        0,
    )
    .goal(Goal::Share(0.9)),
    row("p50 of a request, 1 connection, µs", "latency", "p50_us", 1),
    row("p99 of a request, 1 connection, µs", "latency", "p99_us", 1),
];

type Rounds = BTreeMap<u32, f64>;
type Key<'a> = (&'a str, &'a str, &'a str);

/// The table in Markdown.
pub fn render(input: &str) -> io::Result<String> {
    let mut values: BTreeMap<Key<'_>, Rounds> = BTreeMap::new();
    for line in input.lines() {
        let wrong = || io::Error::other(format!("not a result: {line}"));
        let words: Vec<&str> = line.split_whitespace().collect();
        let [round, subject, measure, metric, value] = words[..] else {
            return Err(wrong());
        };
        let round = round.parse().map_err(|_| wrong())?;
        let value = value.parse().map_err(|_| wrong())?;
        values
            .entry((subject, measure, metric))
            .or_default()
            .insert(round, value);
    }
    let mut table =
        String::from("| measured | no proxy | nginx | aibridge | aibridge ÷ nginx | goal |\n");
    table.push_str("|---|---:|---:|---:|---:|---|\n");
    for row in ROWS {
        table.push_str(&render_row(row, &values));
    }
    for (with, title, rows) in [
        (
            "tools",
            "with ten tools on offer that the model does not call",
            TOOL_ROWS,
        ),
        ("recorded", "with records kept in a database", RECORD_ROWS),
    ] {
        if values.keys().any(|(subject, _, _)| *subject == with) {
            let head = format!("\n| {title} | without | with | with ÷ without | goal |\n");
            table.push_str(&head);
            table.push_str("|---|---:|---:|---:|---|\n");
            for row in rows {
                table.push_str(&render_own_row(row, with, &values));
            }
        }
    }
    Ok(table)
}

/// What something of the bridge's costs: the bridge with it beside itself.
fn render_own_row(row: &Row, with: &str, values: &BTreeMap<Key<'_>, Rounds>) -> String {
    let none = Rounds::new();
    let of = |subject| {
        values
            .get(&(subject, row.measure, row.metric))
            .unwrap_or(&none)
    };
    let (without, with) = (of("aibridge"), of(with));
    let ratio = median(with)
        .zip(median(without))
        .map(|(with, without)| with / without);
    let number = |value: Option<f64>| {
        value.map_or_else(
            || "–".to_owned(),
            |value| format!("{value:.*}", row.decimals),
        )
    };
    format!(
        "| {} | {} | {} | {} | {} |\n",
        row.label,
        number(median(without)),
        number(median(with)),
        ratio.map_or_else(
            || "–".to_owned(),
            |ratio| format!("{ratio:.2}{}", spread(with, without))
        ),
        verdict(row.goal, ratio, median(with)),
    )
}

fn render_row(row: &Row, values: &BTreeMap<Key<'_>, Rounds>) -> String {
    let none = Rounds::new();
    let of = |subject| {
        values
            .get(&(subject, row.measure, row.metric))
            .unwrap_or(&none)
    };
    let direct = of("direct");
    let shown = |subject| -> Rounds {
        let pairs = of(subject).iter();
        if !row.added {
            return pairs.map(|(round, value)| (*round, *value)).collect();
        }
        pairs
            .filter_map(|(round, value)| Some((*round, value - direct.get(round)?)))
            .collect()
    };
    let (nginx, aibridge) = (shown("nginx"), shown("aibridge"));
    let ratio = median(&aibridge)
        .zip(median(&nginx))
        .map(|(ours, theirs)| ours / theirs);
    let number = |value: Option<f64>| {
        value.map_or_else(
            || "–".to_owned(),
            |value| format!("{value:.*}", row.decimals),
        )
    };
    // Without a proxy there is no proxy's CPU time.
    let alone = if matches!(row.metric, "busy" | "cpu_per_1000") {
        None
    } else {
        median(direct)
    };
    format!(
        "| {} | {} | {} | {} | {} | {} |\n",
        row.label,
        number(alone),
        number(median(&nginx)),
        number(median(&aibridge)),
        ratio.map_or_else(
            || "–".to_owned(),
            |ratio| format!("{ratio:.2}{}", spread(&aibridge, &nginx))
        ),
        verdict(row.goal, ratio, median(&aibridge)),
    )
}

/// The smallest and largest ratio of one round.
fn spread(ours: &Rounds, theirs: &Rounds) -> String {
    let ratios = ours
        .iter()
        .filter_map(|(round, value)| Some(value / theirs.get(round)?));
    let (low, high) = ratios.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), ratio| {
        (low.min(ratio), high.max(ratio))
    });
    if low > high {
        String::new()
    } else {
        format!(" ({low:.2}–{high:.2})")
    }
}

fn verdict(goal: Goal, ratio: Option<f64>, value: Option<f64>) -> String {
    let (text, measured, limit) = match goal {
        Goal::None => return String::new(),
        Goal::Ratio(limit) => (format!("≤ {limit} ×"), ratio, limit),
        Goal::Share(limit) => {
            let text = format!("≥ {limit} ×");
            return match ratio {
                None => text,
                Some(ratio) if ratio >= limit => format!("{text}, met"),
                Some(_) => format!("{text}, missed"),
            };
        }
        Goal::Value(limit) => (format!("≤ {limit}"), value, limit),
    };
    match measured {
        None => text,
        Some(measured) if measured <= limit => format!("{text}, met"),
        Some(_) => format!("{text}, missed"),
    }
}

fn median(rounds: &Rounds) -> Option<f64> {
    let mut sorted: Vec<f64> = rounds.values().copied().collect();
    sorted.sort_unstable_by(f64::total_cmp);
    let (low, high) = (
        sorted.get(sorted.len().checked_sub(1)? / 2)?,
        sorted.get(sorted.len() / 2)?,
    );
    Some(f64::midpoint(*low, *high))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_lies_between() {
        assert_eq!(median(&Rounds::new()), None);
        assert_eq!(
            median(&Rounds::from([(1, 3.0), (2, 1.0), (3, 2.0)])),
            Some(2.0)
        );
        assert_eq!(median(&Rounds::from([(1, 3.0), (2, 1.0)])), Some(2.0));
    }

    #[test]
    fn compares_medians_and_shows_the_spread_of_the_rounds() {
        let input = "1 nginx small cpu_per_1000 0.02\n1 aibridge small cpu_per_1000 0.03\n\
                     2 nginx small cpu_per_1000 0.02\n2 aibridge small cpu_per_1000 0.02\n";
        let table = render(input).unwrap();
        let row = "| CPU seconds per 1000 requests, 64 connections | – | 0.0200 | 0.0250 | 1.25 (1.00–1.50) | ≤ 1.25 ×, met |";
        assert!(table.contains(row), "{table}");
    }

    #[test]
    fn an_added_latency_is_less_the_direct_one_of_its_round() {
        let input = "1 direct latency p50_us 40\n2 direct latency p50_us 50\n\
                     1 nginx latency p50_us 60\n2 nginx latency p50_us 70\n\
                     1 aibridge latency p50_us 70\n2 aibridge latency p50_us 80\n";
        let table = render(input).unwrap();
        let row = "| added p50, 1 connection, µs | 45.0 | 20.0 | 30.0 | 1.50 (1.50–1.50) | ≤ 1.3 ×, missed |";
        assert!(table.contains(row), "{table}");
    }

    #[test]
    fn refuses_what_is_not_a_result() {
        assert!(render("nginx: [emerg] something").is_err());
    }
}
